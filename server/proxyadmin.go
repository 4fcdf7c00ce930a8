package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/proxy"
	"svcplane/proxy/switchover"
	"svcplane/server/admin"
)

// handleProxy carries out what `svcplane proxy` asks for.
func (n *Node) handleProxy(a *admin.Server, p *proxy.Proxy) {
	admin.GetTable.Handle(a, func(ctx context.Context, r admin.TableRequest) (admin.Table, error) { return n.table(ctx, r, p) })
	admin.GetDiff.Handle(a, func(ctx context.Context, _ admin.None) ([]string, error) { return p.Diff(ctx) })
	admin.Repair.Handle(a, func(ctx context.Context, _ admin.None) ([]string, error) { return p.Repair(ctx) })
	admin.GetCounters.Handle(a, func(ctx context.Context, _ admin.None) ([]admin.Tally, error) { return tallies(ctx, p) })
	admin.SetCounting.Handle(a, func(ctx context.Context, r admin.CountingRequest) ([]admin.Tally, error) {
		if err := p.Count(r.On); err != nil {
			return nil, err
		}
		return tallies(ctx, p)
	})
	admin.ExplainDial.Handle(a, func(ctx context.Context, r admin.ExplainRequest) ([]admin.Explanation, error) {
		return n.explainDial(ctx, r, p)
	})
	admin.GetSwitch.Handle(a, func(context.Context, admin.None) (admin.Switchover, error) { return n.switchover(), nil })
	admin.SwitchTo.Handle(a, n.switchTo)
}

func (n *Node) table(ctx context.Context, r admin.TableRequest, p *proxy.Proxy) (admin.Table, error) {
	table := p.Table()
	if r.Kernel {
		var err error
		if table, err = p.Kernel(ctx); err != nil {
			return admin.Table{}, err
		}
	}
	if r.Service == "" {
		return tableOf(table), nil
	}
	key := serviceKey(r.Service, metav1.NamespaceDefault)
	if table = table.Of(key); len(table.Frontends) == 0 {
		return admin.Table{}, n.hints.noAddress(ctx, key)
	}
	return tableOf(table), nil
}

func tableOf(t proxy.Table) admin.Table {
	table := admin.Table{Faults: t.Faults}
	for _, f := range t.Frontends {
		front := admin.Frontend{
			Address: f.AddrPort, Protocol: string(f.Protocol), Clients: f.Scope.String(), Service: f.Service.String(), PortName: f.PortName,
			Action: f.Verdict.String(), Masquerade: f.Masquerade.String(), Affinity: int(f.Affinity / time.Second), SourceRanges: f.SourceRanges,
		}
		for _, e := range f.Endpoints {
			front.Endpoints = append(front.Endpoints, e.AddrPort)
		}
		table.Frontends = append(table.Frontends, front)
	}
	return table
}

func tallies(ctx context.Context, p *proxy.Proxy) ([]admin.Tally, error) {
	counts, err := p.Counts(ctx)
	all := []admin.Tally{}
	for _, c := range counts {
		all = append(all, admin.Tally{
			Service: c.Origin, Protocol: string(c.Protocol), Subject: c.Subject.String(), Endpoint: c.Endpoint, Open: c.Open, Total: c.Total,
			Sent: admin.Volume(c.Sent), Received: admin.Volume(c.Received),
		})
	}
	return all, err
}

func (n *Node) switchover() admin.Switchover {
	now := n.planes.Status()
	return admin.Switchover{Serving: now.Serving, Over: now.Phase == switchover.Settled, Problem: now.Problem, Line: now.String()}
}

func (n *Node) switchTo(ctx context.Context, r admin.SwitchRequest) (admin.Switchover, error) {
	limit := n.cfg.Proxy.Drain
	if r.Drain != "" {
		var err error
		if limit, err = time.ParseDuration(r.Drain); err != nil {
			return admin.Switchover{}, admin.Blame(fmt.Errorf("--drain-timeout: %w", err))
		}
	}
	if limit < 0 {
		return admin.Switchover{}, admin.Blame(errors.New("--drain-timeout must not be negative"))
	}
	// whoever asks may go; a switch in the middle would be turned back
	err := n.planes.To(context.WithoutCancel(ctx), r.Mode, limit)
	return n.switchover(), err
}

// explainDial explains a new connection to each address that it may be for.
func (n *Node) explainDial(ctx context.Context, r admin.ExplainRequest, p *proxy.Proxy) ([]admin.Explanation, error) {
	targets, key, err := n.dialled(ctx, r.To, r.Namespace, p)
	if err != nil {
		return nil, err
	}
	clients, err := n.clients(ctx, r)
	if err != nil {
		return nil, err
	}
	all := []admin.Explanation{}
	for _, to := range targets {
		var client proxy.Client
		for _, c := range clients {
			if c.Addr.Is4() == to.Addr().Is4() {
				client = c
			}
		}
		if len(clients) > 0 && !client.Addr.IsValid() {
			continue // it has no address of this family to dial from
		}
		e, err := p.Explain(ctx, client, to)
		if err != nil {
			return nil, err
		}
		all = append(all, dialExplanation(e))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--from %q has no address of the family of %s", r.From, r.To)
	}
	if key.Name == "" {
		return all, nil
	}
	wrong, err := n.hints.mistakes(ctx, key)
	for i := range all {
		all[i].Mistakes = wrong
	}
	return all, err
}

