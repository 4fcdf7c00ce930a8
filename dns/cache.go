package dns

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	maxPositiveTTL = time.Hour        // nothing is believed for longer
	maxNegativeTTL = 5 * time.Minute  // RFC 2308 section 5 leaves the bound to us
	staleTTL       = 30               // seconds given to stale records, RFC 8767 section 4
	staleFor       = 24 * time.Hour   // how long an expired answer may stand in, RFC 8767 section 5
	staleRetry     = 30 * time.Second // failure recheck timer, RFC 8767 section 5
	cacheOverhead  = 300              // octets that an answer costs besides its own
	prefetchUses   = 3                // an answer that was served this often is fetched again before its end,
	prefetchPart   = 10               // when no more than this part of its life is left
)

// cached is the answer of an upstream in wire form, without OPT; id, flags, case and TTLs are patched when it
// is used. All but the last three is immutable.
type cached struct {
	key    string
	wire   []byte
	ttls   []uint16 // offsets of the TTLs
	end    int      // of the question
	turn   rotation
	stored time.Time
	life   time.Duration // 0: not to be used again
	retry  atomic.Int64  // not asked for again before, Unix nanoseconds: the last attempt failed
	uses   atomic.Uint32 // how often it was served from the cache
	renews atomic.Bool   // it is being fetched again
}

// rotation is the run of records of the wanted type in a wire form, when they can change places: their number, where
// the first begins, the length of each. What is in front of them and behind stays where pointers expect it.
type rotation struct{ n, from, size int }

// newCached makes m, whose question was checked, ready to be served.
func newCached(key string, m *dns.Msg, now time.Time) (*cached, error) {
	m = m.Copy()
	m.Extra = withoutOPT(m.Extra)
	m.Compress = true
	m.Id = 0
	for i := range m.Question {
		m.Question[i].Name = dns.CanonicalName(m.Question[i].Name)
	}
	if m.Rcode > 0xF { // needs an OPT of its own; what it means is between the upstream and us
		m.Rcode = dns.RcodeServerFailure
	}
	life := lifeOf(m)
	wire, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("packing the answer for %s: %w", m.Question[0].Name, err)
	}
	c := &cached{key: key, wire: wire, stored: now, life: life}
	return c, c.index(m.Question[0].Qtype)
}

// rcode is the response code.
func (c *cached) rcode() int { return int(c.wire[3] & 0xF) }

func withoutOPT(records []dns.RR) []dns.RR {
	kept := records[:0:0]
	for _, rr := range records {
		if rr.Header().Rrtype != dns.TypeOPT {
			kept = append(kept, rr)
		}
	}
	return kept
}

// index finds the TTLs in the wire form, and the records that rotate.
func (c *cached) index(qtype uint16) error {
	off, err := skipName(c.wire, headerLen)
	if err != nil {
		return err
	}
	off += 4
	c.end = off
	answers := int(binary.BigEndian.Uint16(c.wire[6:]))
	for ; off < len(c.wire); answers-- {
		fixed, next, err := skipRR(c.wire, off)
		if err != nil {
			return err
		}
		c.ttls = append(c.ttls, uint16(fixed+4))
		if answers > 0 && (qtype == dns.TypeA || qtype == dns.TypeAAAA) && binary.BigEndian.Uint16(c.wire[fixed:]) == qtype {
			c.turn.take(off, next-off, fixed == off+2)
		}
		off = next
	}
	if c.turn.n < 2 {
		c.turn = rotation{}
	}
	return nil
}

// take adds a record to the run. One that cannot change places with the others, because its owner is spelled out,
// or that is not next to them, ends it for good.
func (r *rotation) take(from, size int, pointer bool) {
	switch {
	case r.n < 0:
	case r.n == 0 && pointer:
		*r = rotation{1, from, size}
	case pointer && size == r.size && from == r.from+r.n*r.size:
		r.n++
	default:
		r.n = -1
	}
}

// lifeOf is how long an answer may be used: the smallest TTL, or for the absence of a name or of records
// what the SOA record says, and without one not at all (RFC 2308 section 5). It cuts the TTLs to what we believe, so that
// nobody who asks us believes longer.
func lifeOf(m *dns.Msg) time.Duration {
	smallest := maxPositiveTTL
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			if h.Ttl > math.MaxInt32 { // as if it were 0, RFC 2181 section 8
				h.Ttl = 0
			}
			h.Ttl = min(h.Ttl, uint32(maxPositiveTTL/time.Second))
			smallest = min(smallest, time.Duration(h.Ttl)*time.Second)
		}
	}
	switch {
	case m.Truncated || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError):
		return 0
	case m.Rcode == dns.RcodeSuccess && answers(m):
		return smallest
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl, uint32(maxNegativeTTL/time.Second))
			return min(smallest, time.Duration(soa.Hdr.Ttl)*time.Second)
		}
	}
	return 0
}

// answers says whether m has a record of the type that was asked for, not only aliases on the way to it.
func answers(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == m.Question[0].Qtype {
			return true
		}
	}
	return false
}

