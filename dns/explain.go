package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Explanation is what a question would be answered with, and why.
type Explanation struct {
	Name    string   `json:"name"` // with a final dot
	Type    string   `json:"type"`
	Rcode   string   `json:"rcode"`
	Records []string `json:"records,omitempty"` // of the answer, in presentation form
	Why     []string `json:"why,omitempty"`     // one sentence per step, in the order they were taken
}

// Exists says whether a resolver's walk ends here.
func (e Explanation) Exists() bool { return e.Rcode == dns.RcodeToString[dns.RcodeSuccess] }

// ErrName says that a text cannot be a name (RFC 1035, 2.3.4).
var ErrName = errors.New("no name: labels have 1 to 63 octets, and all of it 253 at most")

// Types are the record types that people ask for.
var Types = []string{"A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "MX", "NS", "SOA"}

// ParseType reads the name of a record type, in any case.
func ParseType(text string) (uint16, error) {
	qtype, known := dns.StringToType[strings.ToUpper(text)]
	if !known {
		return 0, fmt.Errorf("dns: %q is no record type: give one like %s", text, strings.Join(Types, ", "))
	}
	return qtype, nil
}

// Explain answers a question from an address (not valid: the node itself) as over TCP, upstreams and all, and tells the
// way to the answer.
func (s *Server) Explain(ctx context.Context, name, typ string, from netip.Addr) (Explanation, error) {
	wire, err := wireName(name)
	if err != nil {
		return Explanation{}, fmt.Errorf("dns: %q is %w", name, ErrName)
	}
	qtype, err := ParseType(typ)
	if err != nil {
		return Explanation{}, err
	}
	msg := questionFor(wire, qtype)
	msg[2] = bitRD >> 8
	w := &scratch{from: from}
	reply, later := s.respond(nil, msg, w, true)
	e := Explanation{Name: textName([]byte(wire)), Type: dns.TypeToString[qtype], Why: s.why(w, later)}
	if later {
		reply = s.wait(ctx, msg, from, true)
	}
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		return e, fmt.Errorf("dns: the answer for %s does not parse: %w", e.Name, err)
	}
	e.Rcode = dns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		e.Records = append(e.Records, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	if later {
		e.Why = append(e.Why, s.whoAnswered(w)...)
	}
	return e, nil
}

// why tells which rule applies to a question that respond has looked at.
func (s *Server) why(w *scratch, later bool) []string {
	var steps []string
	if st := s.standingOf(w.from); st == stranger {
		steps = append(steps, fmt.Sprintf("%s is neither on this node nor in --dns-allow: it may ask for the names of the LAN only", w.from))
		if w.a.zone != zoneLAN {
			return append(steps, "refused")
		}
	}
	if w.q.end == 0 || w.q.qtype == dns.TypeAXFR || w.q.qtype == dns.TypeIXFR {
		return append(steps, "not a question that is answered here; transfers go over TCP to those in --dns-axfr")
	}
	if later && !s.isSynced.Load() && s.mayBeOurs(&w.q, s.standingOf(w.from)) {
		return append(steps, "the Services are not all known yet: it waits up to "+s.holdFor.String())
	}
	switch {
	case w.a.zone == zoneForeign || w.a.zone == zoneNone:
		return append(steps, s.whyForeign(w)...)
	case w.a.zone == zoneReverse:
		steps = append(steps, "a reverse name of a Service, or in one of the cluster's networks")
	case w.a.zone == zoneLAN:
		steps = append(steps, "a name of the LAN: a LoadBalancer Service in "+s.cfg.LANDomain+", or the host of an Ingress")
	default:
		steps = append(steps, s.zones[w.a.zone-zoneFirst].why(&w.q, &w.a)...)
	}
	return append(steps, s.whySearched(w)...)
}

func (s *Server) whyForeign(w *scratch) []string {
	whom := "the upstreams"
	for _, stub := range s.stubs {
		if _, in := w.q.within(stub.domain); in {
			whom = "the servers of --dns-stub " + strings.TrimSuffix(textName([]byte(stub.domain)), ".")
			break
		}
	}
	steps := []string{"not a name of the cluster: " + whom + " know it"}
	forward := s.forwarderFor(&w.q)
	if !forward.able() {
		return append(steps, "there are none: give some with --dns-upstream, or in "+s.cfg.ResolvConf)
	}
	if hit, fresh := forward.cache.get(w.q.key(), forward.now()); fresh {
		age := forward.now().Sub(hit.stored)
		return append(steps, fmt.Sprintf("the cache has the answer: %.0f s old, good for %.0f s more", age.Seconds(), (hit.life-age).Seconds()))
	}
	steps = append(steps, "not in the cache")
	if forward.health(forward.now()) == silent {
		steps = append(steps, "no upstream has answered lately: until one answers a probe, which goes out every "+recheck.String()+", questions fail at once")
	}
	return steps
}

// whySearched tells what the search path has to do with it.
func (s *Server) whySearched(w *scratch) []string {
	if w.a.rcode != dns.RcodeNameError {
		return nil
	}
	if !s.searches(w) {
		return []string{"the search path is left to the resolver: the asker is no pod of that namespace, the namespace opted out (" +
			AutopathAnnotation + "), or the name is not the first of a walk"}
	}
	var path []string
	for _, suffix := range *s.suffixes.Load() {
		if w.other.become(&w.q, w.base(), suffix) {
			path = append(path, textName(w.other.wire()))
		}
	}
	return []string{"it begins a walk along the search path, which is gone to its end here: " + strings.Join(path, ", ")}
}

// whoAnswered tells, after the answer, whom it came from.
func (s *Server) whoAnswered(w *scratch) []string {
	forward := s.forward
	if w.a.zone == zoneForeign {
		forward = s.forwarderFor(&w.q)
	}
	var steps []string
	for i, u := range forward.turns() {
		failed, rtt, used := u.standing()
		if i >= len(*forward.upstreams.Load()) || used.IsZero() {
			continue
		}
		state := fmt.Sprintf("answers in %s", rtt.Round(rtt/100+1))
		if failed {
			state = "does not answer"
		}
		steps = append(steps, fmt.Sprintf("upstream %s %s", u.addr, state))
	}
	return steps
}

// why tells where in the zone a name is.
func (z *zone) why(q *question, a *answer) []string {
	domain := textName([]byte(z.domain))
	steps := []string{"in zone " + domain}
	count := q.labelsBefore(a.apex)
	kind := ""
	if count >= 2 {
		kind = string(q.label(count - 1))
	}
	switch {
	case kind == "svc" && count >= 3:
		steps = append(steps, z.whyService(q, count-1)...)
	case kind == "svc":
		steps = append(steps, "the name of a namespace: it exists while a Service in it has a name")
	case kind == "pod":
		steps = append(steps, "the name of a pod: it exists while a pod of the namespace has the address")
	default:
		steps = append(steps, "one of the zone's own names: the apex, ns.dns, dns-version, svc, pod")
	}
	switch {
	case a.rcode == dns.RcodeNameError:
		return append(steps, "no such name (NXDOMAIN)")
	case a.set.n == 0 && !a.soa:
		return append(steps, "the name exists, without a record of this type (NODATA)")
	}
	return steps
}

func (z *zone) whyService(q *question, count int) []string {
	start, end := int(q.starts[count-2]), int(q.starts[count])
	key := q.name[start:end]
	service := string(q.label(count-1)) + "/" + string(q.label(count-2))
	s := z.shard(key)
	s.RLock()
	e := s.services[string(key)]
	s.RUnlock()
	if e == nil {
		return []string{"service " + service + " does not exist, has no address yet, or is headless without a ready endpoint"}
	}
	n, exists := e.find(q.name[:start])
	switch {
	case !exists:
		return []string{"service " + service + " is there, but has no port, endpoint or host of that name"}
	case n.alias() != nil:
		return []string{"service " + service + " is of type ExternalName: an alias for " + textName(n.alias())}
	}
	var have []string
	n.each(func(s rrset) { have = append(have, fmt.Sprintf("%d %s", s.n, dns.TypeToString[s.typ])) })
	if have == nil {
		return []string{"service " + service + ": only a step on the way to its ports"}
	}
	return []string{"service " + service + " has here: " + strings.Join(have, ", ")}
}
