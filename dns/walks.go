package dns

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// walkLasts is how long a resolver may take from the first name of a walk along the search path to the last: what
// resolvers wait for one answer.
const walkLasts = 10 * time.Second

// walks remembers which complete names of our zones are being looked for along a search path, and by whom. A resolver
// with ndots:5 that looks for a.b.svc.DOMAIN, which does not exist, asks for it below each search domain, those of the
// node included, and then as it is. The question for the name as it is looks like the first of a walk for "a", and
// the one below a domain of the node like a name of somebody else's; neither is anybody's but ours to answer.
//
// A walk that is forgotten because another took its place costs a question to the upstream, as if there were no memory.
type walks struct {
	seed  maphash.Seed
	slots [1024]atomic.Uint64 // a hash of who and what, and in the low bits the second when it began
}

const stampBits = 20

func (m *walks) slot(from netip.Addr, base []byte) (*atomic.Uint64, uint64) {
	var h maphash.Hash
	h.SetSeed(m.seed)
	addr := from.As16()
	_, _ = h.Write(addr[:])
	_, _ = h.Write(base)
	sum := h.Sum64()
	return &m.slots[sum%uint64(len(m.slots))], sum >> stampBits
}

// note records that from looks for base: labels in wire form, without the root.
func (m *walks) note(from netip.Addr, base []byte, now time.Time) {
	slot, sum := m.slot(from, base)
	slot.Store(sum<<stampBits | uint64(now.Unix())&(1<<stampBits-1))
}

// has says whether from began to look for base a moment ago.
func (m *walks) has(from netip.Addr, base []byte, now time.Time) bool {
	slot, sum := m.slot(from, base)
	value := slot.Load()
	age := (uint64(now.Unix()) - value) & (1<<stampBits - 1)
	return value>>stampBits == sum && age <= uint64(walkLasts/time.Second)
}

// astray says whether the question is for a complete name of ours below one of the node's search domains, by a
// resolver that is on its way along the search path.
func (s *Server) astray(w *scratch) bool {
	if s.cfg.Pods == nil || !w.from.IsValid() {
		return false
	}
	suffixes := *s.suffixes.Load()
	for _, suffix := range suffixes[2 : len(suffixes)-1] {
		if at, in := w.q.within(suffix); in && at > 0 && s.walks.has(w.from, w.q.name[:at], s.forward.now()) {
			return true
		}
	}
	return false
}
