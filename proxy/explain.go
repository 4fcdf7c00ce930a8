package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"svcplane/catalog"
)

// Client is the client of a connection: the node itself when Addr is not valid.
type Client struct {
	Name string // for people: "pod default/toad"; may be empty
	Addr netip.Addr
}

// Explanation says what becomes of a new connection, and why.
type Explanation struct {
	Client  string
	Address string
	Action  string // a Verdict, or "pass": the proxy does nothing
	Steps   []string
	Choices []EndpointFate
	Kernel  []string // where the data plane does it
}

// EndpointFate is an endpoint of the Service's port and whether new connections get there.
type EndpointFate struct {
	Address netip.AddrPort
	Pod     string
	Takes   bool
	Why     string
}

// Explain follows a connection of client to an address through what is in force.
func (p *Proxy) Explain(ctx context.Context, client Client, to Address) (Explanation, error) {
	p.mu.Lock()
	x := inquiry{client: client, to: to, node: p.node, keys: p.ledger.owners[to], siblings: p.ledger.portsAt(to.Addr())}
	x.frontend = frontendFor(p.ledger, x)
	p.mu.Unlock()
	if len(x.keys) > 0 {
		x.service, _ = p.cfg.Catalog.Get(x.keys[0])
	}
	x.refused = p.refusalsAt(to, x.node)
	e := x.explain()
	if x.frontend == nil {
		return e, nil
	}
	can := p.cfg.Dataplane.Capabilities()
	if can.Explainer != nil {
		e.Kernel = can.Explainer.Where(*x.frontend, client.Addr)
	}
	if can.Affinity == nil || x.frontend.Affinity == 0 {
		return e, nil
	}
	all, err := can.Affinity.Affinities(ctx, NewTable(*x.frontend))
	for _, s := range all {
		if s.Client == client.Addr {
			e.Steps = append(e.Steps, fmt.Sprintf("this client stays with %s", s.Endpoint))
		}
	}
	return e, err
}

// frontendFor is the Frontend that the client of an inquiry meets.
func frontendFor(l *ledger, x inquiry) *Frontend {
	c, _ := l.owner(x.to)
	for _, f := range c.frontends {
		if f.Address == x.to && f.Scope&x.scope() != 0 {
			return &f
		}
	}
	return nil
}

// refusalOf is a Refusal with the Service that gets it.
type refusalOf struct {
	key catalog.Key
	Refusal
}

// refusalsAt looks through all Services: nobody keeps a list of what is refused.
func (p *Proxy) refusalsAt(to Address, node Node) []refusalOf {
	var all []refusalOf
	for _, key := range p.cfg.Catalog.Keys() {
		svc, ok := p.cfg.Catalog.Get(key)
		if !ok {
			continue
		}
		for _, r := range Refusals(svc, node) {
			if r.Address == to {
				all = append(all, refusalOf{key, r})
			}
		}
	}
	slices.SortFunc(all, func(a, b refusalOf) int { return compareKeys(a.key, b.key) })
	return all
}

// Refused lists the Addresses that a Service asks for and does not get.
func (p *Proxy) Refused(key catalog.Key) []Refusal {
	p.mu.Lock()
	lost, node := p.ledger.lost(key), p.node
	p.mu.Unlock()
	if svc, ok := p.cfg.Catalog.Get(key); ok {
		lost = append(lost, Refusals(svc, node)...)
	}
	return lost
}

// portsAt lists what Services have at an address, as "80/TCP of default/web".
func (l *ledger) portsAt(addr netip.Addr) []string {
	var all []string
	for at, keys := range l.owners {
		if at.Addr() == addr {
			all = append(all, fmt.Sprintf("%d/%s of %s", at.Port(), at.Protocol, keys[0]))
		}
	}
	slices.Sort(all)
	return all
}

// inquiry is all that an explanation follows from.
type inquiry struct {
	client   Client
	to       Address
	node     Node
	keys     []catalog.Key // of the Services that ask for the address, the first of which has it
	siblings []string      // what Services have at other ports of it
	refused  []refusalOf   // of Services that ask for it in vain
	service  *catalog.Service
	frontend *Frontend // nil: none is for this client
}

func (x inquiry) isNode() bool {
	return !x.client.Addr.IsValid() || slices.Contains(x.node.Addrs, x.client.Addr) || x.client.Addr.IsLoopback()
}

