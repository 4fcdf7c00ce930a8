package ingress

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// PathKind is how a Route's path is compared with a request's.
type PathKind string

const (
	// Exact matches the whole path, case sensitive, trailing slash included.
	Exact PathKind = "Exact"
	// Prefix matches by path element: "/a" matches "/a", "/a/" and "/a/b", not "/ab".
	Prefix PathKind = "Prefix"
	// Default takes what no other route of any matching host takes.
	Default PathKind = "Default"
)

// Origin names the object that a Route came from. Older objects win conflicts.
type Origin struct {
	Kind string // "Ingress"
	types.NamespacedName
	Created time.Time
}

// MarshalJSON gives {"kind","namespace","name","created"}, which the struct is read from.
func (o Origin) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind      string    `json:"kind"`
		Namespace string    `json:"namespace"`
		Name      string    `json:"name"`
		Created   time.Time `json:"created"`
	}{o.Kind, o.Namespace, o.Name, o.Created})
}

// compare puts the older first, and those of the same second in the order of their names.
func (o Origin) compare(p Origin) int {
	return cmp.Or(o.Created.Compare(p.Created), strings.Compare(o.Namespace, p.Namespace), strings.Compare(o.Name, p.Name))
}

// Route sends requests of a host and path to a Group. It is immutable.
type Route struct {
	Host   string // lower case; "" matches every host; "*.x" matches exactly one more label
	Path   string // in the form of cleanPath.match; "" for Default
	Kind   PathKind
	Group  *Group
	Origin Origin
	// Weak routes give way to every other claim on the same host and path, and losing is no conflict.
	Weak bool

	guard    *guard      // nil: no policy
	over     *guard      // of somebody else, which requests have to pass before; nil: none. Only on routes in a table
	canaries []*Route    // that may take requests of this one; only on routes in a table
	stats    *routeStats // nil: not counted
}

// Table is a set of routes, immutable, safe for concurrent use. Precedence, after the Ingress specification
// (https://kubernetes.io/docs/concepts/services-networking/ingress/): exact host before wildcard host before no
// host; within a host Exact before the longest Prefix. A rule without a host "applies to all inbound HTTP
// traffic", so a host's own rules do not hide it. Defaults come when no rule matched, the most specific host first.
type Table struct {
	exact    map[string]*hostRules // by host
	wildcard map[string]*hostRules // by what follows "*."
	any      *hostRules            // nil: none
}

// hostRules are the routes of one host.
type hostRules struct {
	root     pathNode
	fallback *Route
	routes   []*Route // all of them, in the order of precedence between their origins
}

// pathNode is an element of the paths of one host.
type pathNode struct {
	children   map[string]*pathNode
	exact      *Route // ends here
	exactSlash *Route // ends here with a slash
	prefix     *Route
}

// Match finds the route of a request, nil if there is none. host is in the form of normalHost, path in that of
// cleanPath.match. It does not allocate; its cost is proportional to the length of path.
func (t *Table) Match(host, path string) *Route {
	levels := [3]*hostRules{t.exact[host], t.wildcardOf(host), t.any}
	for _, h := range levels {
		if h != nil {
			if r := h.root.match(path); r != nil {
				return r
			}
		}
	}
	for _, h := range levels {
		if h != nil && h.fallback != nil {
			return h.fallback
		}
	}
	return nil
}

// wildcardOf: a wildcard stands for exactly one label, so there is one candidate.
func (t *Table) wildcardOf(host string) *hostRules {
	if len(t.wildcard) == 0 {
		return nil
	}
	label, suffix, found := strings.Cut(host, ".")
	if !found || label == "" {
		return nil
	}
	return t.wildcard[suffix]
}

func (n *pathNode) match(path string) *Route {
	best := n.prefix
	for rest := path[1:]; rest != ""; {
		element, after, more := strings.Cut(rest, "/")
		if n = n.children[element]; n == nil {
			return best
		}
		if n.prefix != nil {
			best = n.prefix
		}
		if !more {
			return orRoute(n.exact, best)
		}
		rest = after
	}
	return orRoute(n.exactSlash, best)
}

func orRoute(a, b *Route) *Route {
	if a != nil {
		return a
	}
	return b
}

// add puts a route in its place and returns the one that already has it, nil if the place was free.
func (h *hostRules) add(r *Route) *Route {
	place := h.place(r)
	if *place != nil {
		return *place
	}
	*place = r
	h.routes = append(h.routes, r)
	return nil
}

func (h *hostRules) place(r *Route) **Route {
	if r.Kind == Default {
		return &h.fallback
	}
	n := &h.root
	for element := range strings.SplitSeq(strings.Trim(r.Path, "/"), "/") {
		if element != "" {
			n = n.child(element)
		}
	}
	switch {
	case r.Kind == Prefix:
		return &n.prefix
	case strings.HasSuffix(r.Path, "/"):
		return &n.exactSlash
	}
	return &n.exact
}

func (n *pathNode) child(element string) *pathNode {
	if c := n.children[element]; c != nil {
		return c
	}
	if n.children == nil {
		n.children = map[string]*pathNode{}
	}
	c := &pathNode{}
	n.children[element] = c
	return c
}

// normalHost is the host of a Host header or authority in lower case, without port and trailing dot.
func normalHost(hostport string) string {
	host := hostport
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