// clients are who dials, with each of its addresses; none: the node itself.
func (n *Node) clients(ctx context.Context, r admin.ExplainRequest) ([]proxy.Client, error) {
	name, ok := admin.PodNamed(r.From)
	if !ok && r.From == "" {
		return nil, nil
	}
	if !ok {
		addr, err := netip.ParseAddr(r.From)
		if err != nil {
			return nil, admin.Blame(fmt.Errorf("--from %q: must be pod/NAME or an address like 192.0.2.77", r.From))
		}
		return []proxy.Client{{Addr: addr.Unmap()}}, nil
	}
	pod, addrs, err := n.hints.podToAskFrom(ctx, r.Namespace, name)
	if err != nil {
		return nil, err
	}
	var clients []proxy.Client
	for _, addr := range addrs {
		clients = append(clients, proxy.Client{Name: fmt.Sprintf("pod %s/%s", pod.Namespace, pod.Name), Addr: addr})
	}
	return clients, nil
}

// dialExplanation is what the proxy says.
func dialExplanation(e proxy.Explanation) admin.Explanation {
	x := admin.Explanation{
		Part: PartProxy, From: e.Client, To: e.Address, Outcome: e.Action, Steps: admin.Sentences(admin.StepDecision, e.Steps), Kernel: e.Kernel,
	}
	for _, c := range e.Choices {
		x.Steps = append(x.Steps, admin.Step{Kind: admin.StepEndpoint, Endpoint: c.Address, Pod: c.Pod, Chosen: c.Takes, Why: c.Why})
	}
	return x
}

// dialled reads an address, or finds those of a Service's port. The Service is the one that was named, or that has the
// address; none if nobody has.
func (n *Node) dialled(ctx context.Context, text, namespace string, p *proxy.Proxy) ([]proxy.Address, types.NamespacedName, error) {
	table := p.Table()
	if addr, isAddr, err := addressIn(text); isAddr || err != nil {
		for _, f := range table.Frontends {
			if f.Address == addr {
				return []proxy.Address{addr}, f.Service, err
			}
		}
		return []proxy.Address{addr}, types.NamespacedName{}, err
	}
	service, port, _ := strings.Cut(text, ":")
	key := serviceKey(service, namespace)
	table = table.Of(key)
	var all []proxy.Address
	var ports []string
	for _, r := range p.Refused(key) {
		if port == "" || port == strconv.Itoa(int(r.Port())) {
			all = append(all, r.Address)
		}
	}
	if len(table.Frontends) == 0 && len(all) == 0 {
		return nil, key, n.hints.noAddress(ctx, key)
	}
	for _, f := range table.Frontends {
		if name := cmp.Or(f.PortName, strconv.Itoa(int(f.Port()))); !slices.Contains(ports, name) {
			ports = append(ports, name)
		}
		if port != "" && port != f.PortName && port != strconv.Itoa(int(f.Port())) {
			continue
		}
		if !slices.Contains(all, f.Address) {
			all = append(all, f.Address)
		}
	}
	if len(all) == 0 {
		return nil, key, fmt.Errorf("service %s has no port %q: it has %s", key, port, strings.Join(ports, ", "))
	}
	return all, key, nil
}

// addressIn reads ADDRESS:PORT[/PROTOCOL]; isAddr is false for what is no address.
func addressIn(text string) (a proxy.Address, isAddr bool, err error) {
	at, protocol, _ := strings.Cut(text, "/")
	if addr, err := netip.ParseAddrPort(at); err == nil {
		p := corev1.Protocol(strings.ToUpper(cmp.Or(protocol, "tcp")))
		if p != corev1.ProtocolTCP && p != corev1.ProtocolUDP && p != corev1.ProtocolSCTP {
			return a, false, admin.Blame(fmt.Errorf("%q: the protocol must be TCP, UDP or SCTP", text))
		}
		return proxy.Address{AddrPort: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), Protocol: p}, true, nil
	}
	if _, err := netip.ParseAddr(at); err == nil {
		return a, false, admin.Blame(fmt.Errorf("%q has no port: say which one is dialled, as in %s", text, netip.AddrPortFrom(netip.MustParseAddr(at), 80)))
	}
	return a, false, nil
}

// serviceKey reads [NAMESPACE/]NAME.
func serviceKey(text, namespace string) types.NamespacedName {
	if in, name, ok := strings.Cut(text, "/"); ok {
		return types.NamespacedName{Namespace: in, Name: name}
	}
	return types.NamespacedName{Namespace: namespace, Name: text}
}
