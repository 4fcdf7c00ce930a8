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

// countedTypes are told apart in the metrics; all others are one, so that askers cannot make up series.
var countedTypes = [...]uint16{
	0, dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeNS, dns.TypeSOA,
	dns.TypeMX, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY, dns.TypeAXFR,
}

const countedCodes = 17 // response codes 0 to 15, and what is higher

// tally counts the answers of one worker, so that workers do not wait for each other's cache lines. The sums are
// made when somebody looks.
type tally struct {
	answers []atomic.Uint64 // [zone][transport][type][code]
	memory  histogram       // answered without waiting for anybody
	waited  histogram       // for an upstream, or for the first sync
}

func newTally(zones int) *tally {
	return &tally{answers: make([]atomic.Uint64, zones*2*len(countedTypes)*countedCodes)}
}

// count records one reply; an empty one is a message that deserved none.
func (t *tally) count(w *scratch, reply []byte, tcp bool) {
	if len(reply) < headerLen {
		return
	}
	t.answers[cell(w.a.zone, tcp, w.q.qtype, replyCode(reply))].Add(1)
}

func cell(zone int, tcp bool, qtype uint16, code int) int {
	transport, typ := 0, 0
	if tcp {
		transport = 1
	}
	for i, t := range countedTypes {
		if t == qtype {
			typ = i
			break
		}
	}
	return ((zone*2+transport)*len(countedTypes)+typ)*countedCodes + min(code, countedCodes-1)
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

// histogramBounds are the upper bounds of the buckets of latencies, in seconds: from what a map costs to what a
// resolver gives up after.
var histogramBounds = [...]float64{25e-6, 50e-6, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5}

// histogram counts durations.
type histogram struct {
	buckets [len(histogramBounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

// observe counts n durations of the same length.
func (h *histogram) observe(took time.Duration, n uint64) {
	i, s := 0, took.Seconds()
	for i < len(histogramBounds) && s > histogramBounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.nanos.Add(int64(took) * int64(n))
}

// addTo adds h to the cumulated buckets, the count and the sum (seconds) that Prometheus wants.
func (h *histogram) addTo(buckets map[float64]uint64, count *uint64, sum *float64) {
	total := uint64(0)
	for i := range h.buckets {
		total += h.buckets[i].Load()
		if i < len(histogramBounds) {
			buckets[histogramBounds[i]] += total
		}
	}
	*count += total
	*sum += time.Duration(h.nanos.Load()).Seconds()
}
