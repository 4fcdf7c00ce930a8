package server

import (
	"context"
	"errors"
	"fmt"
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
		admin.ExplainName.Handle(a, func(ctx context.Context, r admin.ExplainRequest) ([]admin.Explanation, error) {
			return n.explainName(ctx, r, d)
		})
	})
	n.addresses.Follow("the name server", func(_ context.Context, now address.State) error { return d.SetNodeAddrs(now.Node) })
	return nil
}

// explainName asks as the resolver of a pod, or of the node, would: for the names of the search path one after the other, until
// one exists.
func (n *Node) explainName(ctx context.Context, r admin.ExplainRequest, d *dns.Server) ([]admin.Explanation, error) {
	resolver, from, asker, err := n.resolverOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if _, err := dns.ParseType(r.Type); err != nil {
		return nil, admin.Blame(err)
	}
	var all []admin.Explanation
	for _, name := range searched(r.To, resolver) {
		e, err := d.Explain(ctx, name, r.Type, from)
		if errors.Is(err, dns.ErrName) {
			return nil, admin.Blame(err)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, admin.Explanation{
			Part: PartDNS, From: asker, To: e.Name + " " + e.Type, Outcome: e.Rcode, Steps: admin.Sentences(admin.StepDecision, e.Why),
			Records: e.Records, Searches: resolver.Searches,
		})
		if e.Exists() {
			return all, nil
		}
	}
	namespace := ""
	if r.From != "" {
		namespace = r.Namespace
	}
	all[len(all)-1].Hints = n.hints.nameHints(ctx, r.To, namespace)
	return all, nil
}

// resolverOf is how names are looked up by the pod that asks, its address, and what it is called.
func (n *Node) resolverOf(ctx context.Context, r admin.ExplainRequest) (resolver names.Resolver, from netip.Addr, asker string, err error) {
	if r.From == "" {
		return resolver, from, "the node", nil
	}
	pod, ok := admin.PodNamed(r.From)
	if !ok {
		return resolver, from, "", admin.Blame(fmt.Errorf("--from %q: must be pod/NAME", r.From))
	}
	p, addrs, err := n.hints.podToAskFrom(ctx, r.Namespace, pod)
	if err != nil {
		return resolver, from, "", err
	}
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return resolver, from, "", err
	}
	resolver, _ = names.DNS(p, n.cfg.DNSIPs, n.cfg.Domain, names.ParseResolvConf(host))
	if !slices.Contains(resolver.Servers, n.cfg.DNSIPs[0].String()) {
		return resolver, from, "", fmt.Errorf("pod %s/%s does not ask the cluster's DNS but %s: see its dnsPolicy", p.Namespace, p.Name, strings.Join(resolver.Servers, ", "))
	}
	return resolver, addrs[0], fmt.Sprintf("pod %s/%s (%s)", p.Namespace, p.Name, addrs[0]), nil
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
