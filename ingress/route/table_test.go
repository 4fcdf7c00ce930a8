package route

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// routes of these tests are told apart by the name of their Service.
func route(host string, kind PathKind, path, service string) *Route {
	return &Route{Host: host, Path: path, Kind: kind, Groups: []WeightedGroup{{GroupKey: GroupKey{Service: types.NamespacedName{Name: service}}}},
		Origin: Origin{Object: object("one")}}
}

func object(name string) Object {
	return Object{Kind: "Ingress", NamespacedName: types.NamespacedName{Name: name}}
}

// asked is a request with a method, headers and query parameters.
type asked struct {
	method                  string
	headers, query, cookies map[string]string
}

func (a asked) Method() string            { return a.method }
func (a asked) Header(name string) string { return a.headers[name] }
func (a asked) Cookie(name string) string { return a.cookies[name] }
func (a asked) Query(name string) string  { return a.query[name] }

// Table merges routes by the rules of Set.
func tableOf(routes ...*Route) *Table[Route] {
	claims := map[Object]*Claim{}
	for _, r := range routes {
		c := claims[r.Origin.Object]
		if c == nil {
			c = &Claim{Origin: r.Origin}
			claims[r.Origin.Object] = c
		}
		c.Routes = append(c.Routes, r)
	}
	hosts, _ := NewSet().Apply(claims)
	return withHosts(&Table[Route]{}, hosts)
}

func withHosts(t *Table[Route], hosts map[string][]*Placed) *Table[Route] {
	all := map[string]*Rules[Route]{}
	for host, placed := range hosts {
		if len(placed) == 0 {
			all[host] = nil
			continue
		}
		all[host] = &Rules[Route]{}
		for _, p := range placed {
			all[host].Add(p.Route, p.Route)
		}
	}
	return t.With(all)
}

func matched(t *Table[Route], host, path string) string {
	clean, err := CleanPath(path)
	if err != nil {
		return err.Error()
	}
	r := t.Match(Host(host), clean.Match, asked{})
	if r == nil {
		return ""
	}
	return r.Groups[0].Service.Name
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
		if got := matched(tableOf(routes...), "h", test.request); got != test.want {
			t.Errorf("%v: %s went to %q, want %q", test.paths, test.request, got, test.want)
		}
	}
}

// TestMultipleMatches: "precedence will be given first to the longest matching path. If two paths are still equally
// matched, precedence will be given to paths with an exact path type over prefix path type."
func TestMultipleMatches(t *testing.T) {
	table := tableOf(
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
		if got := matched(tableOf(route(test.rule, Prefix, "/", "x")), test.host, "/") == "x"; got != test.want {
			t.Errorf("host %q on rule %q: %v, want %v", test.host, test.rule, got, test.want)
		}
	}
}