// append replies to msg out of c, in at most limit octets; b is empty.
func (c *cached) append(b, msg []byte, q *question, now time.Time, limit int) []byte {
	age := now.Sub(c.stored)
	stale := c.life > 0 && age >= c.life
	b = c.turn.append(b, c.wire)
	rcode := c.rcode()
	flags := bitQR | bitRA | q.flags&(bitRD|bitCD) | uint16(rcode)
	if q.do || q.flags&bitAD != 0 { // RFC 6840 section 5.7: AD for those who asked for it
		flags |= binary.BigEndian.Uint16(c.wire[2:]) & bitAD
	}
	binary.BigEndian.PutUint16(b, q.id)
	binary.BigEndian.PutUint16(b[2:], flags)
	copy(b[headerLen:q.end], msg[headerLen:q.end])
	for _, at := range c.ttls {
		ttl := uint32(staleTTL)
		if !stale {
			ttl = binary.BigEndian.Uint32(b[at:])
			ttl -= min(ttl, uint32(age/time.Second))
		}
		binary.BigEndian.PutUint32(b[at:], ttl)
	}
	b = fit(b, room(q, limit), c.end)
	if q.edns {
		b = appendOPT(b, rcode, q.do)
	}
	return b
}

// append copies wire, the run beginning with any of its records: clients take the first (RFC 1794).
func (r rotation) append(b, wire []byte) []byte {
	if r.n == 0 {
		return append(b, wire...)
	}
	middle, end := r.from+rand.IntN(r.n)*r.size, r.from+r.n*r.size
	b = append(b, wire[:r.from]...)
	b = append(b, wire[middle:end]...)
	b = append(b, wire[r.from:middle]...)
	return append(b, wire[end:]...)
}

// due says, once, that an answer that is asked for often should be fetched again before it ends.
func (c *cached) due(now time.Time) bool {
	if c.uses.Add(1) < prefetchUses || c.life-now.Sub(c.stored) > c.life/prefetchPart {
		return false
	}
	return c.renews.CompareAndSwap(false, true)
}

func (c *cached) size() int { return cacheOverhead + len(c.key) + len(c.wire) + 2*len(c.ttls) }

// cache keeps upstreams' answers, the least recently used go first. Its memory is bounded.
type cache struct {
	seed    maphash.Seed
	limit   int // octets
	shards  [16]cacheShard
	figures cacheFigures
}

// cacheFigures count what happened to questions that came to the cache.
type cacheFigures struct {
	positive, negative, missed, stale, prefetched atomic.Uint64
	evicted                                       [2]atomic.Uint64 // those with records, and denials
}

type cacheShard struct {
	mu    sync.Mutex
	room  int // octets left
	none  int // of the items, denials
	items map[string]*list.Element
	order *list.List // *cached, the last used in front
}

func newCache(octets int) *cache {
	c := &cache{seed: maphash.MakeSeed(), limit: octets}
	for i := range c.shards {
		c.shards[i] = cacheShard{room: octets / len(c.shards), items: map[string]*list.Element{}, order: list.New()}
	}
	return c
}

func (c *cache) shard(key []byte) *cacheShard {
	return &c.shards[maphash.Bytes(c.seed, key)%uint64(len(c.shards))]
}

// get finds an answer, fresh or stale; nil when there is none that may be used.
func (c *cache) get(key []byte, now time.Time) (found *cached, fresh bool) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	item := s.items[string(key)]
	if item == nil {
		return nil, false
	}
	found = item.Value.(*cached)
	age := now.Sub(found.stored)
	if age >= found.life+staleFor {
		s.remove(item)
		return nil, false
	}
	s.order.MoveToFront(item)
	return found, age < found.life
}

func (c *cache) put(answer *cached) {
	s := c.shard([]byte(answer.key))
	s.mu.Lock()
	defer s.mu.Unlock()
	if item := s.items[answer.key]; item != nil {
		s.remove(item)
	}
	s.items[answer.key] = s.order.PushFront(answer)
	s.none += answer.denies()
	for s.room -= answer.size(); s.room < 0; {
		c.figures.evicted[s.remove(s.order.Back())].Add(1)
	}
}

// remove is called with s.mu held; denied is 1 for a denial.
func (s *cacheShard) remove(item *list.Element) (denied int) {
	gone := s.order.Remove(item).(*cached)
	delete(s.items, gone.key)
	s.room += gone.size()
	denied = gone.denies()
	s.none -= denied
	return denied
}

// denies is 1 for an answer without records, else 0.
func (c *cached) denies() int {
	if c.rcode() == dns.RcodeSuccess && binary.BigEndian.Uint16(c.wire[6:]) > 0 {
		return 0
	}
	return 1
}

// use counts one question and what was found for it.
func (c *cache) use(found *cached, fresh bool) {
	switch {
	case !fresh:
		c.figures.missed.Add(1)
	case found.denies() == 0:
		c.figures.positive.Add(1)
	default:
		c.figures.negative.Add(1)
	}
}

// held is how many answers are kept, how many of them deny, and in how many octets all are.
type held struct{ answers, denials, octets int }

func (c *cache) filled() (all held) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		all.answers += len(s.items)
		all.denials += s.none
		all.octets += c.limit/len(c.shards) - s.room
		s.mu.Unlock()
	}
	return all
}
