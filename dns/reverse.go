package dns

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"svcplane/catalog"
)

// reverse holds the PTR records of every Service (specification sections 2.3.3 and 2.4.3).
type reverse struct {
	networks []netip.Prefix // addresses that nobody else can know names of
	domain   string         // wire form
	ttl      uint32

	mu    sync.RWMutex
	addrs map[netip.Addr]*pointers
}

// pointers is what one address is called, by whom. It is replaced, never changed.
type pointers struct {
	claims []claim
	set    rrset
}

type claim struct {
	key  catalog.Key
	name string
}

func newReverse(networks []netip.Prefix, domain string, ttl uint32) *reverse {
	return &reverse{networks: networks, domain: domain, ttl: ttl, addrs: map[netip.Addr]*pointers{}}
}

// put replaces the names that one Service gives to addresses.
func (r *reverse) put(key catalog.Key, old, now *entry) {
	var before, after []reverseName
	if old != nil {
		before = old.names
	}
	if now != nil {
		after = now.names
	}
	if slices.Equal(before, after) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range before {
		r.claim(n.addr, func(claims []claim) []claim {
			return slices.DeleteFunc(claims, func(c claim) bool { return c.key == key })
		})
	}
	for _, n := range after {
		r.claim(n.addr, func(claims []claim) []claim { return append(claims, claim{key, n.name}) })
	}
}

// claim rebuilds the records of one address; r.mu is held.
func (r *reverse) claim(addr netip.Addr, change func([]claim) []claim) {
	var claims []claim
	if p := r.addrs[addr]; p != nil {
		claims = slices.Clone(p.claims)
	}
	p := &pointers{claims: change(claims), set: rrset{typ: dns.TypePTR}}
	if len(p.claims) == 0 {
		delete(r.addrs, addr)
		return
	}
	for _, c := range p.claims {
		p.set.add(pointer(headerLen), dns.TypePTR, r.ttl, c.name)
	}
	p.set.pack()
	r.addrs[addr] = p
}

// answer looks up a name below in-addr.arpa or ip6.arpa. ours is false when another server may know: the
// address is none of a Service's and not in one of our networks.
func (r *reverse) answer(q *question, a *answer) (ours bool) {
	prefix, ok := q.reverse()
	if !ok {
		return false
	}
	if prefix.IsSingleIP() {
		r.mu.RLock()
		p := r.addrs[prefix.Addr()]
		r.mu.RUnlock()
		if p != nil {
			r.describe(q, prefix, a)
			if q.qtype == dns.TypePTR {
				a.choose(&p.set)
			}
			return true
		}
	}
	for _, network := range r.networks {
		if network.Bits() <= prefix.Bits() && network.Contains(prefix.Addr()) {
			r.describe(q, prefix, a)
			if prefix.IsSingleIP() {
				a.rcode = dns.RcodeNameError
			}
			return true // shorter names may have others below them: no data
		}
	}
	return false
}

// describe says which zone the answer is from: that of the network it is in, or the name itself.
func (r *reverse) describe(q *question, prefix netip.Prefix, a *answer) {
	a.domain, a.ttl, a.apex = r.domain, r.ttl, 0
	unit := 4 // bits per label
	if prefix.Addr().Is4() {
		unit = 8
	}
	for _, network := range r.networks {
		if network.Contains(prefix.Addr()) {
			labels := min(network.Bits(), prefix.Bits()) / unit
			a.apex = int(q.starts[prefix.Bits()/unit-labels])
			return
		}
	}
}
