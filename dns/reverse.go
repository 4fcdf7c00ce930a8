package dns

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/miekg/dns"
)

// reverse holds the PTR records of every Service (specification sections 2.3.3 and 2.4.3).
type reverse struct {
	networks []netip.Prefix // addresses that nobody else can know names of
	domain   string         // wire form
	ttl      uint32

	mu    sync.RWMutex
	addrs map[netip.Addr][]ptrName // replaced, never changed
}

// ptrName is one name that an address has.
type ptrName struct {
	entry *entry
	name  int // its index in there
}

func newReverse(networks []netip.Prefix, domain string, ttl uint32) *reverse {
	return &reverse{networks: networks, domain: domain, ttl: ttl, addrs: map[netip.Addr][]ptrName{}}
}

// put replaces the names that one Service gives to addresses.
func (r *reverse) put(old, now *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old != nil {
		old.pointers(func(addr netip.Addr, _ int) {
			left := slices.DeleteFunc(slices.Clone(r.addrs[addr]), func(p ptrName) bool { return p.entry == old })
			if r.addrs[addr] = left; len(left) == 0 {
				delete(r.addrs, addr)
			}
		})
	}
	if now != nil {
		now.pointers(func(addr netip.Addr, name int) {
			if len(now.at(name).prefix)+len(now.key)+len(svcLabel)+len(r.domain) <= maxName {
				r.addrs[addr] = append(slices.Clip(r.addrs[addr]), ptrName{now, name})
			}
		})
	}
}

// records makes the PTR records of an address.
func (r *reverse) records(pointers []ptrName, a *answer) {
	for _, p := range pointers {
		prefix := p.entry.at(p.name).prefix
		a.made = appendFixed(a.made, pointer(headerLen), dns.TypePTR, r.ttl, len(prefix)+len(p.entry.key)+len(svcLabel)+len(r.domain))
		a.made = append(append(append(append(a.made, prefix...), p.entry.key...), svcLabel...), r.domain...)
	}
	a.choose(rrset{typ: dns.TypePTR, n: len(pointers), data: a.made})
}

// answer looks up a name below in-addr.arpa or ip6.arpa. ours is false when another server may know: the
// address is none of a Service's and not in one of our networks.
func (r *reverse) answer(q *question, a *answer) (ours bool) {
	prefix, whole, ok := q.reverse()
	if !ok {
		return false
	}
	if whole && prefix.IsSingleIP() {
		r.mu.RLock()
		pointers := r.addrs[prefix.Addr()]
		r.mu.RUnlock()
		if len(pointers) > 0 {
			r.describe(q, prefix, a)
			if q.qtype == dns.TypePTR {
				r.records(pointers, a)
			}
			return true
		}
	}
	for _, network := range r.networks {
		if network.Bits() <= prefix.Bits() && network.Contains(prefix.Addr()) {
			r.describe(q, prefix, a)
			if !whole || prefix.IsSingleIP() {
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
			a.apex = int(q.starts[q.labels-2-labels]) // two: in-addr and arpa
			return
		}
	}
}
