package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/printer"
	"svcplane/proxy"
)

func newProxyExplain(dataDir *string) *cobra.Command {
	var from, namespace string
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "explain ADDRESS:PORT[/PROTOCOL] | [NAMESPACE/]SERVICE[:PORT]",
		Short: "Print what becomes of a new connection, and why: which endpoints take it, whose address they see, where the kernel does it",
		Example: "  svcplane proxy explain 10.96.0.5:80\n" +
			"  svcplane proxy explain toad-svc:http --from pod/client\n" +
			"  svcplane proxy explain 192.0.2.1:30123 --from 192.0.2.77",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: arguments(serviceNames(dataDir)),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"to": args, "from": {from}, "namespace": {namespace}}
			_, err := show(cmd, how, printer.Source[[]proxy.Explanation]{
				Get: got[[]proxy.Explanation](*dataDir, "/proxy/explain", query), Table: explanations,
			})
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "who dials: pod/NAME or an address; the node itself when empty")
	cmd.Flags().StringVarP(&namespace, flagNamespace, "n", "default", "the namespace of the Service and of that pod")
	how.Register(cmd.Flags())
	return cmd
}

// explanations prints one paragraph for each address that the Service has.
func explanations(w io.Writer, all []proxy.Explanation) error {
	for i, e := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := e.Write(w); err != nil {
			return err
		}
	}
	return nil
}

// explainDial answers the command above.
func (h *house) explainDial(r *http.Request, p *proxy.Proxy) (any, error) {
	query := r.URL.Query()
	targets, key, err := h.dialled(r.Context(), query.Get("to"), query.Get("namespace"), p)
	if err != nil {
		return nil, err
	}
	from := query.Get("from")
	var clients []proxy.Client
	if name, ok := podNamed(from); ok {
		pod, addrs, err := h.podToAskFrom(r.Context(), query.Get("namespace"), name)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			clients = append(clients, proxy.Client{Name: fmt.Sprintf("pod %s/%s", pod.Namespace, pod.Name), Addr: addr})
		}
	} else if from != "" {
		addr, err := netip.ParseAddr(from)
		if err != nil {
			return nil, calledWrongly(fmt.Errorf("--from %q: must be pod/NAME or an address like 192.0.2.77", from))
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
		wrong, err := h.mistakes(r.Context(), key)
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
func (h *house) dialled(ctx context.Context, text, namespace string, p *proxy.Proxy) ([]proxy.Address, types.NamespacedName, error) {
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
		return nil, key, h.noAddress(ctx, key)
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
			return a, false, calledWrongly(fmt.Errorf("%q: the protocol must be TCP, UDP or SCTP", text))
		}
		return proxy.Address{AddrPort: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), Protocol: p}, true, nil
	}
	if _, err := netip.ParseAddr(at); err == nil {
		return a, false, calledWrongly(fmt.Errorf("%q has no port: say which one is dialled, as in %s", text, netip.AddrPortFrom(netip.MustParseAddr(at), 80)))
	}
	return a, false, nil
}
