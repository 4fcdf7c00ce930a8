package ingress

import "math/rand/v2"

// Bound is a route with what it takes to serve it. It is immutable.
type Bound struct {
	*Route
	groups   []*Group // in the order of Route.Groups
	total    int      // of their weights
	guard    *guard   // nil: no policy
	over     *guard   // of another object, which requests have to pass before; nil: none
	canaries []*Bound // that may take requests of this one
	stats    *routeStats
}

// newBound binds a route to its groups, which group finds.
func newBound(r *Route, group func(GroupKey) *Group, own, over *guard, stats *routeStats) *Bound {
	b := &Bound{Route: r, guard: own, over: over, stats: stats}
	for _, g := range r.Groups {
		b.groups, b.total = append(b.groups, group(g.GroupKey)), b.total+g.Weight
	}
	return b
}

// group is that which the next request goes to, by weight; the caller enters it.
func (b *Bound) group() *Group {
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
func (b *Bound) choose(v View) *Bound {
	for _, c := range b.canaries {
		if c.Policy.Canary.Takes(v, rand.IntN) {
			return c
		}
	}
	return b
}

// closed says why a route answers everything with 503; empty: it does not.
func (b *Bound) closed() []string {
	var why []string
	for _, g := range []*guard{b.over, b.guard} {
		if g != nil {
			why = append(why, g.Closed...)
		}
	}
	return why
}

// asStrict says whether whoever passes found has passed all that other asks for.
func asStrict(found, other *Bound) bool {
	return (found.guard == other.guard || !other.guard.restricts()) && (found.over == other.over || !other.over.restricts())
}

func (g *guard) restricts() bool { return g != nil && g.Restricts() }

// policy is that of the route; a zero one if there is none.
func (b *Bound) policy() *Policy {
	if b == nil || b.guard == nil {
		return &noPolicy
	}
	return b.guard.Policy
}

// noPolicy is never changed.
var noPolicy Policy
