package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/listeners"
)

// Class is the spec.loadBalancerClass of Services that are ours, besides those that name none.
const Class = "svcplane.io/node"

// PortKey is a port with its protocol.
type PortKey struct {
	Port     uint16
	Protocol corev1.Protocol
}

// String gives "80/TCP".
func (k PortKey) String() string { return fmt.Sprintf("%d/%s", k.Port, k.Protocol) }

// Node is what the decisions are made over.
type Node struct {
	Addrs []netip.Addr  // in order of preference
	Own   listeners.Set // svcplane's, whose ports no Service gets
	// Rivals lists every Service that wants the port, the one in question included (PortsOf).
	Rivals func(PortKey) []*corev1.Service
	// Listener names the local process that has the port of the address; empty: none has.
	Listener func(netip.Addr, PortKey) string
	// Holds says whether svc was given the port of the address before, so that a listener came after it.
	Holds func(svc *corev1.Service, addr netip.Addr, port PortKey) bool
}

// Decision is what a Service gets.
type Decision struct {
	Addrs   []netip.Addr // one per address family it asks for, as far as they are to be had
	Trouble string       // what is missing, who has it and how to mend it; empty: nothing
	// Listening is set when a local process is in the way: its end is announced by nobody.
	Listening bool
}

// Ours says whether the Service's address is for this controller to give.
func Ours(svc *corev1.Service) bool {
	class := svc.Spec.LoadBalancerClass
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil && (class == nil || *class == Class)
}

// Decide says which addresses of the node svc gets. The answer depends on the present objects only, never on the order
// in which they came: of two Services that want one port the older gets it.
func Decide(svc *corev1.Service, node Node) Decision {
	return (&decider{node: node, done: map[types.UID]Decision{}}).decide(svc)
}

// decider keeps the decisions it made on the way: a Service's depends on those of its older rivals.
type decider struct {
	node Node
	done map[types.UID]Decision
}

func (d *decider) decide(svc *corev1.Service) Decision {
	if made, ok := d.done[svc.UID]; ok {
		return made
	}
	var made Decision
	var troubles []string
	for _, family := range families(svc) {
		addr, trouble, listening := d.choose(svc, family)
		if addr.IsValid() {
			made.Addrs = append(made.Addrs, addr)
			continue
		}
		made.Listening = made.Listening || listening
		if !slices.Contains(troubles, trouble) {
			troubles = append(troubles, trouble)
		}
	}
	made.Trouble = strings.Join(troubles, "; ")
	d.done[svc.UID] = made
	return made
}

// choose takes the first address of the family on which all ports are free, or tells what is wrong with the first.
func (d *decider) choose(svc *corev1.Service, family corev1.IPFamily) (addr netip.Addr, trouble string, listening bool) {
	candidates, trouble := d.candidates(svc, family)
	for i, a := range candidates {
		why, byProcess := d.taken(svc, a)
		if why == "" {
			return a, "", false
		}
		listening = listening || byProcess
		if i == 0 {
			trouble = why
		}
	}
	return netip.Addr{}, trouble, listening
}

func (d *decider) candidates(svc *corev1.Service, family corev1.IPFamily) (addrs []netip.Addr, trouble string) {
	for _, a := range d.node.Addrs {
		if a.Is4() == (family == corev1.IPv4Protocol) {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Sprintf("the node has no %s address: remove it from spec.ipFamilies, or give the node one with --node-ip", family)
	}
	wanted := svc.Spec.LoadBalancerIP
	if wanted == "" {
		return addrs, ""
	}
	a, err := netip.ParseAddr(wanted)
	if err == nil && slices.Contains(addrs, a.Unmap()) {
		return []netip.Addr{a.Unmap()}, ""
	}
	return nil, fmt.Sprintf("spec.loadBalancerIP %s is not an %s address of the node: remove it, or use one of %s", wanted, family, join(d.node.Addrs))
}

// taken says who has one of svc's ports on addr, and how to mend it; empty: they are all free.
func (d *decider) taken(svc *corev1.Service, addr netip.Addr) (why string, byProcess bool) {
	for _, port := range servicePorts(svc) {
		if own, ok := d.node.Own.Find(addr, port.Port, port.Protocol); ok {
			return fmt.Sprintf("port %s of %s belongs to %s: use another port, or move that one", port, addr, own), false
		}
		if other, how := d.rival(svc, addr, port); other != nil {
			return fmt.Sprintf("port %s of %s is taken by %s of Service %s/%s: use another port, or delete or change that Service",
				port, addr, how, other.Namespace, other.Name), false
		}
		if d.node.Holds(svc, addr, port) {
			continue
		}
		if process := d.node.Listener(addr, port); process != "" {
			return fmt.Sprintf("port %s of %s is taken by %s: use another port, or stop it", port, addr, process), true
		}
	}
	return "", false
}

// rival finds the Service that comes before svc on a port, and what it has there.
func (d *decider) rival(svc *corev1.Service, addr netip.Addr, port PortKey) (other *corev1.Service, how string) {
	for _, r := range d.node.Rivals(port) {
		switch {
		case r.UID == svc.UID || r.DeletionTimestamp != nil:
		case slices.Contains(nodePorts(r), port):
			return r, "the node port"
		case slices.Contains(servicePorts(r), port) && slices.Contains(r.Spec.ExternalIPs, addr.String()) && before(r, svc):
			return r, "the external address"
		case Ours(r) && slices.Contains(servicePorts(r), port) && before(r, svc) && slices.Contains(d.decide(r).Addrs, addr):
			return r, "the load balancer"
		}
	}
	return nil, ""
}

// before orders Services by age. Ages count whole seconds; of two made in one second, the one that has an address goes
// first, then the one that comes first by name.
func before(a, b *corev1.Service) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	if ha, hb := len(a.Status.LoadBalancer.Ingress) > 0, len(b.Status.LoadBalancer.Ingress) > 0; ha != hb {
		return ha
	}
	return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
}

// PortsOf lists the ports through which svc can be in another Service's way on the node's addresses.
func PortsOf(svc *corev1.Service) []PortKey {
	ports := nodePorts(svc)
	if Ours(svc) || len(svc.Spec.ExternalIPs) > 0 {
		ports = append(ports, servicePorts(svc)...)
	}
	return ports
}

func servicePorts(svc *corev1.Service) []PortKey {
	ports := make([]PortKey, 0, len(svc.Spec.Ports))
	for _, p := range svc.Spec.Ports {
		ports = append(ports, PortKey{Port: uint16(p.Port), Protocol: protocol(p.Protocol)})
	}
	return ports
}

func nodePorts(svc *corev1.Service) []PortKey {
	var ports []PortKey
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			ports = append(ports, PortKey{Port: uint16(p.NodePort), Protocol: protocol(p.Protocol)})
		}
	}
	return ports
}

func families(svc *corev1.Service) []corev1.IPFamily {
	if len(svc.Spec.IPFamilies) == 0 {
		return []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return svc.Spec.IPFamilies
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func join(addrs []netip.Addr) string {
	texts := make([]string, 0, len(addrs))
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}
