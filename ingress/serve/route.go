package serve

import (
	"cmp"
	"math/rand/v2"
	"net/netip"

	"svcplane/ingress/route"
	"svcplane/ingress/upstream"
)

// Route is a route with what it takes to serve it. It is immutable.
type Route struct {
	*route.Route
	groups   []*upstream.Group // in the order of Route.Groups
	total    int               // of their weights
	guard    *Guard            // nil: no policy
	over     *Guard            // of another object, which requests have to pass before; nil: none
	canaries []*Route          // that may take requests of this one
	stats    *RouteStats
}

// NewRoute binds a route to its groups, which group finds. own and over may be nil.
func NewRoute(r *route.Route, group func(route.GroupKey) *upstream.Group, own, over *Guard, stats *RouteStats, canaries []*Route) *Route {
	b := &Route{Route: r, guard: own, over: over, stats: stats, canaries: canaries}
	for _, g := range r.Groups {
		b.groups, b.total = append(b.groups, group(g.GroupKey)), b.total+g.Weight
	}
	return b
}

// group is that which the next request goes to, by weight; the caller enters it.
func (b *Route) group() *upstream.Group {
	if len(b.groups) == 1 || b.total <= 0 {
		return b.groups[0]
	}
	n := rand.IntN(b.total)
	for i := range b.groups {
		if n -= b.Groups[i].Weight; n < 0 {
			return b.groups[i]
		}
	}
	return b.groups[0]
}

// choose is the route that takes a request: one of the canaries or b itself.
func (b *Route) choose(v route.View) *Route {
	for _, c := range b.canaries {
		if c.Policy.Canary.Takes(v, rand.IntN) {
			return c
		}
	}
	return b
}

// Canaries are the routes that may take requests of this one.
func (b *Route) Canaries() []*Route { return b.canaries }

// Closed says why a route answers everything with 503; empty: it does not.
func (b *Route) Closed() []string {
	var why []string
	for _, g := range []*Guard{b.over, b.guard} {
		if g != nil {
			why = append(why, g.Closed...)
		}
	}
	return why
}

// Policies say what is done with the requests of a route, before or instead of sending them.
func (b *Route) Policies() []string {
	return append(b.over.plan().Texts(), b.guard.plan().Texts()...)
}

// Endpoints are the endpoints of all groups, and why one of them can have none.
func (b *Route) Endpoints() (all []netip.AddrPort, problem string) {
	for _, g := range b.groups {
		problem = cmp.Or(problem, g.Problem().Message)
		for _, e := range g.Endpoints() {
			all = append(all, e.Addr)
		}
	}
	return all, problem
}

// AsStrict says whether whoever passes found has passed all that other asks for.
func AsStrict(found, other *Route) bool {
	return (found.guard == other.guard || !other.guard.restricts()) && (found.over == other.over || !other.over.restricts())
}

func (g *Guard) restricts() bool { return g != nil && g.Restricts() }

// policy is that of the route; a zero one if there is none.
func (b *Route) policy() *route.Policy {
	if b == nil || b.guard == nil {
		return &noPolicy
	}
	return b.guard.Policy
}

// noPolicy is never changed.
var noPolicy route.Policy
