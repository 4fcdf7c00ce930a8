package dns

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// Values of SRV records, which the specification leaves to us (RFC 2782).
const (
	srvPriority = 0
	srvWeight   = 100
)

// rrset is the records of one type at one name, ready to be copied behind a question for that name: their
// owner is a pointer to the question. It is immutable once it is packed.
type rrset struct {
	data  []byte
	extra *rrset // the addresses of SRV targets, for the additional section
	n     int32
	typ   uint16
}

// add appends one record.
func (s *rrset) add(owner string, typ uint16, ttl uint32, rdata string) {
	s.data = appendRR(s.data, owner, typ, ttl, rdata)
	s.n++
}

// from gives the offset in data of record i. Addresses have all the same length; records of other types are few, or as
// long as names are.
func (s *rrset) from(i int) int {
	if s.typ == dns.TypeA || s.typ == dns.TypeAAAA {
		return i * (len(s.data) / int(s.n))
	}
	at := 0
	for range i {
		at = recordEnd(s.data, at)
	}
	return at
}

// recordEnd gives the offset behind the record of ours that begins at at.
func recordEnd(data []byte, at int) int {
	_, end, _ := skipRR(data, at)
	return end
}

// node is one name: the Service's own or one below it. One without sets is an empty non-terminal.
type node struct {
	prefix string // lower-case labels in front of the Service's name, wire form; "" is the Service itself
	sets   []rrset
}

// set finds the records of a type; nil when there are none.
func (n *node) set(typ uint16) *rrset {
	for i := range n.sets {
		if n.sets[i].typ == typ {
			return &n.sets[i]
		}
	}
	return nil
}

// alias is the target in wire form if the name is an alias, which has nothing else.
func (n *node) alias() []byte {
	if len(n.sets) == 1 && n.sets[0].typ == dns.TypeCNAME {
		return n.sets[0].data[fixedLen:]
	}
	return nil
}

// pack puts all records of some names in one piece of memory: there are many names, each with a few octets.
func pack(nodes []*node) {
	count, octets := 0, 0
	for _, n := range nodes {
		for i := range n.sets {
			for s := &n.sets[i]; s != nil; s = s.extra {
				count++
				octets += len(s.data)
			}
		}
	}
	sets, data := make([]rrset, 0, count), make([]byte, 0, octets)
	keep := func(s rrset) {
		from := len(data)
		data = append(data, s.data...)
		s.data = data[from:len(data):len(data)]
		sets = append(sets, s)
	}
	for _, n := range nodes {
		from := len(sets)
		for _, s := range n.sets {
			keep(s)
		}
		n.sets = sets[from:len(sets):len(sets)]
		for i := range n.sets {
			if x := n.sets[i].extra; x != nil {
				keep(*x)
				n.sets[i].extra = &sets[len(sets)-1]
			}
		}
	}
}

// entry is everything that the zone says about one Service. It is immutable; one without nodes stands for
// a Service that has no name at present.
type entry struct {
	key       string    // the labels of the Service's name and namespace, see serviceKey
	triggered time.Time // what the endpoints were made for happened then; zero: not known
	headless  bool
	nodes     []node // sorted by prefix
}

// pointers visits the addresses that are to be called by a name of the Service: those of its own name, or of every
// endpoint's if it is headless (sections 2.3.3 and 2.4.3).
func (e *entry) pointers(visit func(addr netip.Addr, n *node)) {
	for i := range e.nodes {
		n := &e.nodes[i]
		if (n.prefix == "") == e.headless {
			continue
		}
		for _, s := range n.sets {
			if s.typ != dns.TypeA && s.typ != dns.TypeAAAA {
				continue
			}
			for at := 0; at < len(s.data); {
				end := recordEnd(s.data, at)
				addr, _ := netip.AddrFromSlice(s.data[at+fixedLen : end])
				visit(addr, n)
				at = end
			}
		}
	}
}

// node finds the name with the given labels in front of the Service's.
func (e *entry) node(prefix []byte) *node {
	i := sort.Search(len(e.nodes), func(i int) bool { return e.nodes[i].prefix >= string(prefix) })
	if i == len(e.nodes) || e.nodes[i].prefix != string(prefix) {
		return nil
	}
	return &e.nodes[i]
}

