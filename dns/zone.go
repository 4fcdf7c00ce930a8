package dns

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"svcplane/catalog"
)

// schemaVersion is the version of the specification that the zone follows (its section 2.2).
const schemaVersion = "1.1.0"

const (
	soaRefresh = 7200 // nobody transfers the zone: these three have no effect
	soaRetry   = 1800
	soaExpire  = 86400
)

// Pods says which pods exist, for the `1-2-3-4.NAMESPACE.pod` names.
type Pods interface {
	// HasPod says whether a pod of the namespace has the address.
	HasPod(namespace string, addr netip.Addr) bool
	// HasNamespace says whether the namespace has a pod.
	HasNamespace(namespace string) bool
	// HasSynced says whether every pod is known: before that nobody is told that one does not exist.
	HasSynced() bool
	// Searching gives the namespace of the pod at an address if its resolver walks the cluster's search path and
	// the namespace wants that answered in one trip.
	Searching(addr netip.Addr) (namespace string, ok bool)
}

// zone is one cluster domain. Many read it while one writer applies changes.
type zone struct {
	domain string // wire form
	pods   Pods   // nil: every address has a pod name (specification section 2.6)
	ttl    uint32
	fixed  entry // names that are there whatever the Services; its prefixes are in front of domain
	serial atomic.Uint32
	names  atomic.Int64

	seed   maphash.Seed
	shards [64]zoneShard

	mu         sync.RWMutex
	namespaces map[string]int // Services with names per namespace, by its label in wire form
}

type zoneShard struct {
	sync.RWMutex
	services map[string]*entry
}

// newZone makes the zone of a domain in wire form; server is where it is served, for ns.dns.
func newZone(domain string, server []netip.Addr, pods Pods, ttl uint32) *zone {
	z := &zone{domain: domain, pods: pods, ttl: ttl, seed: maphash.MakeSeed(), namespaces: map[string]int{}}
	for i := range z.shards {
		z.shards[i].services = map[string]*entry{}
	}
	names := draft{}
	names.at(label("dns-version")).set(dns.TypeTXT).add(pointer(headerLen), dns.TypeTXT, ttl, label(schemaVersion))
	names.at().set(dns.TypeNS).add(pointer(headerLen), dns.TypeNS, ttl, "\x02ns\x03dns"+domain)
	names.at(svcLabel)
	names.at("\x03pod")
	ns := names.at("\x02ns", "\x03dns")
	for _, addr := range server {
		ns.address(addr, ttl)
	}
	z.fixed.packed = names.pack()
	return z
}

func (z *zone) shard(key []byte) *zoneShard {
	return &z.shards[maphash.Bytes(z.seed, key)%uint64(len(z.shards))]
}

// put replaces what is said of a Service, and gives what was said before; nil stands for nothing.
func (z *zone) put(key catalog.Key, e *entry) (old *entry) {
	if e != nil && e.names() == 0 {
		e = nil // an entry without names is like none, so that NXDOMAIN is exact
	}
	name := serviceKey(key)
	s := z.shard([]byte(name))
	s.Lock()
	old = s.services[name]
	if e != nil {
		s.services[e.key] = e
	} else {
		delete(s.services, name)
	}
	s.Unlock()
	z.count(label(key.Namespace), old, e)
	return old
}

// count keeps the figures and the namespaces that have names.
func (z *zone) count(namespace string, old, e *entry) {
	if old != nil {
		z.names.Add(-int64(old.names()))
	}
	if e != nil {
		z.names.Add(int64(e.names()))
	}
	z.serial.Add(1)
	if (old == nil) == (e == nil) {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if e != nil {
		z.namespaces[namespace]++
	} else if z.namespaces[namespace]--; z.namespaces[namespace] <= 0 {
		delete(z.namespaces, namespace)
	}
}

// answer is what a zone says to a question.
type answer struct {
	zone    int // which one it is from: zoneForeign and the following
	rcode   int
	set     rrset  // the answer section; empty: there is none
	cname   []byte // the name goes on there (wire form), and set says so
	soa     bool   // the apex SOA is asked for
	made    []byte // backs set where nothing was built in advance; its memory is used again
	started int    // record of set to begin with
	apex    int    // offset in the question's name of the zone that the answer is from
	domain  string // its server's domain, wire form
	serial  uint32
	ttl     uint32
}

// answer looks a question up. ours is false when the name is not in this zone. The answer is NXDOMAIN when
// the name does not exist, and without records (NODATA) when it does but not with that type: RFC 2308.
func (z *zone) answer(q *question, a *answer) (ours bool) {
	at, in := q.within(z.domain)
	if !in {
		return false
	}
	a.apex, a.domain, a.serial, a.ttl = at, z.domain, z.serial.Load(), z.ttl
	n, exists := z.find(q, at, a)
	switch {
	case !exists:
		a.rcode = dns.RcodeNameError
	case n.alias() != nil:
		a.cname = n.alias()
		a.choose(n.set(dns.TypeCNAME))
	case at == 0 && q.qtype == dns.TypeSOA:
		a.soa = true
	default:
		a.choose(n.set(q.qtype))
	}
	return true
}

// choose takes a set for the answer, beginning with any of its records: clients take the first.
func (a *answer) choose(s rrset) {
	if s.n == 0 {
		return
	}
	a.set = s
	if s.n > 1 {
		a.started = rand.IntN(s.n)
	}
}

// find walks the name from the domain down.
func (z *zone) find(q *question, at int, a *answer) (n node, exists bool) {
	count := q.labelsBefore(at)
	if count >= 2 {
		switch string(q.label(count - 1)) {
		case "svc":
			return z.findService(q, count-1)
		case "pod":
			return z.findPod(q, count-1, a)
		}
	}
	return z.fixed.find(q.name[:at])
}

// findService finds a name below svc; its first count labels are in front of svc.
func (z *zone) findService(q *question, count int) (node, bool) {
	end := int(q.starts[count])
	if count == 1 {
		z.mu.RLock()
		defer z.mu.RUnlock()
		return node{}, z.namespaces[string(q.name[:end])] > 0
	}
	start := int(q.starts[count-2])
	key := q.name[start:end]
	s := z.shard(key)
	s.RLock()
	e := s.services[string(key)]
	s.RUnlock()
	if e == nil {
		return node{}, false
	}
	return e.find(q.name[:start])
}

// findPod makes the records of section 2.6; the first count labels are in front of pod.
func (z *zone) findPod(q *question, count int, a *answer) (node, bool) {
	namespace := string(q.label(count - 1))
	if count == 1 {
		return node{}, z.pods == nil || z.pods.HasNamespace(namespace)
	}
	addr, ok := dashed(string(q.label(0)))
	if count != 2 || !ok || (z.pods != nil && !z.pods.HasPod(namespace, addr)) {
		return node{}, false
	}
	typ, rdata := rdataOf(addr)
	if typ == q.qtype {
		a.made = appendRR(a.made, pointer(headerLen), typ, z.ttl, rdata)
		a.set = rrset{typ: typ, n: 1, data: a.made}
	}
	return node{}, true
}

// dashed reads an address written with dashes: 1-2-3-4, 2001-db8--1.
func dashed(text string) (netip.Addr, bool) {
	if strings.ContainsAny(text, ".:%") { // in one label: no address, and not what dashes stand for either
		return netip.Addr{}, false
	}
	if addr, err := netip.ParseAddr(strings.ReplaceAll(text, "-", ".")); err == nil {
		return addr, addr.Is4()
	}
	addr, err := netip.ParseAddr(strings.ReplaceAll(text, "-", ":"))
	return addr, err == nil && !addr.Is4In6()
}
