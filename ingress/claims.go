package ingress

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// claim is all that one object wants routed, in its own order.
type claim struct {
	Origin
	routes []*Route
	closes *guard // what it puts before all routes of its hosts, not of its own only; nil: nothing
}

// conflict is a route that lost its host and path to an older one.
type conflict struct{ lost, to *Route }

// routeSet merges claims into tables. One changed claim costs its own hosts and one copy of the host map, not a
// rebuild. It is not safe for concurrent use; the tables are.
type routeSet struct {
	claims map[types.NamespacedName]*claim
	hosts  map[string]*hostClaims
	table  *Table
}

// hostClaims are the claims on one host, and those that lost.
type hostClaims struct {
	claims    map[types.NamespacedName]*claim
	conflicts map[types.NamespacedName][]conflict
	routes    int
}

func newRouteSet() *routeSet {
	return &routeSet{
		claims: map[types.NamespacedName]*claim{},
		hosts:  map[string]*hostClaims{},
		table:  &Table{},
	}
}

// apply replaces claims (nil removes) and returns the new table with the names of all claims whose conflicts may
// have changed.
func (s *routeSet) apply(changes map[types.NamespacedName]*claim) (*Table, map[types.NamespacedName]bool) {
	touched := map[string]bool{}
	for key, c := range changes {
		s.forget(key, touched)
		if c != nil {
			s.remember(key, c, touched)
		}
	}
	affected := map[types.NamespacedName]bool{}
	next := &Table{exact: maps.Clone(s.table.exact), wildcard: maps.Clone(s.table.wildcard), any: s.table.any}
	for host := range touched {
		hc := s.hosts[host]
		for key := range hc.claims {
			affected[key] = true
		}
		next.put(host, hc.build(host))
		if len(hc.claims) == 0 {
			delete(s.hosts, host)
		}
	}
	s.table = next
	return next, affected
}

func (s *routeSet) forget(key types.NamespacedName, touched map[string]bool) {
	old, ok := s.claims[key]
	if !ok {
		return
	}
	delete(s.claims, key)
	for _, r := range old.routes {
		delete(s.hosts[r.Host].claims, key)
		touched[r.Host] = true
	}
}

func (s *routeSet) remember(key types.NamespacedName, c *claim, touched map[string]bool) {
	s.claims[key] = c
	for _, r := range c.routes {
		if s.hosts[r.Host] == nil {
			s.hosts[r.Host] = &hostClaims{claims: map[types.NamespacedName]*claim{}}
		}
		s.hosts[r.Host].claims[key] = c
		touched[r.Host] = true
	}
}

// conflictsOf lists what a claim lost.
func (s *routeSet) conflictsOf(key types.NamespacedName) []conflict {
	c, ok := s.claims[key]
	if !ok {
		return nil
	}
	var all []conflict
	seen := map[string]bool{}
	for _, r := range c.routes {
		if !seen[r.Host] {
			seen[r.Host] = true
			all = append(all, s.hosts[r.Host].conflicts[key]...)
		}
	}
	return all
}

// count is the number of routes in force.
func (s *routeSet) count() int {
	n := 0
	for _, hc := range s.hosts {
		n += hc.routes
	}
	return n
}

// build merges the claims on host, the oldest first; nil when nothing is left.
func (hc *hostClaims) build(host string) *hostRules {
	hc.conflicts, hc.routes = nil, 0
	if len(hc.claims) == 0 {
		return nil
	}
	rules := &hostRules{}
	byAge := slices.SortedFunc(maps.Values(hc.claims), func(a, b *claim) int { return a.Origin.compare(b.Origin) })
	for _, weak := range []bool{false, true} {
		for _, c := range byAge {
			for _, r := range c.routes {
				if r.Host != host || r.Weak != weak || r.canary() {
					continue
				}
				if winner := rules.add(r.behind(closing(c, byAge))); winner != nil && !weak {
					hc.lose(c.NamespacedName, conflict{lost: r, to: winner})
				}
			}
		}
	}
	hc.addCanaries(host, rules, byAge)
	hc.routes = len(rules.routes)
	return rules
}

// addCanaries puts the canaries behind the routes that they share a place with.
func (hc *hostClaims) addCanaries(host string, rules *hostRules, byAge []*claim) {
	for _, c := range byAge {
		for _, r := range c.routes {
			if r.Host != host || !r.canary() {
				continue
			}
			place := rules.place(r)
			if *place == nil {
				if !r.Weak {
					hc.lose(c.NamespacedName, conflict{lost: r})
				}
				continue
			}
			// routes are shared between tables: a changed one is another one
			main := **place
			over := main.guard // a way round what the main route asks of requests must not lead through its canaries
			if main.over != nil {
				over = main.over
			}
			main.canaries = append(slices.Clip(main.canaries), r.behind(over))
			rules.replace(*place, &main)
			*place = &main
		}
	}
}

// closing is the guard that another claim on the same host puts before the routes of c. As everywhere, the older one has the
// say, or one of the same namespace: else whoever may make an Ingress anywhere could close the hosts of others.
func closing(c *claim, all []*claim) *guard {
	for _, other := range all {
		if other != c && other.closes != nil && (other.Namespace == c.Namespace || other.Origin.compare(c.Origin) < 0) {
			return other.closes
		}
	}
	return nil
}

// behind is the route behind a guard; nil is none.
func (r *Route) behind(over *guard) *Route {
	if over == nil {
		return r
	}
	next := *r
	next.over = over
	return &next
}

// replace exchanges a route in the list of all.
func (h *hostRules) replace(old, next *Route) {
	h.routes[slices.Index(h.routes, old)] = next
}

func (r *Route) canary() bool { return r.guard != nil && r.guard.Canary != nil }

func (hc *hostClaims) lose(key types.NamespacedName, c conflict) {
	if hc.conflicts == nil {
		hc.conflicts = map[types.NamespacedName][]conflict{}
	}
	hc.conflicts[key] = append(hc.conflicts[key], c)
}

// put sets or, with nil, removes the rules of one host; only for a table that nobody else sees yet.
func (t *Table) put(host string, rules *hostRules) {
	if host == "" {
		t.any = rules
		return
	}
	table := &t.exact
	if suffix, wild := strings.CutPrefix(host, "*."); wild {
		table, host = &t.wildcard, suffix
	}
	if rules == nil {
		delete(*table, host)
		return
	}
	if *table == nil {
		*table = map[string]*hostRules{}
	}
	(*table)[host] = rules
}

// NewTable merges routes into a table by the rules of Table; of two routes with the same host, path and kind the
// one with the older origin is used.
func NewTable(routes ...*Route) *Table {
	changes := map[types.NamespacedName]*claim{}
	for _, r := range routes {
		c := changes[r.Origin.NamespacedName]
		if c == nil {
			c = &claim{Origin: r.Origin}
			changes[r.Origin.NamespacedName] = c
		}
		c.routes = append(c.routes, r)
	}
	table, _ := newRouteSet().apply(changes)
	return table
}
