package fields

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
)

const preamble = `# What becomes of every field

<!-- Written by go test ./apiserver/fields -update from the table in apiserver/fields. Do not edit. -->

The API takes every field that Kubernetes has. This page says which of them svcplane does not carry out and how whoever sets
one is told, and who carries out the others.

- **Warning**: the request that sets or changes the field is answered with a Warning, which kubectl prints.
- **Event**, **condition**: the object, or the pod that needs it, says so as soon as it matters.
- **pod not run**: the field restricts, and what it asks for cannot be had. The pod does not run; its status and an Event say why.
- **no effect**: there is nothing to carry out on a single Linux node, or the field is kept for others to read.

`

// Document writes the page.
func (t *Table) Document() []byte {
	var b bytes.Buffer
	b.WriteString(preamble)
	b.WriteString("## Fields that are not carried out\n\nWhat is said of a pod's containers holds for its init and ephemeral containers, and what is " +
		"said of a Pod for the pod templates of other kinds.\n")
	for _, k := range t.kinds {
		t.documentKind(&b, k)
	}
	t.documentAnnotations(&b)
	t.documentResources(&b)
	t.documentHonoured(&b)
	return b.Bytes()
}

// placed is a row with the paths it holds at.
type placed struct {
	row   *Row
	paths []string
}

func (t *Table) documentKind(b *bytes.Buffer, k Kind) {
	root := reflect.TypeOf(k.Of)
	var rows []*placed
	t.places(root, "", &rows)
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n| field | if | what happens | |\n|---|---|---|---|\n", root.Name())
	for _, p := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", pathText(p.paths), cmp.Or(p.row.Mean, "set"), p.row.Fate, cell(p.row.Text))
	}
}

// pathText lists paths; those of a long list that differ in their last name only come as one.
func pathText(paths []string) string {
	const many = 4
	parent := func(at string) string { return at[:strings.LastIndex(at, ".")+1] }
	siblings := !slices.ContainsFunc(paths, func(at string) bool { return parent(at) != parent(paths[0]) })
	switch {
	case len(paths) < many:
		return "`" + strings.Join(paths, "`, `") + "`"
	case !siblings:
		return pathText(paths[:many-1]) + fmt.Sprintf(" and %d more", len(paths)-many+1)
	}
	var names []string
	for _, at := range paths {
		names = append(names, strings.TrimPrefix(at, parent(at)))
	}
	return "`" + parent(paths[0]) + "`" + strings.Join(names, ", ")
}

// places collects the rows below a type with their paths.
func (t *Table) places(of reflect.Type, at string, rows *[]*placed) {
	of = element(of)
	e := t.structs[of]
	if e == nil || of.Name() == "PodTemplateSpec" {
		return
	}
	for i := range of.NumField() {
		f := of.Field(i)
		name := jsonName(f)
		if name == "initContainers" || name == "ephemeralContainers" || isClaimTemplate(name) {
			continue // as its brothers
		}
		here := strings.TrimPrefix(at+"."+name, ".")
		if name == "" {
			here = at
		}
		if row := e.rows[name]; row != nil {
			add(rows, row, here)
			continue
		}
		if f.Type.Kind() == reflect.Slice {
			here += "[]"
		}
		t.places(f.Type, here, rows)
	}
}

// isClaimTemplate says whether a field holds PersistentVolumeClaims, which have a section of their own.
func isClaimTemplate(name string) bool {
	return name == "volumeClaimTemplate" || name == "volumeClaimTemplates"
}

func add(rows *[]*placed, row *Row, at string) {
	for _, p := range *rows {
		if p.row == row {
			p.paths = append(p.paths, at)
			return
		}
	}
	*rows = append(*rows, &placed{row, []string{at}})
}

func (t *Table) documentAnnotations(b *bytes.Buffer) {
	b.WriteString("\n## Annotations without effect\n\nThose of Ingresses are in [ingress.md](ingress.md). Each of these gives a Warning.\n\n" +
		"| annotation | on | |\n|---|---|---|\n")
	for _, a := range t.annotations {
		key := a.Key
		if strings.HasSuffix(key, "/") || strings.HasSuffix(key, "-") {
			key += "…"
		}
		var on []string
		for _, o := range a.On {
			on = append(on, reflect.TypeOf(o).Name())
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", key, strings.Join(on, ", "), cell(a.Text))
	}
}

func (t *Table) documentResources(b *bytes.Buffer) {
	b.WriteString("\n## Resources\n\nWho carries out the objects of each resource that the API serves. Custom resources are for their own controllers.\n\n" +
		"| resource | carried out by |\n|---|---|\n")
	all := slices.SortedFunc(maps.Values(t.resources), func(a, b Resource) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Resource, b.Resource))
	})
	for _, r := range all {
		by := r.By
		if r.Text != "" {
			by = "nobody; a Warning says: " + cell(r.Text)
		}
		fmt.Fprintf(b, "| %s | %s |\n", r.GroupResource, by)
	}
}

func (t *Table) documentHonoured(b *bytes.Buffer) {
	b.WriteString("\n## Fields that are carried out\n\n| type | fields | by |\n|---|---|---|\n")
	for _, e := range t.order {
		for _, h := range e.Honoured {
			fmt.Fprintf(b, "| %s | %s | %s |\n", typeName(e.of), strings.Join(split(h.Fields), ", "), h.By)
		}
	}
}

// typeName is a type's group, version and name: "apps/v1 Deployment".
func typeName(t reflect.Type) string {
	dir, version := path.Split(t.PkgPath())
	return path.Base(dir) + "/" + version + " " + t.Name()
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
