package server

import (
	"context"
	"net/netip"
	"slices"

	"k8s.io/component-base/metrics/legacyregistry"

	"svcplane/address"
	"svcplane/proxy"
	"svcplane/server/admin"
)

// nodePortAddrs are the addresses that NodePorts answer on.
func (c *ProxyConfig) nodePortAddrs(now address.State) []netip.Addr {
	if len(c.NodePortRanges) == 0 {
		return now.Node
	}
	var all []netip.Addr
	for _, r := range c.NodePortRanges {
		for _, a := range now.Machine {
			if r.Contains(a) && !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

func (n *Node) addProxy() error {
	c := n.cfg
	cfg := proxy.Config{
		Catalog: n.services, Dataplane: n.planes, Recorder: n.access.recorder("svcplane-proxy", c.NodeName), Metrics: proxy.NewMetrics(),
		Health: c.Proxy.Health, LoopbackNodePorts: c.Proxy.LoopbackNodePorts,
		Nodes: n.access.Informers.Core().V1().Nodes().Informer(),
		Node: proxy.Node{
			Name: c.NodeName, Addrs: c.Proxy.nodePortAddrs(n.addresses.State()), NoExternalIPs: c.Proxy.NoExternalIPs,
			PodCIDRs: c.PodCIDRs, ServiceCIDRs: c.ServiceCIDRs, Own: c.listeners(),
		},
	}
	p, err := proxy.New(cfg)
	if err != nil {
		return err
	}
	legacyregistry.RawMustRegister(cfg.Metrics) // there is one server per process
	legacyregistry.RawMustRegister(n.planes)
	n.add(PartProxy, proxyPart{p, n.planes})
	n.handlers = append(n.handlers, func(a *admin.Server) { n.handleProxy(a, p) })
	n.addresses.Follow("the data plane", func(ctx context.Context, now address.State) error { return n.planes.SetSource(ctx, now.Node) })
	n.addresses.Follow("NodePorts", func(ctx context.Context, now address.State) error {
		return p.SetAddrs(ctx, c.Proxy.nodePortAddrs(now))
	})
	return nil
}
