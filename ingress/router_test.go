package ingress

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// routes of these tests are told apart by the name of their Service.
func route(host string, kind PathKind, path, service string) *Route {
	return &Route{Host: host, Path: path, Kind: kind, Group: newGroup(GroupKey{Service: types.NamespacedName{Name: service}}),
		Origin: Origin{NamespacedName: types.NamespacedName{Name: "one"}}}
}

func matched(t *Table, host, path string) string {
	clean, err := cleanURLPath(path)
	if err != nil {
		return err.Error()
	}
	r := t.Match(normalHost(host), clean.match)
	if r == nil {
		return ""
	}
	return r.Group.Key.Service.Name
}

// TestPathExamples is the table of
// https://kubernetes.io/docs/concepts/services-networking/ingress/#examples
func TestPathExamples(t *testing.T) {
	type paths map[string]PathKind // path -> kind; the path is the name of its Service
	for _, test := range []struct {
		paths   paths
		request string
		want    string // "": no match
	}{
		{paths{"/": Prefix}, "/foo/bar", "/"},
		{paths{"/": Prefix}, "/", "/"},
		{paths{"/foo": Exact}, "/foo", "/foo"},
		{paths{"/foo": Exact}, "/bar", ""},
		{paths{"/foo": Exact}, "/foo/", ""},
		{paths{"/foo/": Exact}, "/foo", ""},
		{paths{"/foo/": Exact}, "/foo/", "/foo/"},
		{paths{"/foo": Prefix}, "/foo", "/foo"},
		{paths{"/foo": Prefix}, "/foo/", "/foo"},
		{paths{"/foo/": Prefix}, "/foo", "/foo/"},
		{paths{"/foo/": Prefix}, "/foo/", "/foo/"},
		{paths{"/aaa/bb": Prefix}, "/aaa/bbb", ""},
		{paths{"/aaa/bbb": Prefix}, "/aaa/bbb", "/aaa/bbb"},
		{paths{"/aaa/bbb/": Prefix}, "/aaa/bbb", "/aaa/bbb/"},
		{paths{"/aaa/bbb": Prefix}, "/aaa/bbb/", "/aaa/bbb"},
		{paths{"/aaa/bbb": Prefix}, "/aaa/bbb/ccc", "/aaa/bbb"},
		{paths{"/aaa/bbb": Prefix}, "/aaa/bbbxyz", ""},
		{paths{"/": Prefix, "/aaa": Prefix}, "/aaa/ccc", "/aaa"},
		{paths{"/": Prefix, "/aaa": Prefix}, "/aaa", "/aaa"},
		{paths{"/": Prefix, "/aaa": Prefix, "/aaa/bbb": Prefix}, "/aaa/bbb", "/aaa/bbb"},
		{paths{"/": Prefix, "/aaa": Prefix, "/aaa/bbb": Prefix}, "/ccc", "/"},
		{paths{"/aaa": Prefix}, "/ccc", ""},
		// beyond the table: case, the root, and what only looks like an element
		{paths{"/foo": Exact}, "/FOO", ""},
		{paths{"/foo": Prefix}, "/Foo/x", ""},
		{paths{"/": Exact}, "/", "/"},
		{paths{"/": Exact}, "/x", ""},
		{paths{"/foo": Prefix}, "/foobar/foo", ""},
	} {
		var routes []*Route
		for path, kind := range test.paths {
			routes = append(routes, route("h", kind, path, path))
		}
		if got := matched(NewTable(routes...), "h", test.request); got != test.want {
			t.Errorf("%v: %s went to %q, want %q", test.paths, test.request, got, test.want)
		}
	}
}

// TestMultipleMatches: "precedence will be given first to the longest matching path. If two paths are still equally
// matched, precedence will be given to paths with an exact path type over prefix path type."
func TestMultipleMatches(t *testing.T) {
	table := NewTable(
		route("h", Prefix, "/foo", "prefix"), route("h", Exact, "/foo", "exact"),
		route("h", Exact, "/foo/", "slash"), route("h", Prefix, "/foo/bar", "longer"))
	for path, want := range map[string]string{
		"/foo": "exact", "/foo/": "slash", "/foo/x": "prefix", "/foo/bar": "longer", "/foo/bar/": "longer", "/foo/barx": "prefix",
	} {
		if got := matched(table, "h", path); got != want {
			t.Errorf("%s went to %q, want %q", path, got, want)
		}
	}
}

// TestHostExamples is the table of
// https://kubernetes.io/docs/concepts/services-networking/ingress/#hostname-wildcards
// and what RFC 9110 section 4.2.3 says of the spelling of hosts.
func TestHostExamples(t *testing.T) {
	for _, test := range []struct {
		rule, host string
		want       bool
	}{
		{"*.foo.com", "bar.foo.com", true},
		{"*.foo.com", "baz.bar.foo.com", false}, // only covers a single DNS label
		{"*.foo.com", "foo.com", false},
		{"*.foo.com", ".foo.com", false},
		{"foo.bar.com", "foo.bar.com", true},
		{"foo.bar.com", "FOO.Bar.com:8080", true},
		{"foo.bar.com", "foo.bar.com.", true},
		{"foo.bar.com", "bar.com", false},
		{"foo.bar.com", "", false},
		{"", "anything.at.all", true},
		{"", "", true},
		{"", "[2001:db8::1]:80", true},
		{"", "192.0.2.1", true},
	} {
		if got := matched(NewTable(route(test.rule, Prefix, "/", "x")), test.host, "/") == "x"; got != test.want {
			t.Errorf("host %q on rule %q: %v, want %v", test.host, test.rule, got, test.want)
		}
	}
}

