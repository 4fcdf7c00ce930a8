package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/miekg/dns"
)

// A resolver in a pod (ndots:5) that looks for example.com asks for example.com.NS.svc.DOMAIN first, then for the
// names below svc.DOMAIN, DOMAIN and the node's own search domains, and for example.com last: five questions per
// family. Here the first of them is answered with an alias to where that walk ends. The rules:
//
//   - Only for A and AAAA, only when the name does not exist, and only for a pod of that very namespace whose
//     resolver walks this path (dnsPolicy ClusterFirst, no searches of its own).
//   - The walk ends at the first name that exists, also when it has no record of the type: both families end at the
//     same name, as with musl. A resolver that goes on after NODATA (glibc, for one family) walks the rest itself
//     and gets the same answers.
//   - When it ends nowhere, or an upstream fails on the way, the answer is that the name does not exist, as without
//     all this: the resolver walks on itself.
//   - The alias has a TTL of 0: it says that the name does not exist, and nobody shall remember that.
//   - A name that ends in a zone of ours already is never asked for below a search domain of the node, here or when the
//     resolver does so itself (walks.go).
//   - A namespace opts out by the annotation AutopathAnnotation, everybody by Config.NoAutopath.

// flagSearched sets the keys of answers with such an alias apart from those of the name itself.
const flagSearched = 0x80

// minRecord is the length of one record with an address, its owner a pointer.
const minRecord = fixedLen + 16

// searches says whether a question for a name that does not exist is the first of a walk.
func (s *Server) searches(w *scratch) bool {
	if s.cfg.NoAutopath || s.cfg.Pods == nil || w.a.zone != zoneFirst || w.q.flags&bitRD == 0 ||
		(w.q.qtype != dns.TypeA && w.q.qtype != dns.TypeAAAA) {
		return false
	}
	count := w.q.labelsBefore(w.a.apex)
	if count < 3 || string(w.q.label(count-1)) != "svc" {
		return false
	}
	namespace, ok := s.cfg.Pods.Searching(w.from)
	return ok && namespace == string(w.q.label(count-2)) &&
		!s.walks.has(w.from, w.q.name[:w.q.length-1], s.forward.now()) // the last of a walk that began elsewhere
}

// become makes o the question for what is in front of offset at of q's name, with suffix (wire form) behind it. False
// when that is no name.
func (o *question) become(q *question, at int, suffix string) bool {
	if at+len(suffix) > maxName {
		return false
	}
	o.id, o.flags, o.qtype, o.edns, o.do, o.size = q.id, q.flags, q.qtype, q.edns, q.do, q.size
	o.labels = q.labelsBefore(at)
	copy(o.starts[:], q.starts[:o.labels])
	o.length = copy(o.name[:], q.name[:at])
	o.length += copy(o.name[at:], suffix)
	for off := at; o.name[off] != 0; off += 1 + int(o.name[off]) {
		o.starts[o.labels] = uint8(off)
		o.labels++
	}
	return true
}

// base is where the search path begins in the name of a question that searches.
func (w *scratch) base() int { return int(w.q.starts[w.q.labelsBefore(w.a.apex)-2]) }

// place is what a step along the search path leads to.
type place uint8

const (
	nowhere  place = iota // the walk has ended without a name
	here                  // one of our zones has the name, and w.b what it says
	byAlias               // the same, and the name is an alias
	anywhere              // a name that others know, or do not
)

// step goes from the i-th suffix on to the next name that may exist, w.other.
func (s *Server) step(w *scratch, suffixes []string, i int) (next int, at place) {
	for ; i < len(suffixes); i++ {
		switch {
		case !w.other.become(&w.q, w.base(), suffixes[i]):
		case !s.lookup(&w.other, &w.b):
			if w.complete {
				continue
			}
			return i + 1, anywhere
		case w.b.rcode == dns.RcodeNameError:
		case w.b.cname != nil:
			return i + 1, byAlias
		default:
			return i + 1, here
		}
	}
	return i, nowhere
}

// replySearched walks the search path as far as memory reaches. later is true if it does not reach.
func (s *Server) replySearched(b, msg []byte, w *scratch, limit int) (reply []byte, later bool) {
	suffixes, now := *s.suffixes.Load(), s.forward.now()
	if w.complete = s.completeBase(w); w.complete {
		s.walks.note(w.from, w.q.name[:w.base()], now)
	}
	for i, at := s.step(w, suffixes, 0); at != nowhere; i, at = s.step(w, suffixes, i) {
		w.search = at == byAlias
		switch at {
		case here:
			return appendSearched(b, msg, w, limit), false
		case byAlias:
			return b, true
		}
		forward := s.forwarderFor(&w.other)
		if !forward.able() {
			break
		}
		if hit, fresh := forward.cache.get(w.searchedKey(), now); fresh {
			return hit.append(b, msg, &w.q, now, limit), false
		}
		hit, fresh := forward.cache.get(w.other.key(), now)
		if hit == nil && forward.health(now) == silent {
			break
		}
		if !fresh || hit.rcode() != dns.RcodeNameError {
			w.search = true
			return b, true
		}
	}
	return appendAnswer(b, msg, &w.q, &w.a, limit), false
}

