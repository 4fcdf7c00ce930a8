package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// Values of SRV records, which the specification leaves to us (RFC 2782).
const (
	srvPriority = 0
	srvWeight   = 100
)

// entryBuilder collects the names of one Service.
type entryBuilder struct {
	ttl    uint32
	svc    *catalog.Service
	full   string // the Service's name in wire form
	nodes  draft
	failed []error
}

// serviceKey is how the zone finds a Service: the labels of its name and namespace.
func serviceKey(key catalog.Key) string { return label(key.Name) + label(key.Namespace) }

// buildEntry makes the names of a Service below domain (wire form), section by section of the Kubernetes
// DNS specification 1.1.0. An error names what could not be expressed; the entry has everything else.
func buildEntry(svc *catalog.Service, domain string, ttl uint32) (*entry, error) {
	e := &entry{key: serviceKey(svc.Key), triggered: svc.Triggered, headless: svc.Headless}
	b := &entryBuilder{ttl: ttl, svc: svc, nodes: draft{}, full: e.key + svcLabel + domain}
	switch {
	case svc.Type == corev1.ServiceTypeExternalName:
		b.externalName()
	case svc.Headless:
		b.headless()
	default:
		b.clusterIP()
	}
	e.packed = b.nodes.pack()
	return e, errors.Join(b.failed...)
}

// clusterIP: section 2.3, and the endpoints' own names, which the documentation of Kubernetes promises for
// every Service ("DNS for Services and Pods", A/AAAA records of pods exposed by a Service).
func (b *entryBuilder) clusterIP() {
	if len(b.svc.ClusterIPs) == 0 {
		return // not allocated yet
	}
	self := b.nodes.at()
	for _, ip := range b.svc.ClusterIPs {
		self.address(ip, b.ttl)
	}
	for _, p := range b.svc.Ports {
		if p.Name == "" {
			continue
		}
		port, proto := srvLabels(p)
		srv := b.nodes.at(port, proto).set(dns.TypeSRV)
		b.target(srv, p.Port, b.full)
		for _, ip := range b.svc.ClusterIPs {
			srv.addExtra(pointer(headerLen+len(port)+len(proto)), ip, b.ttl)
		}
	}
	for _, host := range b.svc.Hosts {
		if b.published(host) {
			b.nodes.at(endpointLabel(host)).address(host.Addr(), b.ttl)
		}
	}
}

// headless: section 2.4. Without a ready endpoint there is no name at all (section 2.4.1).
func (b *entryBuilder) headless() {
	byLabel := map[string][]netip.Addr{}
	for _, host := range b.svc.Hosts {
		if !b.published(host) {
			continue
		}
		name := endpointLabel(host)
		b.nodes.at().address(host.Addr(), b.ttl)
		b.nodes.at(name).address(host.Addr(), b.ttl)
		byLabel[name] = append(byLabel[name], host.Addr())
	}
	for _, p := range b.svc.Ports {
		if p.Name != "" {
			b.headlessPort(p, byLabel)
		}
	}
}

func (b *entryBuilder) headlessPort(p catalog.Port, byLabel map[string][]netip.Addr) {
	type target struct {
		name string
		port uint16
	}
	seen, extra := map[target]bool{}, map[string]bool{}
	port, proto := srvLabels(p)
	for _, ep := range p.Endpoints {
		t := target{endpointLabel(ep), ep.Port()}
		if !b.published(ep) || seen[t] { // a dual-stack pod has one name and two addresses
			continue
		}
		seen[t] = true
		srv := b.nodes.at(port, proto).set(dns.TypeSRV)
		b.target(srv, t.port, t.name+b.full)
		if extra[t.name] {
			continue
		}
		extra[t.name] = true
		owner := t.name + pointer(headerLen+len(port)+len(proto))
		for _, ip := range byLabel[t.name] {
			srv.addExtra(owner, ip, b.ttl)
		}
	}
}

// externalName: section 2.5.
func (b *entryBuilder) externalName() {
	target, err := wireName(b.svc.ExternalName)
	if err != nil {
		b.failed = append(b.failed, fmt.Errorf("external name of service %s cannot be a DNS name, correct spec.externalName: %w", b.svc.Key, err))
		return
	}
	b.nodes.at().set(dns.TypeCNAME).add(pointer(headerLen), dns.TypeCNAME, b.ttl, target)
}

// target adds an SRV record; the target is never compressed (RFC 2782).
func (b *entryBuilder) target(srv *rrset, port uint16, name string) {
	if len(name) > maxName {
		b.failed = append(b.failed, fmt.Errorf("service %s: the name %s is longer than DNS allows, shorten the cluster domain", b.svc.Key, textName([]byte(name))))
		return
	}
	fields := make([]byte, 0, 6+len(name))
	for _, v := range []uint16{srvPriority, srvWeight, port} {
		fields = binary.BigEndian.AppendUint16(fields, v)
	}
	srv.add(pointer(headerLen), dns.TypeSRV, b.ttl, string(append(fields, name...)))
}

// published says whether an endpoint has a name: section 2.1, _ready_.
func (b *entryBuilder) published(ep catalog.Endpoint) bool { return ep.Ready || b.svc.PublishNotReady }

// endpointLabel is the _hostname_ of section 2.1; the identifier we assign is the address with dashes,
// which is what CoreDNS does.
func endpointLabel(ep catalog.Endpoint) string {
	if l := label(ep.Hostname); l != "" {
		return l
	}
	return label(strings.NewReplacer(".", "-", ":", "-").Replace(ep.Addr().String()))
}

func srvLabels(p catalog.Port) (port, proto string) {
	return label("_" + p.Name), label("_" + string(p.Protocol))
}