// entryBuilder collects the names of one Service.
type entryBuilder struct {
	ttl    uint32
	svc    *catalog.Service
	full   string // the Service's name in wire form
	nodes  map[string]*node
	failed []error
}

// serviceKey is how the zone finds a Service: the labels of its name and namespace.
func serviceKey(key catalog.Key) string { return label(key.Name) + label(key.Namespace) }

// buildEntry makes the names of a Service below domain (wire form), section by section of the Kubernetes
// DNS specification 1.1.0. An error names what could not be expressed; the entry has everything else.
func buildEntry(svc *catalog.Service, domain string, ttl uint32) (*entry, error) {
	e := &entry{key: serviceKey(svc.Key), triggered: svc.Triggered, headless: svc.Headless}
	b := &entryBuilder{ttl: ttl, svc: svc, nodes: map[string]*node{}, full: e.key + svcLabel + domain}
	switch {
	case svc.Type == corev1.ServiceTypeExternalName:
		b.externalName()
	case svc.Headless:
		b.headless()
	default:
		b.clusterIP()
	}
	sorted := slices.SortedFunc(maps.Values(b.nodes), func(a, c *node) int { return cmp.Compare(a.prefix, c.prefix) })
	pack(sorted)
	e.nodes = make([]node, len(sorted))
	for i, n := range sorted {
		e.nodes[i] = *n
	}
	return e, errors.Join(b.failed...)
}

// at gives the node for a prefix, with every name between it and the Service (empty non-terminals).
func (b *entryBuilder) at(labels ...string) *node {
	for i := len(labels) - 1; i >= 0; i-- {
		if p := strings.Join(labels[i:], ""); b.nodes[p] == nil {
			b.nodes[p] = &node{prefix: p}
		}
	}
	p := strings.Join(labels, "")
	if b.nodes[p] == nil {
		b.nodes[p] = &node{prefix: p}
	}
	return b.nodes[p]
}

func (n *node) mutable(typ uint16) *rrset {
	if s := n.set(typ); s != nil {
		return s
	}
	n.sets = append(n.sets, rrset{typ: typ})
	return &n.sets[len(n.sets)-1]
}

// rdataOf gives an address's record type and data.
func rdataOf(addr netip.Addr) (uint16, string) {
	if addr.Is4() {
		return dns.TypeA, string(addr.AsSlice())
	}
	return dns.TypeAAAA, string(addr.AsSlice())
}

func (b *entryBuilder) address(n *node, addr netip.Addr) {
	typ, rdata := rdataOf(addr)
	n.mutable(typ).add(pointer(headerLen), typ, b.ttl, rdata)
}

// clusterIP: section 2.3, and the endpoints' own names, which the documentation of Kubernetes promises for
// every Service ("DNS for Services and Pods", A/AAAA records of pods exposed by a Service).
func (b *entryBuilder) clusterIP() {
	if len(b.svc.ClusterIPs) == 0 {
		return // not allocated yet
	}
	self := b.at()
	for _, ip := range b.svc.ClusterIPs {
		b.address(self, ip)
	}
	for _, p := range b.svc.Ports {
		if p.Name == "" {
			continue
		}
		port, proto := srvLabels(p)
		srv := b.at(port, proto).mutable(dns.TypeSRV)
		b.target(srv, p.Port, b.full)
		srv.extra = &rrset{}
		for _, ip := range b.svc.ClusterIPs {
			typ, rdata := rdataOf(ip)
			srv.extra.add(pointer(headerLen+len(port)+len(proto)), typ, b.ttl, rdata)
		}
	}
	for _, host := range b.svc.Hosts {
		if b.published(host) {
			b.address(b.at(endpointLabel(host)), host.Addr())
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
		b.address(b.at(), host.Addr())
		b.address(b.at(name), host.Addr())
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
		srv := b.at(port, proto).mutable(dns.TypeSRV)
		b.target(srv, t.port, t.name+b.full)
		if srv.extra == nil {
			srv.extra = &rrset{}
		}
		if extra[t.name] {
			continue
		}
		extra[t.name] = true
		owner := t.name + pointer(headerLen+len(port)+len(proto))
		for _, ip := range byLabel[t.name] {
			typ, rdata := rdataOf(ip)
			srv.extra.add(owner, typ, b.ttl, rdata)
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
	b.at().mutable(dns.TypeCNAME).add(pointer(headerLen), dns.TypeCNAME, b.ttl, target)
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
