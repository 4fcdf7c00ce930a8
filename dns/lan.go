package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"svcplane/catalog"
)

// lanZone holds the names that machines around the node may ask for: NAME.NAMESPACE.DOMAIN of LoadBalancer Services
// with their external addresses, and the hosts of Ingresses, also those in other domains, with the addresses that the
// ingress is reached at.
type lanZone struct {
	domain string // wire form
	ttl    uint32
	serial atomic.Uint32

	mu      sync.RWMutex
	node    []netip.Addr         // where an Ingress without a status is reached
	sources map[string][]lanName // who says what
	names   map[string]*lanNode  // by name in wire form, "\x01*" and all
}

// lanName is one name that a source gives to addresses.
type lanName struct {
	wire  string
	addrs []netip.Addr
}

// lanNode is one name. It is there while a source names it, or a name below it.
type lanNode struct {
	node
	said  map[string][]netip.Addr // by source
	below int
}

func newLANZone(domain string, server []netip.Addr, ttl uint32) *lanZone {
	z := &lanZone{
		domain: domain, ttl: ttl, node: server,
		sources: map[string][]lanName{}, names: map[string]*lanNode{},
	}
	z.put("apex", []lanName{{domain, nil}, {"\x02ns\x03dns" + domain, server}})
	return z
}

// move follows the node's addresses.
func (z *lanZone) move(node []netip.Addr) {
	z.mu.Lock()
	z.node = node
	z.mu.Unlock()
	z.put("apex", []lanName{{z.domain, nil}, {"\x02ns\x03dns" + z.domain, node}})
}

// moveIngresses gives the hosts of Ingresses without a status the addresses of the node.
func (z *lanZone) moveIngresses(ingresses toolscache.Store) {
	for _, key := range ingresses.ListKeys() {
		if o, ok, err := ingresses.GetByKey(key); err == nil && ok {
			in := o.(*networkingv1.Ingress)
			z.putIngress(catalog.Key{Namespace: in.Namespace, Name: in.Name}, in)
		}
	}
}

// put replaces what a source says; its cost does not depend on how many others there are.
func (z *lanZone) put(source string, names []lanName) {
	z.mu.Lock()
	defer z.mu.Unlock()
	before := z.sources[source]
	if slices.EqualFunc(before, names, func(a, b lanName) bool { return a.wire == b.wire && slices.Equal(a.addrs, b.addrs) }) {
		return
	}
	z.serial.Add(1)
	if z.sources[source] = names; len(names) == 0 {
		delete(z.sources, source)
	}
	for _, n := range names { // first in, then out: what stays is never missing
		z.change(n.wire, func(l *lanNode) { l.said[source] = n.addrs })
	}
	for _, n := range before {
		if !slices.ContainsFunc(names, func(now lanName) bool { return now.wire == n.wire }) {
			z.change(n.wire, func(l *lanNode) { delete(l.said, source) })
		}
	}
}

