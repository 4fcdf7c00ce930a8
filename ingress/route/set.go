package route

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Claim is all that one object wants routed, in its own order.
type Claim struct {
	Origin
	Routes []*Route
	// Closes is what the object puts before all routes of its hosts, not of its own only; nil: nothing.
	Closes *Policy
}

// Placed is a route that has its place in the table.
type Placed struct {
	*Route
	Over     *Policy   // of another object, which requests have to pass before; nil: none
	Canaries []*Placed // that may take requests of this one
}

// Conflict is a route that lost its place to an older one.
type Conflict struct {
	Lost *Route
	To   *Route // nil: Lost is a canary of nothing
}

// Set merges the claims of objects: which routes of a host are in force. One changed claim costs its own hosts, not a
// rebuild. It is not safe for concurrent use.
type Set struct {
	claims map[Object]*Claim
	hosts  map[string]*hostClaims
}

// hostClaims are the claims on one host, and those that lost.
type hostClaims struct {
	claims    map[Object]*Claim
	conflicts map[Object][]Conflict
	routes    int
}

// NewSet is empty.
func NewSet() *Set { return &Set{claims: map[Object]*Claim{}, hosts: map[string]*hostClaims{}} }

// Apply replaces claims (nil removes). It returns what is in force on the hosts that they are or were about, nothing where
// no claim is left, and all objects whose conflicts may have changed.
func (s *Set) Apply(changes map[Object]*Claim) (hosts map[string][]*Placed, affected map[Object]bool) {
	hosts, affected = map[string][]*Placed{}, map[Object]bool{}
	for key, c := range changes {
		s.forget(key, hosts)
		if c != nil {
			s.remember(key, c, hosts)
		}
	}
	for host := range hosts {
		hc := s.hosts[host]
		for key := range hc.claims {
			affected[key] = true
		}
		hosts[host] = hc.build(host)
		if len(hc.claims) == 0 {
			delete(s.hosts, host)
		}
	}
	return hosts, affected
}

func (s *Set) forget(key Object, touched map[string][]*Placed) {
	old, ok := s.claims[key]
	if !ok {
		return
	}
	delete(s.claims, key)
	for _, r := range old.Routes {
		delete(s.hosts[r.Host].claims, key)
		touched[r.Host] = nil
	}
}

func (s *Set) remember(key Object, c *Claim, touched map[string][]*Placed) {
	s.claims[key] = c
	for _, r := range c.Routes {
		if s.hosts[r.Host] == nil {
			s.hosts[r.Host] = &hostClaims{claims: map[Object]*Claim{}}
		}
		s.hosts[r.Host].claims[key] = c
		touched[r.Host] = nil
	}
}

// ConflictsOf lists what an object lost.
func (s *Set) ConflictsOf(key Object) []Conflict {
	c, ok := s.claims[key]
	if !ok {
		return nil
	}
	var all []Conflict
	seen := map[string]bool{}
	for _, r := range c.Routes {
		if !seen[r.Host] {
			seen[r.Host] = true
			all = append(all, s.hosts[r.Host].conflicts[key]...)
		}
	}
	return all
}

// Count is the number of routes in force.
func (s *Set) Count() int {
	n := 0
	for _, hc := range s.hosts {
		n += hc.routes
	}
	return n
}

// spot is what only one route can have of a host.
type spot struct {
	kind       PathKind
	path, when string
}

func spotOf(r *Route) spot {
	path := r.Path
	if r.Kind == Prefix {
		path = strings.TrimSuffix(path, "/") // "/a" and "/a/" take the same
	}
	return spot{r.Kind, path, r.When.String()}
}

// build merges the claims on host, the oldest first.
func (hc *hostClaims) build(host string) []*Placed {
	hc.conflicts = nil
	byAge := slices.SortedFunc(maps.Values(hc.claims), func(a, b *Claim) int { return a.Origin.Compare(b.Origin) })
	taken := map[spot]*Placed{}
	var all []*Placed
	for _, weak := range []bool{false, true} {
		for _, c := range byAge {
			for _, r := range c.Routes {
				if r.Host != host || r.Weak != weak || r.Canary() {
					continue
				}
				at := spotOf(r)
				if winner := taken[at]; winner == nil {
					taken[at] = &Placed{Route: r, Over: closing(c, byAge)}
					all = append(all, taken[at])
				} else if !weak {
					hc.lose(c.Object, Conflict{Lost: r, To: winner.Route})
				}
			}
		}
	}
	hc.addCanaries(host, taken, byAge)
	hc.routes = len(all)
	return all
}

// addCanaries puts the canaries behind the routes that they share a place with.
func (hc *hostClaims) addCanaries(host string, taken map[spot]*Placed, byAge []*Claim) {
	for _, c := range byAge {
		for _, r := range c.Routes {
			if r.Host != host || !r.Canary() {
				continue
			}
			main := taken[spotOf(r)]
			if main == nil {
				if !r.Weak {
					hc.lose(c.Object, Conflict{Lost: r})
				}
				continue
			}
			over := main.Policy // a way round what the main route asks of requests must not lead through its canaries
			if main.Over != nil {
				over = main.Over
			}
			main.Canaries = append(main.Canaries, &Placed{Route: r, Over: over})
		}
	}
}

// closing is the policy that another claim on the same host puts before the routes of c. As everywhere, the older one has
// the say, or one of the same namespace: else whoever may make an Ingress anywhere could close the hosts of others.
func closing(c *Claim, all []*Claim) *Policy {
	for _, other := range all {
		if other != c && other.Closes != nil && (other.Namespace == c.Namespace || other.Origin.Compare(c.Origin) < 0) {
			return other.Closes
		}
	}
	return nil
}

func (hc *hostClaims) lose(key Object, c Conflict) {
	if hc.conflicts == nil {
		hc.conflicts = map[Object][]Conflict{}
	}
	hc.conflicts[key] = append(hc.conflicts[key], c)
}

// Problem says what a lost route was about and who has its place.
func (c Conflict) Problem() Problem {
	what := fmt.Sprintf("%s path %q of host %q", c.Lost.Kind, c.Lost.Path, c.Lost.Host)
	if c.Lost.Kind == Default {
		what = fmt.Sprintf("the default of host %q", c.Lost.Host)
	}
	if c.To == nil {
		return Problem{"CanaryWithoutRoute", fmt.Sprintf("%s is a canary of nothing: no other Ingress routes the same host, path and path type; create one or remove the annotation canary", what)}
	}
	if c.Lost.Origin.Object == c.To.Origin.Object {
		return Problem{"RouteConflict", fmt.Sprintf("%s appears twice in this %s: the first one is used; remove the other", what, c.Lost.Origin.Kind)}
	}
	return Problem{"RouteConflict", fmt.Sprintf("%s is already taken by the older %s %s, which keeps it: change one of the two",
		what, c.To.Origin.Kind, c.To.Origin.NamespacedName)}
}
