package dns

import (
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"k8s.io/klog/v2"
)

// maxChain bounds how many aliases are followed for one question.
const maxChain = 8

// scratch is what answering one question needs; a worker uses one for all of its questions.
type scratch struct {
	from   netip.Addr // the asker; not valid: ourselves
	q      question
	a      answer
	asked  int  // octets of the message
	waited bool // respond had no answer for it
	search bool // the rest of the search path has to be walked for it
	// what the search path is walked for ends in one of our zones: nobody else is asked
	complete bool
	other    question // a name that the search path leads to
	b        answer   // what a zone says to that
}

// respond replies to msg if that takes no waiting: b gets the reply, empty if msg deserves none. later is true
// if the first sync or an upstream has to be waited for: then wait gives the reply. It changes nothing but b
// and w, and asks for what should be fetched again.
func (s *Server) respond(b, msg []byte, w *scratch, tcp bool) (reply []byte, later bool) {
	w.a.zone, w.search, w.asked = zoneNone, false, len(msg)
	if verdict := w.q.parse(msg); verdict != accepted {
		return appendVerdict(b, msg, &w.q, verdict), false
	}
	limit, standing := w.limit(tcp), s.standingOf(w.from)
	reply, later = s.reply(b, msg, w, limit, standing)
	if standing != resident && !tcp && !later && !s.limiter.allows(w.from, len(reply), s.forward.now()) {
		return slip(b, msg, &w.q), false
	}
	return reply, later
}

// reply is respond for a question that was accepted.
func (s *Server) reply(b, msg []byte, w *scratch, limit int, standing standing) (reply []byte, later bool) {
	if !s.isSynced.Load() && s.mayBeOurs(&w.q, standing) {
		return b, true
	}
	ours := s.lookup(&w.q, &w.a)
	if standing == stranger && (!ours || w.a.zone != zoneLAN) {
		return appendError(b, msg, &w.q, dns.RcodeRefused), false
	}
	switch {
	case w.q.qtype == dns.TypeANY && (!ours || w.a.rcode == dns.RcodeSuccess):
		return appendMinimal(b, msg, &w.q, uint32(s.cfg.TTL/time.Second)), false
	case ours && w.a.cname != nil && w.q.qtype != dns.TypeCNAME && w.q.flags&bitRD != 0:
		return b, true
	case ours && w.a.rcode == dns.RcodeNameError && s.searches(w):
		return s.replySearched(b, msg, w, limit)
	case ours:
		return appendAnswer(b, msg, &w.q, &w.a, limit), false
	case w.q.flags&bitRD == 0:
		return appendError(b, msg, &w.q, dns.RcodeRefused), false // we hold nothing else
	}
	w.a.zone = zoneForeign
	if s.astray(w) {
		return appendError(b, msg, &w.q, dns.RcodeNameError), false
	}
	forward := s.forwarderFor(&w.q)
	now := forward.now()
	hit, fresh := forward.cache.get(w.q.key(), now)
	if fresh || !w.waited { // what waited was counted before
		forward.cache.use(hit, fresh)
	}
	if fresh {
		forward.prefetch(hit, &w.q, now)
		return hit.append(b, msg, &w.q, now, limit), false
	}
	if !forward.able() {
		return appendError(b, msg, &w.q, dns.RcodeServerFailure), false
	}
	return b, true
}

func (w *scratch) limit(tcp bool) int {
	if tcp {
		return maxMessage
	}
	return w.q.size
}

// appendVerdict replies to what could not be accepted.
func appendVerdict(b, msg []byte, q *question, v verdict) []byte {
	switch v {
	case malformed:
		return appendError(b, msg, q, dns.RcodeFormatError)
	case notImplemented:
		return appendError(b, msg, q, dns.RcodeNotImplemented)
	case badVersion:
		return appendError(b, msg, q, dns.RcodeBadVers)
	case refused:
		return appendError(b, msg, q, dns.RcodeRefused)
	}
	return b
}

// mayBeOurs says whether the name could turn out to be one of ours, and the asker's business, once every Service is
// known.
func (s *Server) mayBeOurs(q *question, standing standing) bool {
	if s.lan != nil {
		if _, in := q.within(s.lan.domain); in {
			return true
		}
	}
	if standing == stranger {
		return false
	}
	for _, z := range s.zones {
		if _, in := q.within(z.domain); in {
			return true
		}
	}
	_, _, isReverse := q.reverse()
	return isReverse
}

// lookup asks our zones.
func (s *Server) lookup(q *question, a *answer) (ours bool) {
	*a = answer{made: a.made[:0]}
	for i, z := range s.zones {
		if z.answer(q, a) {
			a.zone = zoneFirst + i
			return true
		}
	}
	if s.lan != nil && s.lan.answer(q, a) {
		a.zone = zoneLAN
		return true
	}
	a.zone = zoneReverse
	return s.reverse.answer(q, a)
}

