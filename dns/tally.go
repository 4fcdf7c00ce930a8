package dns

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// What answered, as the metrics have it. The cluster domains follow zoneFirst, in the order of the configuration.
const (
	zoneNone    = iota // not a question that any zone could answer
	zoneForeign        // the rest of the world
	zoneReverse
	zoneLAN
	zoneFirst
)

// Where an answer came from.
const (
	fromMemory  = iota // without waiting for anybody
	fromWaiting        // for an upstream, or for the first sync
	sources
)

// countedTypes are told apart in the metrics; all others are one, so that askers cannot make up series.
var countedTypes = [...]uint16{
	0, dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeNS, dns.TypeSOA,
	dns.TypeMX, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY, dns.TypeAXFR,
}

const countedCodes = 17 // response codes 0 to 15, and what is higher

// tally counts the answers of one worker, so that workers do not wait for each other's cache lines. The sums are
// made when somebody looks.
type tally struct {
	answers []atomic.Uint64 // one for each cellOf
	zones   []zoneTally
	leaving []leaving // of the batch that its only worker has in hand, by zone; nil: it has many
}

// leaving is what is counted of a batch over UDP, in the hands of one worker.
type leaving struct {
	n               uint64
	asked, answered batchSizes
}

// zoneTally is what is counted of a zone beside its answers.
type zoneTally struct {
	latency         [sources]histogram
	asked, answered [2]sizes // by transport
	do              atomic.Uint64
}

func newTally(zones int) *tally {
	return &tally{
		answers: make([]atomic.Uint64, zones*2*2*sources*len(countedTypes)*countedCodes),
		zones:   make([]zoneTally, zones),
	}
}

// cellOf is what is told apart of an answer: transport 0 is UDP and 1 TCP, family 0 IPv4 and 1 IPv6.
type cellOf struct{ zone, transport, family, source, typ, code int }

func (c cellOf) index() int {
	at := ((c.zone*2+c.transport)*2+c.family)*sources + c.source
	return (at*len(countedTypes)+c.typ)*countedCodes + c.code
}

func cellAt(index int) (c cellOf) {
	c.code, index = index%countedCodes, index/countedCodes
	c.typ, index = index%len(countedTypes), index/len(countedTypes)
	c.source, index = index%sources, index/sources
	c.family, index = index%2, index/2
	c.transport, c.zone = index%2, index/2
	return c
}

// count records one reply; an empty one is a message that deserved none.
func (t *tally) count(w *scratch, reply []byte, tcp bool) {
	if len(reply) < headerLen {
		return
	}
	c := cellOf{zone: w.a.zone, typ: countedType(w.q.qtype), code: min(replyCode(reply), countedCodes-1)}
	if tcp {
		c.transport = 1
	}
	if w.from.Is6() {
		c.family = 1
	}
	if w.waited {
		c.source = fromWaiting
	}
	t.answers[c.index()].Add(1)
	z := &t.zones[c.zone]
	if w.q.do {
		z.do.Add(1)
	}
	if t.leaving != nil {
		out := &t.leaving[c.zone]
		out.n++
		out.asked.observe(w.asked)
		out.answered.observe(len(reply))
		return
	}
	z.asked[c.transport].observe(w.asked)
	z.answered[c.transport].observe(len(reply))
}

// left records the answers of a batch, which leave together, and how long they took.
func (t *tally) left(took time.Duration) {
	for i := range t.leaving {
		out := &t.leaving[i]
		if out.n == 0 {
			continue
		}
		z := &t.zones[i]
		z.asked[0].take(&out.asked)
		z.answered[0].take(&out.answered)
		z.latency[fromMemory].observe(took, out.n)
		out.n = 0
	}
}

func countedType(qtype uint16) int {
	for i, t := range countedTypes {
		if t == qtype {
			return i
		}
	}
	return 0
}

// replyCode is the response code of a reply of ours: its OPT record, if there is one, comes last and has no options.
func replyCode(reply []byte) int {
	code := int(reply[3] & 0xF)
	if at := len(reply) - optLen; binary.BigEndian.Uint16(reply[10:]) > 0 && at > headerLen &&
		binary.BigEndian.Uint16(reply[at+1:]) == dns.TypeOPT && reply[at] == 0 {
		code |= int(reply[at+5]) << 4
	}
	return code
}

// sums are the counts of all workers together.
type sums struct {
	answers []uint64
	zones   []zoneTally
}

func (s *Server) sum() *sums {
	tallies := s.tallies()
	all := &sums{answers: make([]uint64, len(tallies[0].answers)), zones: make([]zoneTally, len(tallies[0].zones))}
	for _, t := range tallies {
		for i := range t.answers {
			all.answers[i] += t.answers[i].Load()
		}
		for i := range t.zones {
			all.zones[i].add(&t.zones[i])
		}
	}
	return all
}

func (z *zoneTally) add(other *zoneTally) {
	for i := range z.latency {
		z.latency[i].add(&other.latency[i])
	}
	for i := range z.asked {
		z.asked[i].add(&other.asked[i])
		z.answered[i].add(&other.answered[i])
	}
	z.do.Add(other.do.Load())
}

// each visits what was counted.
func (a *sums) each(visit func(cellOf, uint64)) {
	for i, n := range a.answers {
		if n > 0 {
			visit(cellAt(i), n)
		}
	}
}
