package fields

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Table is the whole of it, made ready for looking at objects.
type Table struct {
	structs     map[reflect.Type]*entry
	order       []*entry
	annotations []Annotation
	resources   map[schema.GroupResource]Resource
	kinds       []Kind
	warned      map[schema.GroupResource]*branch // what leads to Warnings
}

// entry is a Struct with its fields by name.
type entry struct {
	Struct
	of       reflect.Type
	rows     map[string]*Row
	honoured map[string]string // by whom
}

// New makes the table.
func New() *Table {
	t := &Table{
		structs: map[reflect.Type]*entry{}, annotations: annotations(), resources: map[schema.GroupResource]Resource{},
		kinds: kinds(), warned: map[schema.GroupResource]*branch{},
	}
	for _, s := range structs() {
		e := &entry{Struct: s, of: reflect.TypeOf(s.Of), rows: map[string]*Row{}, honoured: map[string]string{}}
		for i := range s.Rows {
			for _, name := range split(s.Rows[i].Fields) {
				e.rows[name] = &s.Rows[i]
			}
		}
		for _, h := range s.Honoured {
			for _, name := range split(h.Fields) {
				e.honoured[name] = h.By
			}
		}
		t.structs[e.of] = e
		t.order = append(t.order, e)
	}
	for _, r := range resources() {
		t.resources[r.GroupResource] = r
	}
	c := compiler{table: t, made: map[reflect.Type]*branch{}}
	for _, k := range t.kinds {
		if b := c.branch(reflect.TypeOf(k.Of)); b != nil {
			t.warned[k.GroupResource()] = b
		}
	}
	return t
}

func split(names string) []string { return strings.Fields(names) }

// Version says in which version Warnings wants to see objects of a resource; ok is false when nothing of them is ever
// warned of.
func (t *Table) Version(of schema.GroupResource) (version schema.GroupVersion, ok bool) {
	if t.warned[of] == nil {
		return version, false
	}
	i := slices.IndexFunc(t.kinds, func(k Kind) bool { return k.GroupResource() == of })
	return t.kinds[i].GroupVersion(), true
}

// Resource says who carries out a resource that the API serves; subresources are named as in "pods/resize".
func (t *Table) Resource(of schema.GroupResource) (Resource, bool) {
	r, ok := t.resources[of]
	return r, ok
}

// Warnings tells of what object, a pointer, sets and nobody carries out. What is the same in the object as it was, which
// before gives, is left out; nil: there was none. There is one Warning for each row: about the first of its places, with how many more there are.
func (t *Table) Warnings(of schema.GroupResource, object any, before func() any) []string {
	b := t.warned[of]
	if b == nil {
		return nil
	}
	found := t.look(b, object)
	if len(found) == 0 {
		return nil
	}
	if before != nil {
		known := t.look(b, before())
		found = slices.DeleteFunc(found, func(f finding) bool { return slices.ContainsFunc(known, f.same) })
	}
	var texts []string
	for len(found) > 0 {
		first, more := found[0], 0
		found = slices.DeleteFunc(found[1:], func(f finding) bool {
			same := f.text == first.text
			if same {
				more++
			}
			return same
		})
		place := first.path
		if more > 0 {
			place = fmt.Sprintf("%s (and %d more)", place, more)
		}
		texts = append(texts, place+": "+first.text)
	}
	return texts
}

// annotated looks at the annotations of a struct that has some.
func (t *Table) annotated(of reflect.Type, object any) (keys []string) {
	o, ok := object.(interface{ GetAnnotations() map[string]string })
	if !ok {
		return nil
	}
	for key := range o.GetAnnotations() {
		if annotationOf(of, key, t.annotations) != nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