// wait replies to msg, for which respond had no answer at once. from is the asker.
func (s *Server) wait(ctx context.Context, msg []byte, from netip.Addr, tcp bool) []byte {
	began := time.Now()
	w := &scratch{from: from, asked: len(msg), waited: true}
	w.q.parse(msg)
	reply := s.complete(ctx, msg, w, tcp)
	if s.standingOf(from) != resident && !tcp && !s.limiter.allows(from, len(reply), s.forward.now()) {
		reply = slip(nil, msg, &w.q)
	}
	s.slow.zones[w.a.zone].latency[fromWaiting].observe(time.Since(began), 1)
	s.record(s.slow, w, reply, tcp, began)
	return reply
}

// complete waits for what the answer needs: the first sync, or an upstream.
func (s *Server) complete(ctx context.Context, msg []byte, w *scratch, tcp bool) []byte {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		s.rejected.Add(1)
		return appendError(nil, msg, &w.q, dns.RcodeServerFailure)
	}
	limit, standing := w.limit(tcp), s.standingOf(w.from)
	if s.mayBeOurs(&w.q, standing) && !s.waitForSync(ctx) {
		return appendError(nil, msg, &w.q, dns.RcodeServerFailure)
	}
	reply, later := s.reply(nil, msg, w, limit, standing)
	switch {
	case !later:
		return reply
	case w.search:
		return s.walk(ctx, msg, w, limit)
	case w.a.cname != nil:
		return s.chase(ctx, msg, w, limit)
	}
	forward := s.forwarderFor(&w.q)
	if forward.loops(w.from, w.q.key()) {
		return appendError(nil, msg, &w.q, dns.RcodeServerFailure)
	}
	answer, err := forward.resolve(ctx, &w.q)
	if err != nil {
		klog.V(2).InfoS("DNS name not resolved", "name", textName(w.q.wire()), "reason", err)
		return appendError(nil, msg, &w.q, dns.RcodeServerFailure)
	}
	return answer.append(nil, msg, &w.q, forward.now(), limit)
}

// waitForSync waits for the first sync as long as a client may be kept waiting.
func (s *Server) waitForSync(ctx context.Context) bool {
	timer := time.NewTimer(s.holdFor)
	defer timer.Stop()
	select {
	case <-s.synced:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// chase follows an alias and puts all of the way into one answer (RFC 1034 section 4.3.2, step 3a). What
// stopped it, if anything, is the response code (RFC 6604).
func (s *Server) chase(ctx context.Context, msg []byte, w *scratch, limit int) []byte {
	out := new(dns.Msg)
	out.SetQuestion(textName(msg[headerLen:w.q.end]), w.q.qtype)
	out.Id, out.CheckingDisabled = w.q.id, w.q.flags&bitCD != 0
	out.Response, out.RecursionAvailable, out.Authoritative, out.Compress = true, true, true, true
	owner, step := out.Question[0].Name, *w
	for range maxChain {
		target := textName(step.a.cname)
		out.Answer = append(out.Answer, &dns.CNAME{
			Hdr:    dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: step.a.ttl},
			Target: target,
		})
		owner = target
		part := s.resolveAlias(ctx, &step)
		if part == nil {
			continue // another alias of ours
		}
		out.Rcode = part.Rcode
		out.Answer = append(out.Answer, part.Answer...)
		out.Ns = part.Ns
		return finish(out, msg, w, limit)
	}
	return appendError(nil, msg, &w.q, dns.RcodeServerFailure) // a circle: RFC 1034 section 3.6.2
}

// resolveAlias resolves the target that step has arrived at. It gives nil when step went on to another alias.
func (s *Server) resolveAlias(ctx context.Context, step *scratch) *dns.Msg {
	failed := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}
	query := new(dns.Msg)
	query.SetQuestion(textName(step.a.cname), step.q.qtype)
	query.CheckingDisabled = step.q.flags&bitCD != 0
	if step.q.do {
		query.SetEdns0(maxUDP, true)
	}
	wire, err := query.Pack()
	if err != nil || step.q.parse(wire) != accepted {
		return failed
	}
	var reply []byte
	if s.lookup(&step.q, &step.a) {
		if step.a.cname != nil {
			return nil
		}
		reply = appendAnswer(nil, wire, &step.q, &step.a, maxMessage)
	} else {
		forward := s.forwarderFor(&step.q)
		if !forward.able() {
			return &dns.Msg{} // the alias is all that anybody here knows
		}
		answer, err := forward.resolve(ctx, &step.q)
		if err != nil {
			return failed
		}
		reply = answer.append(nil, wire, &step.q, forward.now(), maxMessage)
	}
	part := new(dns.Msg)
	if err := part.Unpack(reply); err != nil {
		return failed
	}
	return part
}

// finish packs a message that was put together from parts.
func finish(out *dns.Msg, msg []byte, w *scratch, limit int) []byte {
	wire, err := out.Pack()
	if err != nil {
		return appendError(nil, msg, &w.q, dns.RcodeServerFailure)
	}
	wire = fit(wire, room(&w.q, limit), w.q.end)
	if w.q.edns {
		wire = appendOPT(wire, out.Rcode, w.q.do)
	}
	return wire
}
