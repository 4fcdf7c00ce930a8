package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	"svcplane/catalog"
)

// Kind is the field of a Service that asks for an Address.
type Kind uint8

// The Kinds, in the order in which those of Services of one age have an Address.
const (
	ClusterIP Kind = iota
	NodePort
	LoadBalancerIP
	ExternalIP
)

func (k Kind) String() string {
	return [...]string{"cluster IP", "node port", "load-balancer address", "external IP"}[k]
}

// reason is that of the Event which says that a Service does not get an Address.
func (k Kind) reason() string {
	return [...]string{"ClusterIPNotAvailable", "NodePortNotAvailable", "LoadBalancerAddressNotAvailable", "ExternalIPNotAvailable"}[k]
}

// given says whether the API allocates such Addresses itself, each once. Those that a Service's author writes into it can be
// anything.
func (k Kind) given() bool { return k == ClusterIP || k == NodePort }

// asked is an Address that a port of a Service asks for.
type asked struct {
	Address
	kind Kind
}

// asks lists what a port asks for, load-balancer addresses last: of one Address listed twice the last counts, and theirs
// is the one with source ranges.
func asks(svc *catalog.Service, port *catalog.Port, node Node) []asked {
	var all []asked
	add := func(kind Kind, addrs []netip.Addr, number uint16) {
		for _, addr := range addrs {
			all = append(all, asked{Address{netip.AddrPortFrom(addr, number), port.Protocol}, kind})
		}
	}
	add(ClusterIP, svc.ClusterIPs, port.Port)
	if port.NodePort != 0 {
		add(NodePort, node.Addrs, port.NodePort)
	}
	add(ExternalIP, externalIPs(svc, node), port.Port)
	add(LoadBalancerIP, svc.LoadBalancerIPs, port.Port)
	return all
}

// Refusal is an Address that a Service asks for and does not get, whoever else asks for it.
type Refusal struct {
	Address
	Kind Kind
	Why  string // who has it, and how to mend it
}

// Refusals are those of a Service; Build leaves their Addresses out.
func Refusals(svc *catalog.Service, node Node) []Refusal {
	if foreign(svc) {
		return nil
	}
	var all []Refusal
	for i := range svc.Ports {
		for _, a := range asks(svc, &svc.Ports[i], node) {
			if why := node.refuses(a); why != "" {
				all = append(all, Refusal{Address: a.Address, Kind: a.kind, Why: why})
			}
		}
	}
	return all
}

// foreign says that a Service is not for this proxy.
func foreign(svc *catalog.Service) bool {
	return svc.ForeignProxy || svc.Headless || svc.ExternalName != ""
}

// written lists the Addresses that a Service's author wrote into it, and the API did not allocate.
func written(svc *catalog.Service, node Node) map[Address]Kind {
	if foreign(svc) || len(svc.ExternalIPs)+len(svc.LoadBalancerIPs) == 0 {
		return nil
	}
	all, given := map[Address]Kind{}, []Address(nil)
	for i := range svc.Ports {
		for _, a := range asks(svc, &svc.Ports[i], node) {
			if a.kind.given() {
				given = append(given, a.Address)
			} else {
				all[a.Address] = a.kind
			}
		}
	}
	for _, addr := range given {
		delete(all, addr)
	}
	return all
}

// refuses says why no Service gets an Address, "" where nothing is in the way: what svcplane itself listens on, what
// belongs to the machine or to the cluster.
func (n Node) refuses(a asked) string {
	addr := a.Addr()
	if own, ok := n.own(a.Address); ok {
		return fmt.Sprintf("port %d/%s of %s belongs to %s: use another port, or move that one", a.Port(), a.Protocol, addr, own)
	}
	if a.kind.given() {
		return ""
	}
	what := ""
	switch {
	case addr.IsUnspecified(), addr.IsLoopback(), addr.IsLinkLocalUnicast(), addr.IsMulticast():
		what = "is not an address that clients elsewhere can dial"
	case containsAddr(n.ServiceCIDRs, addr):
		what = fmt.Sprintf("is in the range of cluster IPs (%s), which the API gives out", joined(n.ServiceCIDRs))
	case containsAddr(n.PodCIDRs, addr) && !n.has(addr): // the node has one of them while the machine has no other
		what = fmt.Sprintf("is in the range of pods (%s)", joined(n.PodCIDRs))
	case n.Others[addr] != "":
		what = "is an address of node " + n.Others[addr]
	default:
		return ""
	}
	return fmt.Sprintf("%s %s: use another address", addr, what)
}

// own finds which of svcplane's listeners has an Address.
func (n Node) own(a Address) (fmt.Stringer, bool) {
	l, ok := n.Own.Find(a.Addr(), a.Port(), a.Protocol)
	return l, ok && (!l.Everywhere() || n.has(a.Addr()))
}

// has says whether an address is the machine's.
func (n Node) has(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.Contains(n.Addrs, addr) || slices.Contains(n.Local, addr)
}