// completeBase says whether what the walk puts its suffixes behind is a name of one of our zones already.
func (s *Server) completeBase(w *scratch) bool {
	if !w.other.become(&w.q, w.base(), "\x00") {
		return false
	}
	for _, z := range s.zones {
		if _, in := w.other.within(z.domain); in {
			return true
		}
	}
	return false
}

// searchedKey is where the answer by way of w.other is kept: a walk that ends elsewhere, because a Service appeared on
// the way, does not find it.
func (w *scratch) searchedKey() []byte {
	k := w.other.key()
	k[len(k)-1] |= flagSearched
	// what was asked for, from which the alias leads there: both names are needed
	return append(k, w.q.wire()[w.base():]...)
}

// appendSearched replies with an alias to w.other and what one of our zones says to that.
func appendSearched(b, msg []byte, w *scratch, limit int) []byte {
	b = appendHead(b, msg, &w.q, dns.RcodeSuccess, bitAA)
	limit = room(&w.q, limit)
	b = append(b, 0xC0, headerLen, 0, byte(dns.TypeCNAME), 0, byte(dns.ClassINET), 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(w.other.length))
	target := len(b)
	b = append(b, w.other.wire()...)
	if len(b)+minRecord > limit { // two of the longest names, and no EDNS: the resolver may walk itself
		return appendAnswer(b[:0], msg, &w.q, &w.a, limit)
	}
	b[7] = 1
	if w.b.set.n == 0 {
		b = appendSOA(b, target-headerLen+w.b.apex, w.b.domain, w.b.serial, 0)
		b[9] = 1
	} else {
		from := len(b)
		b = appendSet(b, &w.b.set, w.b.started, limit, 6)
		n := int(binary.BigEndian.Uint16(b[6:]))
		for i := range n { // addresses have all the same length, and an owner that points to the question
			at := from + i*(len(b)-from)/n
			b[at], b[at+1] = 0xC0|byte(target>>8), byte(target)
		}
		binary.BigEndian.PutUint16(b[6:], uint16(n+1))
	}
	b = fit(b, limit, w.q.end)
	if w.q.edns {
		b = appendOPT(b, dns.RcodeSuccess, w.q.do)
	}
	return b
}

// walk goes the search path to its end, asking upstreams. What they say is kept together with the alias.
func (s *Server) walk(ctx context.Context, msg []byte, w *scratch, limit int) []byte {
	suffixes := *s.suffixes.Load()
	for i, at := s.step(w, suffixes, 0); at != nowhere; i, at = s.step(w, suffixes, i) {
		switch at {
		case here:
			return appendSearched(nil, msg, w, limit)
		case byAlias:
			w.a.cname, w.a.ttl = bytes.Clone(w.other.wire()), 0
			return s.chase(ctx, msg, w, limit)
		}
		found, err := s.forwarderFor(&w.other).resolve(ctx, &w.other)
		switch {
		case err != nil, found.rcode() != dns.RcodeNameError && found.rcode() != dns.RcodeSuccess:
			return appendAnswer(nil, msg, &w.q, &w.a, limit)
		case found.rcode() == dns.RcodeSuccess:
			return s.found(msg, w, found, limit)
		}
	}
	return appendAnswer(nil, msg, &w.q, &w.a, limit)
}

// found replies with an alias to w.other and what an upstream said to that, and keeps it.
func (s *Server) found(msg []byte, w *scratch, inner *cached, limit int) []byte {
	forward, now := s.forwarderFor(&w.other), s.forward.now()
	out := new(dns.Msg)
	if err := out.Unpack(inner.append(nil, inner.wire, &question{end: inner.end}, now, maxMessage)); err != nil {
		return appendError(nil, msg, &w.q, dns.RcodeServerFailure)
	}
	alias := &dns.CNAME{
		Hdr:    dns.RR_Header{Name: textName(w.q.wire()), Rrtype: dns.TypeCNAME, Class: dns.ClassINET},
		Target: textName(w.other.wire()),
	}
	out.Question[0].Name = alias.Hdr.Name
	out.Answer = append([]dns.RR{alias}, out.Answer...)
	c, err := newCached(string(w.searchedKey()), out, now)
	if err != nil {
		return appendError(nil, msg, &w.q, dns.RcodeServerFailure)
	}
	if c.life = inner.life - now.Sub(inner.stored); c.life > 0 {
		c.life = max(c.life, time.Second)
		forward.cache.put(c)
	}
	return c.append(nil, msg, &w.q, now, limit)
}

// setSuffixes makes the search path of pods: the cluster's, then the node's own, then nothing.
func (s *Server) setSuffixes(node []string) {
	domain := s.zones[0].domain
	suffixes := []string{svcLabel + domain, domain}
	for _, text := range node {
		if wire, err := wireName(text); err == nil && len(wire) > 1 {
			suffixes = append(suffixes, wire)
		}
	}
	suffixes = append(suffixes, "\x00")
	s.suffixes.Store(&suffixes)
}
