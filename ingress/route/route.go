package route

import (
	"cmp"
	"fmt"
	"strings"

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

func (k PathKind) rank() int {
	switch k {
	case Exact:
		return 0
	case Prefix:
		return 1
	}
	return 2
}

// Route is what one rule of an object says: which requests it takes, what is done with them, and where they go. It is
// immutable.
type Route struct {
	Origin Origin
	Host   string // lower case; "" matches every host; "*.x" matches exactly one more label
	Path   string // in the form of Path.Match; "" for Default
	Kind   PathKind
	When   *Condition // what else a request has to be like; nil: anything
	Policy *Policy    // nil: nothing special
	// Groups share the requests by their weights; there is at least one.
	Groups []WeightedGroup
	// Weak routes give way to every other claim on the same host and path, and losing is no conflict.
	Weak bool
}

// WeightedGroup gets its weight's part of the requests of a route.
type WeightedGroup struct {
	GroupKey
	Weight int // of the sum of all; a single group gets everything
}

// GroupKey names a group of endpoints: one port of one Service.
type GroupKey struct {
	Service types.NamespacedName
	Port    PortRef
	// Protocol is what the endpoints speak whatever the Service says; empty: by its appProtocol.
	Protocol Protocol
}

// String is "namespace/name:port".
func (k GroupKey) String() string { return k.Service.String() + ":" + k.Port.String() }

// PortRef is a Service port by name or, when the name is empty, by number.
type PortRef struct {
	Name   string
	Number int32
}

// String is the name, or the number if there is none.
func (p PortRef) String() string {
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprint(p.Number)
}

// Protocol is what an endpoint speaks.
type Protocol string

// The protocols of endpoints.
const (
	ProtocolHTTP1 Protocol = "http/1.1"
	ProtocolH2C   Protocol = "h2c"
	ProtocolTLS   Protocol = "tls"
)

// Target names the groups for people: "namespace/name:port", and each with its weight if there are several.
func (r *Route) Target() string {
	if len(r.Groups) == 1 {
		return r.Groups[0].String()
	}
	var all []string
	for _, g := range r.Groups {
		all = append(all, fmt.Sprintf("%s (%d)", g, g.Weight))
	}
	return strings.Join(all, ", ")
}

// Canary says whether the route only takes a part of the requests of another one.
func (r *Route) Canary() bool { return r.Policy != nil && r.Policy.Canary != nil }

// Covers says whether the route's path takes a path in the form of Path.Match; the table decides between several.
func (r *Route) Covers(path string) bool {
	if r.Kind == Exact {
		return path == r.Path
	}
	prefix := strings.TrimSuffix(r.Path, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// Precedence sorts routes by host, then in the order that they are tried: Exact, the longest Prefix, the default, and of
// one path those with more conditions first.
func Precedence(a, b *Route) int {
	return cmp.Or(strings.Compare(a.Host, b.Host), a.Kind.rank()-b.Kind.rank(), len(b.Path)-len(a.Path), strings.Compare(a.Path, b.Path),
		b.When.compare(a.When))
}
