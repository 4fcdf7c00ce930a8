package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
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

// handleProxy answers what `svcplane proxy` asks.
func (n *Node) handleProxy(a *admin.Server, p *proxy.Proxy) {
	a.Handle("GET /proxy/table", func(r *http.Request) (any, error) {
		table := p.Table()
		if r.URL.Query().Get("kernel") == "true" {
			var err error
			if table, err = p.Kernel(r.Context()); err != nil {
				return nil, err
			}
		}
		name := r.URL.Query().Get("service")
		if name == "" {
			return table, nil
		}
		key := serviceKey(name, metav1.NamespaceDefault)
		if table = table.Of(key); len(table.Frontends) == 0 {
			return nil, n.hints.noAddress(r.Context(), key)
		}
		return table, nil
	})
	a.Handle("GET /proxy/counters", func(r *http.Request) (any, error) { return p.Counts(r.Context()) })
	a.Handle("POST /proxy/counters", func(r *http.Request) (any, error) {
		if err := p.Count(r.URL.Query().Get("count") == "true"); err != nil {
			return nil, err
		}
		return p.Counts(r.Context())
	})
	a.Handle("GET /proxy/diff", func(r *http.Request) (any, error) { return p.Diff(r.Context()) })
	a.Handle("POST /proxy/diff", func(r *http.Request) (any, error) { return p.Repair(r.Context()) })
	a.Handle("GET /proxy/explain", func(r *http.Request) (any, error) { return n.explainDial(r, p) })
	handleSwitch(a, n.planes, n.cfg.Proxy.Drain)
}

// handleSwitch answers `svcplane proxy switch`.
func handleSwitch(a *admin.Server, planes *switchover.Switch, drain time.Duration) {
	a.Handle("GET /proxy/switch", func(*http.Request) (any, error) { return planes.Status(), nil })
	a.Handle("POST /proxy/switch", func(r *http.Request) (any, error) {
		limit := drain
		if text := r.URL.Query().Get("drain"); text != "" {
			var err error
			if limit, err = time.ParseDuration(text); err != nil {
				return nil, admin.Blame(fmt.Errorf("--drain-timeout: %w", err))
			}
		}
		if limit < 0 {
			return nil, admin.Blame(errors.New("--drain-timeout must not be negative"))
		}
		// whoever asks may go; a switch in the middle would be turned back
		err := planes.To(context.WithoutCancel(r.Context()), r.URL.Query().Get("mode"), limit)
		return planes.Status(), err
	})
}

// explainDial answers `svcplane proxy explain`.
func (n *Node) explainDial(r *http.Request, p *proxy.Proxy) (any, error) {
	query := r.URL.Query()
	targets, key, err := n.dialled(r.Context(), query.Get("to"), query.Get("namespace"), p)
	if err != nil {
		return nil, err
	}
	from := query.Get("from")
	var clients []proxy.Client
	if name, ok := podNamed(from); ok {
		pod, addrs, err := n.hints.podToAskFrom(r.Context(), query.Get("namespace"), name)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			clients = append(clients, proxy.Client{Name: fmt.Sprintf("pod %s/%s", pod.Namespace, pod.Name), Addr: addr})
		}
	} else if from != "" {
		addr, err := netip.ParseAddr(from)
		if err != nil {
			return nil, admin.Blame(fmt.Errorf("--from %q: must be pod/NAME or an address like 192.0.2.77", from))
		}
		clients = append(clients, proxy.Client{Addr: addr.Unmap()})
	}
	all := []proxy.Explanation{}
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
		e, err := p.Explain(r.Context(), client, to)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if key.Name != "" {
		wrong, err := n.hints.mistakes(r.Context(), key)
		if err != nil {
			return nil, err
		}
		for i := range all {
			all[i].Mistakes = wrong
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--from %q has no address of the family of %s", from, query.Get("to"))
	}
	return all, nil
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