func (x inquiry) isPod() bool { return !x.isNode() && containsAddr(x.node.PodCIDRs, x.client.Addr) }

func (x inquiry) scope() Scope {
	if x.isNode() || x.isPod() {
		return Internal
	}
	return External
}

func (x inquiry) explain() Explanation {
	e := Explanation{Client: x.who(), Address: x.to.String()}
	if x.frontend == nil || x.service == nil {
		e.Action, e.Steps = x.nobody()
		return e
	}
	f := *x.frontend
	port := x.port()
	e.Steps = append(e.Steps, fmt.Sprintf("%s is %s of service %s", x.to, x.kind(), f.Origin()))
	for _, other := range x.keys[1:] {
		e.Steps = append(e.Steps, fmt.Sprintf("service %s asks for it, too: whom the API gave it has it, else the older service", other))
	}
	e.Steps = append(e.Steps, x.refusals()...)
	if f.Scope != Everywhere {
		e.Steps = append(e.Steps, fmt.Sprintf("externalTrafficPolicy is Local: clients in the cluster and outside are treated differently, and this one is %s", map[Scope]string{Internal: "inside", External: "outside"}[x.scope()]))
	}
	e.Action = f.Verdict.String()
	if out := x.outOfRange(f); out != "" {
		e.Action, e.Steps = Drop.String(), append(e.Steps, out)
		return e
	}
	e.Choices = x.fates(f, port)
	switch f.Verdict {
	case Reject:
		e.Steps = append(e.Steps, x.without(port)+": refused at once, with a TCP reset or ICMP port unreachable")
	case Drop:
		e.Steps = append(e.Steps, x.dropped(f, port))
	case Balance:
		e.Steps = append(e.Steps, x.balance(f), x.source(f))
	}
	return e
}

func (x inquiry) who() string {
	name := x.client.Name
	switch {
	case !x.client.Addr.IsValid():
		return "the node itself"
	case x.isNode():
		return fmt.Sprintf("the node itself (%s)", x.client.Addr)
	case x.isPod() && name != "":
		return fmt.Sprintf("%s (%s)", name, x.client.Addr)
	case x.isPod():
		return fmt.Sprintf("a pod (%s)", x.client.Addr)
	}
	return fmt.Sprintf("%s, outside of the cluster: neither this node nor in %s", x.client.Addr, joined(x.node.PodCIDRs))
}

// nobody explains an address that no Service has, or none has for such clients.
func (x inquiry) nobody() (action string, steps []string) {
	if len(x.keys) > 0 {
		return "pass", []string{fmt.Sprintf("service %s has %s, but not for this client", x.keys[0], x.to)}
	}
	if own, ok := x.node.own(x.to); ok {
		return "pass", append(x.refusals(), fmt.Sprintf("port %d/%s of %s belongs to %s: no service can have it, and the proxy lets it pass", x.to.Port(), x.to.Protocol, x.to.Addr(), own))
	}
	steps = append(x.refusals(), fmt.Sprintf("no service has %s", x.to))
	if len(x.siblings) > 0 {
		steps = append(steps, "what services have at that address: "+strings.Join(x.siblings, ", "))
	}
	if containsAddr(x.node.ServiceCIDRs, x.to.Addr()) {
		return Reject.String(), append(steps, fmt.Sprintf("it is in the range of services (%s): refused at once, unless the node itself has the address, as its DNS does", joined(x.node.ServiceCIDRs)))
	}
	return "pass", append(steps, "the proxy does nothing: it goes where the routes lead")
}

// refusals are the Services that would like to have the address.
func (x inquiry) refusals() []string {
	var steps []string
	for _, r := range x.refused {
		steps = append(steps, fmt.Sprintf("service %s asks for it as %s, and does not get it: %s", r.key, r.Kind, r.Why))
	}
	return steps
}

func (x inquiry) kind() string {
	addr := x.to.Addr()
	switch {
	case slices.Contains(x.service.ClusterIPs, addr):
		return "the cluster IP"
	case slices.Contains(x.service.LoadBalancerIPs, addr) && x.port().Port == x.to.Port():
		return "the load-balancer address"
	case slices.Contains(x.service.ExternalIPs, addr) && x.port().Port == x.to.Port():
		return "an external IP"
	}
	return "the node port"
}

// port is the Service's port that the Frontend is of.
func (x inquiry) port() catalog.Port {
	for _, p := range x.service.Ports {
		if p.Name == x.frontend.PortName && p.Protocol == x.to.Protocol {
			return p
		}
	}
	return catalog.Port{Port: x.to.Port()} // it went a moment ago
}