// TestHostPrecedence: an exact host before a wildcard before none, and a rule without a host applies to all traffic.
func TestHostPrecedence(t *testing.T) {
	table := tableOf(
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
	older.Origin = Origin{Object: object("z"), Created: time.Unix(1, 0)}
	younger.Origin = Origin{Object: object("a"), Created: time.Unix(2, 0)}
	set := NewSet()
	hosts, _ := set.Apply(map[Object]*Claim{
		object("a"): {Origin: younger.Origin, Routes: []*Route{younger}},
		object("z"): {Origin: older.Origin, Routes: []*Route{older}},
	})
	table := withHosts(&Table[Route]{}, hosts)
	if got := matched(table, "h", "/"); got != "older" {
		t.Errorf("went to %q", got)
	}
	if lost := set.ConflictsOf(object("a")); len(lost) != 1 || lost[0].To != older {
		t.Errorf("conflicts of the younger: %v", lost)
	}
	if lost := set.ConflictsOf(object("z")); len(lost) != 0 {
		t.Errorf("conflicts of the older: %v", lost)
	}
	hosts, affected := set.Apply(map[Object]*Claim{object("z"): nil})
	after := withHosts(table, hosts)
	if got := matched(after, "h", "/"); got != "younger" || !affected[object("a")] {
		t.Errorf("after the older went: %q, affected %v", got, affected)
	}
	if got := matched(table, "h", "/"); got != "older" {
		t.Errorf("the earlier table changed: %q", got)
	}
}

// TestApplyIsNewTable: changes one by one come to the same as everything at once.
func TestApplyIstableOf(t *testing.T) {
	set, want := NewSet(), map[string][]*Route{}
	table := &Table[Route]{}
	for step := range 300 {
		key := object(fmt.Sprint("i", step*7%40))
		if step%5 == 4 {
			delete(want, key.Name)
			hosts, _ := set.Apply(map[Object]*Claim{key: nil})
			table = withHosts(table, hosts)
			continue
		}
		origin := Origin{Object: key, Created: time.Unix(int64(step%3), 0)}
		var routes []*Route
		for n := range 3 {
			host := []string{"a", "b.a", "*.a", ""}[(step+n)%4]
			r := route(host, []PathKind{Exact, Prefix, Default}[n], []string{"/x", "/x/y", ""}[n], fmt.Sprint(key.Name, "-", step))
			r.Origin = origin
			routes = append(routes, r)
		}
		want[key.Name] = routes
		hosts, _ := set.Apply(map[Object]*Claim{key: {Origin: origin, Routes: routes}})
		table = withHosts(table, hosts)
	}
	var all []*Route
	for _, routes := range want {
		all = append(all, routes...)
	}
	fresh := tableOf(all...)
	for _, host := range []string{"a", "b.a", "c.a", "z"} {
		for _, path := range []string{"/x", "/x/y/z", "/q"} {
			if got, want := matched(table, host, path), matched(fresh, host, path); got != want {
				t.Errorf("%s%s: %q step by step, %q at once", host, path, got, want)
			}
		}
	}
	if got, want := set.Count(), len(fresh.All()); got != want {
		t.Errorf("%d routes step by step, %d at once", got, want)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := manyRoutes(1000)
	var v View = asked{}
	if n := testing.AllocsPerRun(100, func() {
		table.Match(Host("host7.example.com:80"), "/a/b/c/d", v)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func manyRoutes(hosts int) *Table[Route] {
	var all []*Route
	for i := range hosts {
		all = append(all, route(fmt.Sprintf("host%d.example.com", i), Prefix, "/a/b", "x"))
	}
	return tableOf(all...)
}

func BenchmarkMatch(b *testing.B) {
	for _, hosts := range []int{1, 1000, 10000} {
		table := manyRoutes(hosts)
		var v View = asked{}
		b.Run(fmt.Sprint(hosts, " hosts"), func(b *testing.B) {
			for b.Loop() {
				if table.Match("host0.example.com", "/a/b/c", v) == nil {
					b.Fatal("no match")
				}
			}
		})
	}
}

// BenchmarkOneChange is what one changed object costs among many.
func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{1, 1000, 10000} {
		set, all := NewSet(), map[Object]*Claim{}
		for i := range n {
			r := route(fmt.Sprintf("host%d.example.com", i), Prefix, "/", "x")
			r.Origin.Name = fmt.Sprint(i)
			all[r.Origin.Object] = &Claim{Origin: r.Origin, Routes: []*Route{r}}
		}
		hosts, _ := set.Apply(all)
		table := withHosts(&Table[Route]{}, hosts)
		changed := object("0")
		b.Run(fmt.Sprint(n, " objects"), func(b *testing.B) {
			for b.Loop() {
				hosts, _ := set.Apply(map[Object]*Claim{changed: all[changed]})
				table = withHosts(table, hosts)
			}
		})
	}
}

// TestConditions: of one path the route that asks for more takes a request, in the order of precedence of the Gateway API;
// what no condition of a longer path takes goes to a shorter one.
func TestConditions(t *testing.T) {
	with := func(service, path string, c *Condition) *Route {
		r := route("h", Prefix, path, service)
		r.When = c
		return r
	}
	version := []ValueMatch{{Name: "Version", Value: "two"}}
	like := []ValueMatch{{Name: "Version", Pattern: regexp.MustCompile("^t")}}
	debug := []ValueMatch{{Name: "debug", Value: "1"}}
	table := tableOf(
		with("plain", "/", nil), with("query", "/a", &Condition{Query: debug}), with("header", "/a", &Condition{Headers: version}),
		with("both", "/a", &Condition{Headers: version, Query: debug}), with("method", "/a", &Condition{Method: "PUT"}),
		with("like", "/b", &Condition{Headers: like}), with("second", "/b", &Condition{Headers: like}))
	for _, test := range []struct {
		path, method, version, debug, want string
	}{
		{"/a", "GET", "", "", "plain"},
		{"/a", "GET", "", "1", "query"},
		{"/a", "GET", "two", "", "header"},
		{"/a", "GET", "two", "1", "both"},
		{"/a", "PUT", "two", "1", "method"},
		{"/a", "GET", "three", "", "plain"},
		{"/b", "GET", "three", "", "like"},
		{"/b", "GET", "", "", "plain"},
	} {
		v := asked{method: test.method, headers: map[string]string{"Version": test.version}, query: map[string]string{"debug": test.debug}}
		r := table.Match("h", test.path, v)
		if r == nil || r.Groups[0].Service.Name != test.want {
			t.Errorf("%+v went to %v", test, r)
		}
	}
}