// TestHostPrecedence: an exact host before a wildcard before none, and a rule without a host applies to all traffic.
func TestHostPrecedence(t *testing.T) {
	table := NewTable(
		route("a.x.com", Prefix, "/p", "exact"), route("*.x.com", Prefix, "/p/longer", "wildcard"),
		route("", Prefix, "/p/longer/still", "any"), route("", Prefix, "/shared", "shared"),
		route("a.x.com", Default, "", "default of host"), route("", Default, "", "default"))
	for _, test := range []struct{ host, path, want string }{
		{"a.x.com", "/p/longer/still", "exact"},
		{"b.x.com", "/p/longer/still", "wildcard"},
		{"c.com", "/p/longer/still", "any"},
		{"a.x.com", "/shared", "shared"},
		{"a.x.com", "/none", "default of host"},
		{"b.x.com", "/none", "default"},
		{"c.com", "/", "default"},
	} {
		if got := matched(table, test.host, test.path); got != test.want {
			t.Errorf("%s%s went to %q, want %q", test.host, test.path, got, test.want)
		}
	}
}

func TestOldestWins(t *testing.T) {
	older, younger := route("h", Prefix, "/", "older"), route("h", Prefix, "/", "younger")
	older.Origin = Origin{NamespacedName: types.NamespacedName{Name: "z"}, Created: time.Unix(1, 0)}
	younger.Origin = Origin{NamespacedName: types.NamespacedName{Name: "a"}, Created: time.Unix(2, 0)}
	set := newRouteSet()
	table, _ := set.apply(map[types.NamespacedName]*claim{
		{Name: "a"}: {Origin: younger.Origin, routes: []*Route{younger}},
		{Name: "z"}: {Origin: older.Origin, routes: []*Route{older}},
	})
	if got := matched(table, "h", "/"); got != "older" {
		t.Errorf("went to %q", got)
	}
	if lost := set.conflictsOf(types.NamespacedName{Name: "a"}); len(lost) != 1 || lost[0].to != older {
		t.Errorf("conflicts of the younger: %v", lost)
	}
	if lost := set.conflictsOf(types.NamespacedName{Name: "z"}); len(lost) != 0 {
		t.Errorf("conflicts of the older: %v", lost)
	}
	after, affected := set.apply(map[types.NamespacedName]*claim{{Name: "z"}: nil})
	if got := matched(after, "h", "/"); got != "younger" || !affected[types.NamespacedName{Name: "a"}] {
		t.Errorf("after the older went: %q, affected %v", got, affected)
	}
	if got := matched(table, "h", "/"); got != "older" {
		t.Errorf("the earlier table changed: %q", got)
	}
}

// TestApplyIsNewTable: changes one by one come to the same as everything at once.
func TestApplyIsNewTable(t *testing.T) {
	set, want := newRouteSet(), map[string][]*Route{}
	table := &Table{}
	for step := range 300 {
		key := types.NamespacedName{Name: fmt.Sprint("i", step*7%40)}
		if step%5 == 4 {
			delete(want, key.Name)
			table, _ = set.apply(map[types.NamespacedName]*claim{key: nil})
			continue
		}
		origin := Origin{NamespacedName: key, Created: time.Unix(int64(step%3), 0)}
		var routes []*Route
		for n := range 3 {
			host := []string{"a", "b.a", "*.a", ""}[(step+n)%4]
			r := route(host, []PathKind{Exact, Prefix, Default}[n], []string{"/x", "/x/y", ""}[n], fmt.Sprint(key.Name, "-", step))
			r.Origin = origin
			routes = append(routes, r)
		}
		want[key.Name] = routes
		table, _ = set.apply(map[types.NamespacedName]*claim{key: {Origin: origin, routes: routes}})
	}
	var all []*Route
	for _, routes := range want {
		all = append(all, routes...)
	}
	fresh := NewTable(all...)
	for _, host := range []string{"a", "b.a", "c.a", "z"} {
		for _, path := range []string{"/x", "/x/y/z", "/q"} {
			if got, want := matched(table, host, path), matched(fresh, host, path); got != want {
				t.Errorf("%s%s: %q step by step, %q at once", host, path, got, want)
			}
		}
	}
	if got, want := set.count(), len(fresh.routes()); got != want {
		t.Errorf("%d routes step by step, %d at once", got, want)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := manyRoutes(1000)
	if n := testing.AllocsPerRun(100, func() {
		table.Match(normalHost("host7.example.com:80"), "/a/b/c/d")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func manyRoutes(hosts int) *Table {
	var all []*Route
	for i := range hosts {
		all = append(all, route(fmt.Sprintf("host%d.example.com", i), Prefix, "/a/b", "x"))
	}
	return NewTable(all...)
}

func BenchmarkMatch(b *testing.B) {
	for _, hosts := range []int{1, 1000, 10000} {
		table := manyRoutes(hosts)
		b.Run(fmt.Sprint(hosts, " hosts"), func(b *testing.B) {
			for b.Loop() {
				if table.Match("host0.example.com", "/a/b/c") == nil {
					b.Fatal("no match")
				}
			}
		})
	}
}
