package upstream

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/catalog"
	"svcplane/ingress/route"
)

// GroupSet owns the groups that routes refer to. It is not safe for concurrent use; the groups are.
type GroupSet struct {
	get       func(catalog.Key) (*catalog.Service, bool)
	closed    func(types.NamespacedName) string
	home      Place
	lines     *connBudget // of all endpoints
	groups    map[route.GroupKey]*countedGroup
	byService map[types.NamespacedName]map[route.GroupKey]*countedGroup
}

// countedGroup knows which objects' routes use it, and how often.
type countedGroup struct {
	*Group
	users map[route.Object]int
}

// Place is where the ingress runs; empty: unknown.
type Place struct{ Node, Zone string }

// Config is what a GroupSet needs.
type Config struct {
	Get    func(catalog.Key) (*catalog.Service, bool)
	Closed func(types.NamespacedName) string // why a Service may not be served; empty: it may
	At     Place
	// MaxConnections bounds those to endpoints; zero: any number.
	MaxConnections int
}

// NewGroupSet is empty.
func NewGroupSet(cfg Config) *GroupSet {
	return &GroupSet{
		get:       cfg.Get,
		closed:    cfg.Closed,
		home:      cfg.At,
		lines:     &connBudget{most: int64(cfg.MaxConnections)},
		groups:    map[route.GroupKey]*countedGroup{},
		byService: map[types.NamespacedName]map[route.GroupKey]*countedGroup{},
	}
}

// Acquire returns the group of key with its present endpoints, for a route of user; each call wants one release.
func (s *GroupSet) Acquire(key route.GroupKey, user route.Object) *Group {
	g, ok := s.groups[key]
	if !ok {
		g = &countedGroup{Group: newGroup(key), users: map[route.Object]int{}}
		g.lines = s.lines
		svc, _ := s.get(key.Service)
		g.set(s.resolve(svc, key))
		s.groups[key] = g
		if s.byService[key.Service] == nil {
			s.byService[key.Service] = map[route.GroupKey]*countedGroup{}
		}
		s.byService[key.Service][key] = g
	}
	g.users[user]++
	return g.Group
}

// Group is one that was acquired.
func (s *GroupSet) Group(key route.GroupKey) *Group { return s.groups[key].Group }

// Release gives a group back. After the last one it takes no more requests and lets its endpoints go when those
// under way, which came by an older table, have ended.
func (s *GroupSet) Release(key route.GroupKey, user route.Object) {
	g := s.groups[key]
	if g.users[user]--; g.users[user] == 0 {
		delete(g.users, user)
	}
	if len(g.users) > 0 {
		return
	}
	delete(s.groups, key)
	delete(s.byService[key.Service], key)
	if len(s.byService[key.Service]) == 0 {
		delete(s.byService, key.Service)
	}
	g.shut()
}

// Refresh puts the present endpoints of a Service into its groups. It returns the endpoints that left, and the
// users of the groups whose problem came, went or changed.
func (s *GroupSet) Refresh(service types.NamespacedName) (gone []*Endpoint, affected []route.Object) {
	groups := s.byService[service]
	if len(groups) == 0 {
		return nil, nil
	}
	svc, _ := s.get(service)
	for key, g := range groups {
		before := g.Problem()
		gone = append(gone, g.set(s.resolve(svc, key))...)
		if g.Problem() != before {
			affected = slices.AppendSeq(affected, maps.Keys(g.users))
		}
	}
	return gone, affected
}

// Move puts the endpoints into force that another place wants; those that leave drain by themselves.
func (s *GroupSet) Move(to Place) {
	if s.home == to {
		return
	}
	s.home = to
	for key, g := range s.groups {
		svc, _ := s.get(key.Service)
		g.set(s.resolve(svc, key))
	}
}

// Close lets every group go.
func (s *GroupSet) Close() {
	for _, g := range s.groups {
		g.shut()
	}
}

// resolve finds the endpoints of one port; svc is nil when there is no such Service.
func (s *GroupSet) resolve(svc *catalog.Service, key route.GroupKey) ([]catalog.Endpoint, route.Protocol, route.Problem) {
	switch {
	case svc == nil:
		return nil, "", route.Problem{Reason: "ServiceNotFound", Message: fmt.Sprintf(
			"Service %s does not exist: requests are answered 503; create it or correct the service name", key.Service)}
	case svc.ExternalName != "":
		return nil, "", route.Problem{Reason: "ServiceRefused", Message: fmt.Sprintf(
			"Service %s is of type ExternalName, which an Ingress of this class does not send to: use a Service without selector and an EndpointSlice with the addresses", key.Service)}
	}
	if why := s.closed(key.Service); why != "" {
		return nil, "", route.Problem{Reason: "RouteClosed", Message: fmt.Sprintf("Service %s is closed: its %s; every request is answered 503 until it is removed (docs/annotations.md)", key.Service, why)}
	}
	for i := range svc.Ports {
		p := &svc.Ports[i]
		if p.Protocol == corev1.ProtocolTCP && names(key.Port, p) {
			return usable(svc, p, s.home), cmp.Or(key.Protocol, protocolOf(p.AppProtocol)), route.Problem{}
		}
	}
	return nil, "", route.Problem{Reason: "PortNotFound", Message: fmt.Sprintf(
		"Service %s has no TCP port %s: requests are answered 503; it has %s", key.Service, key.Port, portList(svc))}
}

func names(p route.PortRef, port *catalog.Port) bool {
	if p.Name != "" {
		return p.Name == port.Name
	}
	return p.Number == int32(port.Port)
}

// usable are the endpoints that requests may go to: the ready ones or, while there is none, those that still serve
// during their termination (KEP-1669). A Service with internalTrafficPolicy Local keeps to this node (KEP-2086), the
// others to those that topology hints name, as the service proxy does.
func usable(svc *catalog.Service, port *catalog.Port, at Place) []catalog.Endpoint {
	var ready, leaving []catalog.Endpoint
	local := svc.InternalLocal && at.Node != ""
	for _, e := range port.Endpoints {
		switch {
		case local && e.Node != at.Node:
		case e.Ready:
			ready = append(ready, e)
		case e.Serving && e.Terminating:
			leaving = append(leaving, e)
		}
	}
	switch {
	case len(ready) == 0:
		return leaving
	case local:
		return ready
	}
	near := catalog.Nearest(ready, at.Node, at.Zone)
	return slices.DeleteFunc(ready, func(e catalog.Endpoint) bool { return !near(e) })
}

func portList(svc *catalog.Service) string {
	var ports []string
	for _, p := range svc.Ports {
		text := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.Name != "" {
			text = p.Name + " (" + text + ")"
		}
		ports = append(ports, text)
	}
	if len(ports) == 0 {
		return "no ports"
	}
	return strings.Join(ports, ", ")
}