// change applies do to a copy of a name, rebuilds its records, and keeps the names above it; z.mu is held.
func (z *lanZone) change(wire string, do func(*lanNode)) {
	old := z.names[wire]
	l := &lanNode{said: map[string][]netip.Addr{}}
	if old != nil {
		l.below = old.below
		for source, addrs := range old.said {
			l.said[source] = addrs
		}
	}
	do(l)
	var addrs []netip.Addr
	for _, more := range l.said {
		for _, addr := range more {
			if !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	records := draft{}
	name := records.at()
	for _, addr := range addrs {
		name.address(addr, z.ttl)
	}
	packed := entry{packed: records.pack()}
	l.node = packed.at(0)
	z.store(wire, l)
	if was, is := old != nil && len(old.said) > 0, len(l.said) > 0; was != is {
		z.above(wire, is)
	}
}

// store keeps a node as long as there is a reason to.
func (z *lanZone) store(wire string, l *lanNode) {
	if z.names[wire] = l; len(l.said) == 0 && l.below == 0 {
		delete(z.names, wire)
	}
}

// above counts a name in, or out, at every name between it and the domain: those exist with it (RFC 8020).
func (z *lanZone) above(wire string, is bool) {
	for strings.HasSuffix(wire, z.domain) && len(wire) > len(z.domain) {
		wire = wire[1+int(wire[0]):]
		l := &lanNode{said: map[string][]netip.Addr{}}
		if old := z.names[wire]; old != nil {
			*l = *old
		}
		if l.below++; !is {
			l.below -= 2
		}
		z.store(wire, l)
	}
}

// answer looks a question up. Outside of the domain only the hosts themselves are ours, and of those only the
// addresses: the rest is their domain's business.
func (z *lanZone) answer(q *question, a *answer) (ours bool) {
	at, in := q.within(z.domain)
	z.mu.RLock()
	l := z.names[string(q.wire())]
	if l == nil && q.labels > 1 { // a wildcard of an Ingress stands for one label
		l = z.names["\x01*"+string(q.name[q.starts[1]:q.length])]
	}
	z.mu.RUnlock()
	if !in && (l == nil || (q.qtype != dns.TypeA && q.qtype != dns.TypeAAAA)) {
		return false
	}
	if !in {
		at = 0
	}
	a.apex, a.domain, a.serial, a.ttl = at, z.domain, z.serial.Load(), z.ttl
	switch {
	case l == nil:
		a.rcode = dns.RcodeNameError
	case in && at == 0 && q.qtype == dns.TypeSOA:
		a.soa = true
	default:
		a.choose(l.set(q.qtype))
	}
	return true
}

// putService gives a LoadBalancer Service its name.
func (z *lanZone) putService(key catalog.Key, svc *catalog.Service) {
	var names []lanName
	if svc != nil && svc.Type == corev1.ServiceTypeLoadBalancer {
		var addrs []netip.Addr
		for _, addr := range slices.Concat(svc.LoadBalancerIPs, svc.ExternalIPs) {
			if !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
		if wire := serviceKey(key) + z.domain; len(addrs) > 0 && len(wire) <= maxName {
			names = []lanName{{wire, addrs}}
		}
	}
	z.put("service "+key.String(), names)
}

// putIngress gives the hosts of an Ingress their addresses; nil takes them away.
func (z *lanZone) putIngress(key catalog.Key, in *networkingv1.Ingress) {
	var names []lanName
	if in != nil {
		addrs := z.reachedAt(in)
		for _, rule := range in.Spec.Rules {
			wire, err := wireName(rule.Host)
			if err == nil && rule.Host != "" && !slices.ContainsFunc(names, func(n lanName) bool { return n.wire == wire }) {
				names = append(names, lanName{wire, addrs})
			}
		}
	}
	z.put("ingress "+key.String(), names)
}

// reachedAt gives the addresses in the status of an Ingress, and the node's until there are any.
func (z *lanZone) reachedAt(in *networkingv1.Ingress) []netip.Addr {
	var addrs []netip.Addr
	for _, at := range in.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(at.IP); err == nil {
			addrs = append(addrs, addr.Unmap())
		}
	}
	if len(addrs) == 0 {
		z.mu.RLock()
		defer z.mu.RUnlock()
		return z.node
	}
	return addrs
}

// followIngresses keeps the hosts as the Ingresses are.
func (z *lanZone) followIngresses(ingresses toolscache.SharedIndexInformer) error {
	put := func(o any, gone bool) {
		in, ok := o.(*networkingv1.Ingress)
		if !ok {
			return
		}
		key := catalog.Key{Namespace: in.Namespace, Name: in.Name}
		if gone {
			in = nil
		}
		z.putIngress(key, in)
	}
	_, err := ingresses.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { put(o, false) },
		UpdateFunc: func(_, o any) { put(o, false) },
		DeleteFunc: func(o any) {
			if last, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			put(o, true)
		},
	})
	if err != nil {
		return fmt.Errorf("dns: watching ingresses for their hosts: %w", err)
	}
	return nil
}
