package admin

import (
	"net/netip"
	"time"
)

// Route is one rule of the ingress's routing table.
type Route struct {
	Host      string           `json:"host"` // "*" for every host
	Path      string           `json:"path"`
	Kind      string           `json:"pathType"`       // Exact, Prefix, Default
	When      string           `json:"when,omitempty"` // what else a request has to be like; empty: anything
	Service   string           `json:"service"`        // namespace/name:port, and each with its weight if there are several
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
	Problem   string           `json:"problem,omitempty"` // why there are no endpoints; empty: none is ready, or all is well
	Origin    Origin           `json:"origin"`
	Canaries  []string         `json:"canaries,omitempty"` // Services that may take requests of this route
	Closed    []string         `json:"closed,omitempty"`   // why every request is answered 503; empty: it is not
}

// Origin is the object that a Route comes from.
type Origin struct {
	Kind      string    `json:"kind"` // "Ingress"
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Created   time.Time `json:"created"`
}

// String is NAMESPACE/NAME.
func (o Origin) String() string { return o.Namespace + "/" + o.Name }
