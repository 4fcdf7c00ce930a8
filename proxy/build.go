package proxy

import (
	"net/netip"
	"slices"
	"time"

	"svcplane/catalog"
	"svcplane/listeners"
)

// Node is the node that a data plane works for.
type Node struct {
	Name string
	Zone string // topology.kubernetes.io/zone; empty: unknown
	// Addrs are the node's own addresses that NodePorts are served on.
	Addrs []netip.Addr
	// PodCIDRs are the addresses of all pods of the cluster, ServiceCIDRs those that ClusterIPs come from.
	PodCIDRs     []netip.Prefix
	ServiceCIDRs []netip.Prefix
	// MasqueradeAll replaces the client's address also for pods that dial a ClusterIP.
	MasqueradeAll bool
	// NoExternalIPs leaves spec.externalIPs out.
	NoExternalIPs bool
	// Own are svcplane's own listeners, whose addresses no Service gets.
	Own listeners.Set
	// Local are all addresses of the machine, besides Addrs and loopback: what listens everywhere is met there.
	Local []netip.Addr
	// Others are the addresses of other nodes, with their names.
	Others map[netip.Addr]string
}

// Build decides what the kernel of node has to do for svc. The result is sorted by ID and empty for a
// Service that is no business of a proxy: headless, ExternalName, or another proxy's.
//
// The rules are those of Kubernetes' Service API: internalTrafficPolicy (KEP-2086), externalTrafficPolicy
// with terminating endpoints (KEP-1669) and pod traffic to external addresses treated as internal,
// topology hints (KEP-2433), trafficDistribution (KEP-4444), load-balancer source ranges. What Refusals lists is left out.
func Build(svc *catalog.Service, node Node) []Frontend {
	if foreign(svc) {
		return nil
	}
	var all []Frontend
	for i := range svc.Ports {
		all = append(all, buildPort(svc, &svc.Ports[i], node)...)
	}
	return NewTable(all...).Frontends
}

func buildPort(svc *catalog.Service, port *catalog.Port, node Node) []Frontend {
	var all []Frontend
	for _, a := range asks(svc, port, node) {
		if node.refuses(a) != "" {
			continue
		}
		switch a.kind {
		case ClusterIP:
			all = append(all, clusterFrontend(svc, port, node, a.Addr()))
		case LoadBalancerIP:
			all = append(all, externalFrontends(svc, port, node, a.AddrPort, svc.SourceRanges)...)
		default:
			all = append(all, externalFrontends(svc, port, node, a.AddrPort, nil)...)
		}
	}
	return all
}

func externalIPs(svc *catalog.Service, node Node) []netip.Addr {
	if node.NoExternalIPs {
		return nil
	}
	return svc.ExternalIPs
}

func clusterFrontend(svc *catalog.Service, port *catalog.Port, node Node, addr netip.Addr) Frontend {
	found := categorize(port.Endpoints, addr.Is4(), node)
	endpoints := found.cluster
	if svc.InternalLocal {
		endpoints = found.local
	}
	masquerade := MasqueradeOutsidePods
	if node.MasqueradeAll {
		masquerade = MasqueradeEverybody
	}
	return frontend(svc, port, netip.AddrPortFrom(addr, port.Port), Everywhere, endpoints, found.any, masquerade)
}

// externalFrontends are one Frontend for everybody, or two where clients of the cluster are treated
// differently from those outside: with externalTrafficPolicy Local the former use all endpoints.
func externalFrontends(svc *catalog.Service, port *catalog.Port, node Node, dial netip.AddrPort, ranges []netip.Prefix) []Frontend {
	found := categorize(port.Endpoints, dial.Addr().Is4(), node)
	var all []Frontend
	if svc.ExternalLocal && found.any {
		all = append(all,
			frontend(svc, port, dial, Internal, found.cluster, true, MasqueradeOutsidePods),
			frontend(svc, port, dial, External, found.local, true, MasqueradeHairpin))
	} else {
		all = append(all, frontend(svc, port, dial, Everywhere, found.cluster, found.any, MasqueradeEverybody))
	}
	for i := range all {
		restrict(&all[i], ranges)
	}
	return all
}

func frontend(svc *catalog.Service, port *catalog.Port, dial netip.AddrPort, scope Scope, endpoints []Endpoint, elsewhere bool, masquerade Masquerade) Frontend {
	f := Frontend{
		ID:       ID{Address: Address{AddrPort: dial, Protocol: port.Protocol}, Scope: scope},
		Service:  svc.Key,
		PortName: port.Name,
	}
	switch {
	case len(endpoints) > 0:
		f.Masquerade, f.Endpoints = masquerade, endpoints
		f.Affinity = svc.Affinity.Truncate(time.Second)
	case elsewhere:
		// upstream drops here too, so that clients try again while a load balancer learns of it
		f.Verdict = Drop
	default:
		f.Verdict = Reject
	}
	return f
}

// restrict limits f to the ranges of its family. If all ranges are of the other family, no client is left, and f drops.
func restrict(f *Frontend, ranges []netip.Prefix) {
	if len(ranges) == 0 || f.Verdict == Drop {
		return
	}
	var allowed []netip.Prefix
	for _, r := range ranges {
		if r.Addr().Is4() != f.Addr().Is4() {
			continue
		}
		if r.Bits() == 0 {
			return
		}
		allowed = append(allowed, r.Masked())
	}
	if len(allowed) == 0 {
		*f = Frontend{ID: f.ID, Service: f.Service, PortName: f.PortName, Verdict: Drop}
		return
	}
	slices.SortFunc(allowed, func(a, b netip.Prefix) int { return a.Compare(b) })
	f.SourceRanges = slices.Compact(allowed)
}
