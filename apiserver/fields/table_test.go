package fields

import (
	"reflect"
	"strings"
	"testing"
)

// followed says whether the fields of a type are to be in the table: those of Kubernetes' own API types, but not values
// like quantities and times.
func followed(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && (strings.HasPrefix(t.PkgPath(), "k8s.io/api/") || strings.HasPrefix(t.Name(), "LabelSelector"))
}

// skipped are fields that the API server alone is about: identity and what controllers report.
func skipped(owner reflect.Type, f reflect.StructField) bool {
	name := f.Type.Name()
	return name == "TypeMeta" || name == "ObjectMeta" || jsonName(f) == "status" && name == owner.Name()+"Status"
}

// checker walks the types and says what is wrong with the table.
type checker struct {
	table *Table
	seen  map[reflect.Type]bool
	wrong []string
}

func (c *checker) fail(format ...string) { c.wrong = append(c.wrong, strings.Join(format, "")) }

func (c *checker) check(t reflect.Type, at string) {
	t = element(t)
	if !followed(t) || c.seen[t] {
		return
	}
	c.seen[t] = true
	e := c.table.structs[t]
	if e == nil {
		c.fail("nothing is said of ", typeName(t), ", at ", at)
		return
	}
	known := map[string]bool{}
	c.checkFields(t, e, at, known)
	for name := range e.rows {
		if !known[name] {
			c.fail("there is no ", typeName(t), ".", name, ": remove it from its row")
		}
	}
	for name := range e.honoured {
		if !known[name] {
			c.fail("there is no ", typeName(t), ".", name, ": it cannot be carried out")
		}
	}
}

func (c *checker) checkFields(t reflect.Type, e *entry, at string, known map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := jsonName(f)
		switch {
		case skipped(t, f):
		case name == "" && c.table.structs[f.Type] == nil:
			c.checkFields(f.Type, e, at, known) // inlined: its fields are those of t
		case name == "":
			c.check(f.Type, at)
		default:
			known[name] = true
			c.checkField(t, e, f.Type, name, at)
		}
	}
}

func (c *checker) checkField(t reflect.Type, e *entry, of reflect.Type, name, at string) {
	row, honoured := e.rows[name], e.honoured[name] != ""
	switch {
	case row == nil && !honoured:
		c.fail(typeName(t), ".", name, " (at ", at, ") is in no row of apiserver/fields: who carries it out?")
	case row != nil && honoured:
		c.fail(typeName(t), ".", name, " is both carried out and in a row")
	case honoured:
		c.check(of, at+"."+name)
	}
}

func checkTable(table *Table) []string {
	c := checker{table: table, seen: map[reflect.Type]bool{}}
	for _, k := range table.kinds {
		c.check(reflect.TypeOf(k.Of), k.Resource)
	}
	for t := range table.structs {
		if !c.seen[t] {
			c.fail(typeName(t), " is reached from no kind: remove it")
		}
	}
	return c.wrong
}

func TestEveryFieldIsInOneRow(t *testing.T) {
	for _, wrong := range checkTable(New()) {
		t.Error(wrong)
	}
}

// TestAFieldInNoRowIsFound takes rows away, as a new release adds fields.
func TestAFieldInNoRowIsFound(t *testing.T) {
	for _, tt := range []struct{ take, want string }{
		{"hostUsers", "core/v1 PodSpec.hostUsers (at pods.spec) is in no row"},
		{"terminationMessagePolicy", "core/v1 Container.terminationMessagePolicy (at pods.spec.initContainers) is in no row"},
	} {
		table := New()
		for _, e := range table.structs {
			delete(e.rows, tt.take)
			delete(e.honoured, tt.take)
		}
		if wrong := strings.Join(checkTable(table), "\n"); !strings.Contains(wrong, tt.want) {
			t.Errorf("without %s: %q", tt.take, wrong)
		}
	}
}

func TestWarningsFitTheirHeader(t *testing.T) {
	const most = 256 // what the API server leaves of each when there are many
	longest := strings.Repeat("x", len("spec.jobTemplate.spec.template.spec.containers[10].securityContext.seccompProfile.type (and 10 more): "))
	for _, e := range New().order {
		for _, row := range e.Rows {
			if n := len(longest + row.Text); row.Fate == Warned && n > most {
				t.Errorf("%s.%s: the text is too long by %d", typeName(e.of), row.Fields, n-most)
			}
		}
	}
}