func (x inquiry) outOfRange(f Frontend) string {
	from := x.client.Addr
	for _, own := range x.node.Addrs {
		if !from.IsValid() && own.Is4() == x.to.Addr().Is4() {
			from = own
		}
	}
	if len(f.SourceRanges) == 0 || containsAddr(f.SourceRanges, from) {
		return ""
	}
	return fmt.Sprintf("loadBalancerSourceRanges allows %s only: dropped", joined(f.SourceRanges))
}

// without says why a port has no endpoint that takes connections.
func (x inquiry) without(port catalog.Port) string {
	switch {
	case len(port.Endpoints) > 0:
		return "no endpoint is ready"
	case x.service.Selector == "":
		return "the service has no selector, and no EndpointSlice names an endpoint for this port"
	}
	return fmt.Sprintf("no pod matches the selector %s with this port", x.service.Selector)
}

func (x inquiry) dropped(f Frontend, port catalog.Port) string {
	policy := "externalTrafficPolicy"
	if slices.Contains(x.service.ClusterIPs, x.to.Addr()) {
		policy = "internalTrafficPolicy"
	}
	if len(x.service.SourceRanges) > 0 && len(f.Endpoints) == 0 && len(port.Endpoints) > 0 && !x.service.ExternalLocal && policy == "externalTrafficPolicy" {
		return "loadBalancerSourceRanges allows nobody of this address family: dropped"
	}
	return fmt.Sprintf("%s is Local, and no endpoint that takes connections is on node %s: dropped without an answer", policy, x.node.Name)
}

func (x inquiry) balance(f Frontend) string {
	text := fmt.Sprintf("balanced over %d of %d endpoints", len(f.Endpoints), len(x.ofFamily(x.port())))
	if f.Affinity > 0 {
		text += fmt.Sprintf("; sessionAffinity ClientIP: who came within %s gets the same one", f.Affinity)
	}
	return text
}

// source says whose address the endpoint sees.
func (x inquiry) source(f Frontend) string {
	const nodes = "the endpoint sees this node's address"
	switch {
	case x.isNode():
		return "the endpoint sees the node's own address"
	case f.Masquerade == MasqueradeEverybody:
		return nodes + ", so that its answer comes back here (externalTrafficPolicy Cluster)"
	case f.Masquerade == MasqueradeOutsidePods && !x.isPod():
		return nodes + ": the client is outside, and the answer has to come back here"
	case slices.ContainsFunc(f.Endpoints, func(e Endpoint) bool { return e.Addr() == x.client.Addr }):
		return "the endpoint sees the client's address; where it is the client itself, this node's"
	}
	return "the endpoint sees the client's address"
}

func (x inquiry) ofFamily(port catalog.Port) []catalog.Endpoint {
	return slices.DeleteFunc(slices.Clone(port.Endpoints), func(e catalog.Endpoint) bool { return e.Addr().Is4() != x.to.Addr().Is4() })
}

// fates says of every endpoint of the address' family whether it takes new connections of the client.
func (x inquiry) fates(f Frontend, port catalog.Port) []EndpointFate {
	var all []EndpointFate
	for _, e := range x.ofFamily(port) {
		takes := slices.Contains(f.Endpoints, Endpoint{e.AddrPort})
		all = append(all, EndpointFate{Address: e.AddrPort, Pod: e.Pod, Takes: takes, Why: x.why(e, takes)})
	}
	return all
}

func (x inquiry) why(e catalog.Endpoint, takes bool) string {
	switch {
	case takes && e.Ready:
		return "ready"
	case takes:
		return "terminates, but no endpoint is ready and this one still serves (KEP-1669)"
	case e.Terminating && e.Serving:
		return "terminates: keeps the connections that it has"
	case e.Terminating:
		return "terminates and does not serve any more"
	case !e.Ready:
		return "not ready"
	case e.Node != x.node.Name:
		return fmt.Sprintf("on node %q, and the policy is Local: only node %s counts", e.Node, x.node.Name)
	case len(e.ForZones)+len(e.ForNodes) > 0:
		return fmt.Sprintf("its hints are for %s; this node is %s in zone %q", strings.Join(append(e.ForNodes, e.ForZones...), " "), x.node.Name, x.node.Zone)
	}
	return "not chosen for this client"
}
