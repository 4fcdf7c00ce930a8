package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"k8s.io/component-base/metrics/legacyregistry"

	"svcplane/address"
	"svcplane/dns"
	"svcplane/node/names"
	"svcplane/server/admin"
)

// addDNS builds the name server.
func (n *Node) addDNS() error {
	informers := n.access.Informers
	pods, err := dns.NewPodIndex(informers.Core().V1().Pods().Informer(), informers.Core().V1().Namespaces().Informer())
	if err != nil {
		return err
	}
	cfg := n.cfg.DNS
	cfg.Domain, cfg.Addrs, cfg.Port = n.cfg.Domain, n.cfg.DNSIPs, dnsPort
	cfg.Networks = slices.Concat(n.cfg.ServiceCIDRs, n.cfg.PodCIDRs)
	cfg.Catalog, cfg.Pods, cfg.NodeAddrs = n.services, pods, n.addresses.State().Node
	cfg.MaxConns, cfg.MaxWaiting = n.shares.DNSClients(), n.shares.DNSQuestions()
	if cfg.LANDomain != "" && n.cfg.Enabled(PartIngress) {
		cfg.Ingresses = informers.Networking().V1().Ingresses().Informer()
	}
	d, err := dns.New(cfg)
	if err != nil {
		return err
	}
	legacyregistry.RawMustRegister(d) // there is one server per process
	n.add(PartDNS, d)
	n.handlers = append(n.handlers, func(a *admin.Server) {
		a.Mount("/dns/", d.Handler())
		a.Handle("GET /dns/query", func(r *http.Request) (any, error) { return n.explainName(r, d) })
	})
	n.addresses.Follow("the name server", func(_ context.Context, now address.State) error { return d.SetNodeAddrs(now.Node) })
	return nil
}

// DNSAnswers is what `svcplane dns query` shows.
type DNSAnswers struct {
	Asker    string            `json:"asker"`
	Searches []string          `json:"searches,omitempty"`
	Trips    []dns.Explanation `json:"trips"`
	Hints    []string          `json:"hints,omitempty"` // what may have been meant, if no name exists
}

// explainName answers `svcplane dns query` as the resolver of a pod, or of the node, would ask: the names of the search path one after the
// other, until one exists.
func (n *Node) explainName(r *http.Request, d *dns.Server) (any, error) {
	query := r.URL.Query()
	a := DNSAnswers{Asker: "the node"}
	resolver := names.Resolver{}
	var from netip.Addr
	if pod := query.Get("pod"); pod != "" {
		p, addrs, err := n.hints.podToAskFrom(r.Context(), query.Get("namespace"), pod)
		if err != nil {
			return nil, err
		}
		from = addrs[0]
		host, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		resolver, _ = names.DNS(p, n.cfg.DNSIPs, n.cfg.Domain, names.ParseResolvConf(host))
		a.Asker, a.Searches = fmt.Sprintf("pod %s/%s (%s)", p.Namespace, p.Name, from), resolver.Searches
		if !slices.Contains(resolver.Servers, n.cfg.DNSIPs[0].String()) {
			return nil, fmt.Errorf("pod %s/%s does not ask the cluster's DNS but %s: see its dnsPolicy", p.Namespace, p.Name, strings.Join(resolver.Servers, ", "))
		}
	}
	if _, err := dns.ParseType(query.Get("type")); err != nil {
		return nil, admin.Blame(err)
	}
	for _, name := range searched(query.Get("name"), resolver) {
		e, err := d.Explain(r.Context(), name, query.Get("type"), from)
		if errors.Is(err, dns.ErrName) {
			return nil, admin.Blame(err)
		}
		if err != nil {
			return nil, err
		}
		if a.Trips = append(a.Trips, e); e.Exists() {
			return a, nil
		}
	}
	namespace := ""
	if query.Get("pod") != "" {
		namespace = query.Get("namespace")
	}
	a.Hints = n.hints.nameHints(r.Context(), query.Get("name"), namespace)
	return a, nil
}

// podNamed reads pod/NAME.
func podNamed(text string) (string, bool) {
	kind, pod, ok := strings.Cut(text, "/")
	return pod, ok && pod != "" && (kind == "pod" || kind == "pods" || kind == "po")
}

// searched lists the names that a resolver asks for, in their order (resolv.conf(5): search, ndots).
func searched(name string, r names.Resolver) []string {
	if strings.HasSuffix(name, ".") || len(r.Searches) == 0 {
		return []string{name}
	}
	ndots := 1
	for _, o := range r.Options {
		if _, err := fmt.Sscanf(o, "ndots:%d", &ndots); err == nil {
			break
		}
	}
	var list []string
	for _, s := range r.Searches {
		list = append(list, name+"."+s)
	}
	if strings.Count(name, ".") >= ndots {
		return append([]string{name}, list...)
	}
	return append(list, name)
}
