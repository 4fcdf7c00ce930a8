package fields

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
)

// branch is the part of a type that leads to rows of Warnings.
type branch struct {
	of        reflect.Type
	annotated bool // objects of the type have annotations to be looked at
	fields    []fieldBranch
}

// fieldBranch is a field of a struct: one that a row is about, or one with such a field below it, or both.
type fieldBranch struct {
	name  string // in manifests; empty for what is inlined
	index int
	row   *Row
	below *branch
}

// compiler makes branches, one for each type.
type compiler struct {
	table *Table
	made  map[reflect.Type]*branch
}

// branch gives what of a type leads to rows, nil when nothing does.
func (c *compiler) branch(t reflect.Type) *branch {
	t = element(t)
	if t.Kind() != reflect.Struct || c.table.structs[t] == nil {
		return nil
	}
	if b, ok := c.made[t]; ok {
		return b
	}
	c.made[t] = nil
	b := &branch{of: t, annotated: c.table.hasAnnotations(t)}
	entry := c.table.structs[t]
	for i := range t.NumField() {
		f := t.Field(i)
		name := jsonName(f)
		if row := entry.rows[name]; row != nil {
			if row.Fate == Warned {
				b.fields = append(b.fields, fieldBranch{name: name, index: i, row: row, below: c.otherwise(row, f.Type)})
			}
			continue
		}
		if below := c.branch(f.Type); below != nil {
			b.fields = append(b.fields, fieldBranch{name: name, index: i, below: below})
		}
	}
	if len(b.fields) == 0 && !b.annotated {
		return nil
	}
	c.made[t] = b
	return b
}

// otherwise is what counts of a field where its row does not hold.
func (c *compiler) otherwise(row *Row, field reflect.Type) *branch {
	if row.If == nil {
		return nil
	}
	return c.branch(field)
}

func (t *Table) hasAnnotations(of reflect.Type) bool {
	for i := range t.annotations {
		for _, on := range t.annotations[i].On {
			if reflect.TypeOf(on) == of {
				return true
			}
		}
	}
	return false
}

// element is what a pointer, list or map holds.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}

// jsonName is the name of a field in manifests, empty for an inlined struct.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// finding is a field that is set.
type finding struct {
	path  string
	text  string
	value any // nil: an annotation
}

func (f finding) same(g finding) bool {
	return f.path == g.path && f.text == g.text && equality.Semantic.DeepEqual(f.value, g.value)
}

// walker looks at one object.
type walker struct {
	table *Table
	path  []step
	found []finding
}

// step is a field, or an element of one.
type step struct {
	name  string
	index int // -1: the field as a whole
}

func (t *Table) look(b *branch, object any) []finding {
	w := walker{table: t}
	w.walk(reflect.ValueOf(object), b)
	return w.found
}

func (w *walker) walk(v reflect.Value, b *branch) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			w.walk(v.Elem(), b)
		}
	case reflect.Slice:
		at := &w.path[len(w.path)-1]
		for i := range v.Len() {
			at.index = i
			w.walk(v.Index(i), b)
			at = &w.path[len(w.path)-1] // the path may have moved
		}
		at.index = -1
	case reflect.Struct:
		w.walkStruct(v, b)
	}
}

func (w *walker) walkStruct(v reflect.Value, b *branch) {
	if b.annotated {
		w.walkAnnotations(v, b)
	}
	for i := range b.fields {
		f := &b.fields[i]
		value := v.Field(f.index)
		if f.row != nil {
			holds := f.row.If == nil || f.row.If(v.Addr().Interface())
			if isSet(value) && holds {
				w.found = append(w.found, finding{w.text(f.name), f.row.Text, value.Interface()})
			}
			if holds || f.below == nil {
				continue
			}
		}
		if f.name == "" {
			w.walk(value, f.below)
			continue
		}
		w.path = append(w.path, step{f.name, -1})
		w.walk(value, f.below)
		w.path = w.path[:len(w.path)-1]
	}
}

func (w *walker) walkAnnotations(v reflect.Value, b *branch) {
	object := v.Addr().Interface()
	for _, key := range w.table.annotated(b.of, object) {
		text := annotationOf(b.of, key, w.table.annotations).Text
		w.found = append(w.found, finding{path: w.text("metadata.annotations[" + key + "]"), text: text})
	}
}

// isSet says whether somebody gave a field a value.
func isSet(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() > 0
	}
	return !v.IsZero()
}

// text is the path of a field below the present place.
func (w *walker) text(name string) string {
	var b strings.Builder
	for _, s := range w.path {
		b.WriteString(s.name)
		if s.index >= 0 {
			fmt.Fprintf(&b, "[%d]", s.index)
		}
		b.WriteByte('.')
	}
	b.WriteString(name)
	return b.String()
}
