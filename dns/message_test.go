package dns

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// crowd is a headless Service with n endpoints.
func crowd(n int) []runtime.Object {
	var endpoints []discoveryv1.Endpoint
	for i := range n {
		endpoints = append(endpoints, host(fmt.Sprintf("member-%d", i), true, fmt.Sprintf("10.244.%d.%d", 100+i/250, i%250+1)))
	}
	return []runtime.Object{headless("crowd"), slice("crowd", endpoints...)}
}

func TestBadMessages(t *testing.T) {
	f := synced(t, Config{}, clusterIP("web", "10.96.0.1"))
	query := func(edit func(*dns.Msg)) []byte {
		m := new(dns.Msg)
		m.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
		m.Id = 0xABCD
		edit(m)
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return wire
	}
	opt := func(m *dns.Msg) *dns.OPT { return m.SetEdns0(4096, false).IsEdns0() }
	for _, tt := range []struct {
		name  string
		wire  []byte
		rcode int // -1: no reply at all
	}{
		{"nothing", nil, -1},
		{"half a header", make([]byte, 11), -1},
		{"an answer", query(func(m *dns.Msg) { m.Response = true }), -1},
		{"no question", query(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		{"two questions", query(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"a cut name", query(func(m *dns.Msg) {})[:20], dns.RcodeFormatError},
		{"a cut type", query(func(m *dns.Msg) {})[:12+31+3], dns.RcodeFormatError},
		{"a record that is not there", func() []byte { w := query(func(m *dns.Msg) {}); w[11] = 1; return w }(), dns.RcodeFormatError},
		{"a compressed question", []byte("\xAB\xCD\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xC0\x0C\x00\x01\x00\x01"), dns.RcodeFormatError},
		{"two OPT records", query(func(m *dns.Msg) { opt(m); opt(m) }), dns.RcodeFormatError},
		{"an EDNS option that goes on too long", func() []byte {
			w := query(func(m *dns.Msg) { opt(m) })
			w[len(w)-1] = 4
			return append(w, 0, 10, 0, 8)
		}(), dns.RcodeFormatError},
		{"an update", query(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"a reserved opcode", query(func(m *dns.Msg) { m.Opcode = 15 }), dns.RcodeNotImplemented},
		{"class CHAOS", query(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		{"a zone transfer", query(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }), dns.RcodeRefused},
		{"type MAILA", query(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMAILA }), dns.RcodeNotImplemented},
		{"EDNS version 1", query(func(m *dns.Msg) { opt(m).SetVersion(1) }), dns.RcodeBadVers},
		{"an unknown EDNS option", query(func(m *dns.Msg) {
			o := opt(m)
			o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")})
		}), dns.RcodeSuccess},
		{"an outside name without recursion", query(func(m *dns.Msg) {
			m.RecursionDesired = false
			m.Question[0].Name = "example.com."
		}), dns.RcodeRefused},
		{"an outside name without upstreams", query(func(m *dns.Msg) { m.Question[0].Name = "example.com." }), dns.RcodeServerFailure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reply, later := f.respond(nil, tt.wire, new(scratch), false)
			if later {
				t.Fatal("waits")
			}
			if tt.rcode < 0 {
				if len(reply) > 0 {
					t.Fatalf("replied %x", reply)
				}
				return
			}
			m := new(dns.Msg)
			if err := m.Unpack(reply); err != nil {
				t.Fatalf("the reply does not parse: %v", err)
			}
			if m.Rcode != tt.rcode || m.Id != 0xABCD || !m.Response {
				t.Errorf("replied %v", m)
			}
		})
	}
}

func TestAnyGetsTheMinimalAnswer(t *testing.T) {
	f := synced(t, Config{}, clusterIP("web", "10.96.0.1"))
	for name, rcode := range map[string]int{
		"web.default.svc.cluster.local.":    dns.RcodeSuccess,
		"absent.default.svc.cluster.local.": dns.RcodeNameError,
		"example.com.":                      dns.RcodeSuccess,
	} {
		m := f.ask(t, name, dns.TypeANY)
		minimal := len(m.Answer) == 1 && m.Answer[0].Header().Rrtype == dns.TypeHINFO
		if m.Rcode != rcode || minimal != (rcode == dns.RcodeSuccess) {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestEDNS(t *testing.T) {
	f := synced(t, Config{}, clusterIP("web", "10.96.0.1"))
	for _, name := range []string{"web.default.svc.cluster.local.", "absent.default.svc.cluster.local.", "example.com."} {
		if m := f.ask(t, name, dns.TypeA); m.IsEdns0() != nil {
			t.Errorf("%s: OPT for one who sent none: %v", name, m)
		}
		m := f.ask(t, name, dns.TypeA, func(m *dns.Msg) { m.SetEdns0(4096, true) })
		if opt := m.IsEdns0(); opt == nil || opt.UDPSize() != maxUDP || !opt.Do() || opt.Version() != 0 {
			t.Errorf("%s: OPT %v", name, opt)
		}
	}
}

// TestTruncation: what does not fit in what the client takes, 1232 octets at most, is cut at a record and marked;
// over TCP all of it is there.
func TestTruncation(t *testing.T) {
	f := synced(t, Config{}, crowd(500)...)
	for _, tt := range []struct {
		name string
		typ  uint16
		tcp  bool
		size uint16 // EDNS; 0: none
		max  int
		cut  bool
	}{
		{"crowd.default.svc.cluster.local.", dns.TypeA, false, 0, 512, true},
		{"crowd.default.svc.cluster.local.", dns.TypeA, false, 100, 512, true},
		{"crowd.default.svc.cluster.local.", dns.TypeA, false, 800, 800, true},
		{"crowd.default.svc.cluster.local.", dns.TypeA, false, 4096, 1232, true},
		{"crowd.default.svc.cluster.local.", dns.TypeA, true, 0, 65535, false},
		{"_http._tcp.crowd.default.svc.cluster.local.", dns.TypeSRV, false, 1232, 1232, true},
		{"_http._tcp.crowd.default.svc.cluster.local.", dns.TypeSRV, true, 1232, 65535, false},
	} {
		t.Run(fmt.Sprintf("%s tcp=%t size=%d", dns.TypeToString[tt.typ], tt.tcp, tt.size), func(t *testing.T) {
			m := f.exchange(t, tt.tcp, tt.name, tt.typ, func(m *dns.Msg) {
				if tt.size > 0 {
					m.SetEdns0(tt.size, false)
				}
			})
			m.Compress = true
			if m.Truncated != tt.cut || (m.IsEdns0() != nil) != (tt.size > 0) {
				t.Errorf("truncated %t, OPT %v", m.Truncated, m.IsEdns0())
			}
			if !tt.cut && len(m.Answer) != 500 {
				t.Errorf("%d records of 500", len(m.Answer))
			}
			if tt.cut && len(m.Answer) == 0 {
				t.Error("no record at all for those who do not retry over TCP")
			}
			if size := len(f.raw(t, tt.name, tt.typ, tt.tcp, tt.size)); size > tt.max || (tt.cut && size < tt.max-100) {
				t.Errorf("%d octets, at most %d were asked for", size, tt.max)
			}
		})
	}
}

// raw is the reply in octets.
func (f *fixture) raw(t *testing.T, name string, typ uint16, tcp bool, size uint16) []byte {
	t.Helper()
	query := new(dns.Msg)
	query.SetQuestion(name, typ)
	if size > 0 {
		query.SetEdns0(size, false)
	}
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply, _ := f.respond(nil, wire, new(scratch), tcp)
	return reply
}

// TestAdditionalIsCutInSilence: RFC 2181 section 9.
func TestAdditionalIsCutInSilence(t *testing.T) {
	f := synced(t, Config{}, crowd(6)...)
	m := f.exchange(t, false, "_http._tcp.crowd.default.svc.cluster.local.", dns.TypeSRV)
	if m.Truncated || len(m.Answer) != 6 || len(m.Extra) == 0 || len(m.Extra) == 6 {
		t.Errorf("truncated %t, %d answers, %d additional", m.Truncated, len(m.Answer), len(m.Extra))
	}
}

func TestEveryRecordComesFirst(t *testing.T) {
	f := synced(t, Config{}, crowd(10)...)
	for _, name := range []string{"crowd.default.svc.cluster.local.", "_http._tcp.crowd.default.svc.cluster.local."} {
		typ := dns.TypeA
		if name[0] == '_' {
			typ = dns.TypeSRV
		}
		first := map[string]int{}
		for range 1000 {
			m := f.ask(t, name, typ)
			if len(m.Answer) != 10 {
				t.Fatalf("%d records", len(m.Answer))
			}
			first[m.Answer[0].String()]++
		}
		for record, n := range first {
			if len(first) != 10 || n < 30 { // 100 expected, 9.5 the deviation
				t.Errorf("%s came first %d times of 1000, %d records did at all", record, n, len(first))
			}
		}
	}
}

// everybody is a pod of namespace default.
type everybody struct{}

func (everybody) HasPod(string, netip.Addr) bool                   { return true }
func (everybody) HasNamespace(string) bool                         { return true }
func (everybody) HasSynced() bool                                  { return true }
func (everybody) Searching(netip.Addr) (namespace string, ok bool) { return "default", true }

func FuzzMessage(f *testing.F) {
	for _, tt := range specification {
		m := new(dns.Msg)
		m.SetQuestion(tt.name, tt.typ)
		m.SetEdns0(1232, true)
		if wire, err := m.Pack(); err == nil {
			f.Add(wire, false)
		}
	}
	for _, name := range []string{"dual.default.default.svc.cluster.local.", "alias.default.svc.default.svc.cluster.local.", "x.lab.example.", "example.com.default.svc.cluster.local."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		if wire, err := m.Pack(); err == nil {
			f.Add(wire, false)
		}
	}
	f.Add([]byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xC0\x0C\x00\x01\x00\x01"), true)
	cfg := specConfig()
	cfg.Pods, cfg.LANDomain, cfg.NodeAddrs = everybody{}, "lab.example", []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	s := synced(f, cfg, append(cluster(), crowd(100)...)...)
	w := &scratch{from: netip.MustParseAddr("10.244.0.9")}
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		reply, later := s.respond(nil, msg, w, tcp)
		if later {
			reply = s.wait(t.Context(), msg, w.from, tcp)
		}
		if len(reply) == 0 {
			return
		}
		var m dns.Msg
		if err := m.Unpack(reply); err != nil {
			t.Fatalf("%x\nreply %x\ndoes not parse: %v", msg, reply, err)
		}
		if !m.Response || reply[0] != msg[0] || reply[1] != msg[1] {
			t.Fatalf("%x\nreply %v", msg, &m)
		}
		if !tcp && len(reply) > maxUDP {
			t.Fatalf("%d octets over UDP", len(reply))
		}
	})
}

// FuzzUpstreamAnswer: what an upstream sends ends in the cache and is served from there.
func FuzzUpstreamAnswer(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.com.", dns.TypeA)
	query, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN CNAME www.example.net.", "example.com. 60 IN SOA a. b. 1 2 3 4 5"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		answer := m.Copy()
		answer.Response = true
		answer.Answer = append(answer.Answer, rr)
		wire, err := answer.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	w := new(scratch)
	now := testNow()
	f.Fuzz(func(t *testing.T, wire []byte) {
		answer := new(dns.Msg)
		if answer.Unpack(wire) != nil || !isAnswer(&dns.Msg{MsgHdr: dns.MsgHdr{Id: answer.Id, Opcode: answer.Opcode}, Question: m.Question}, answer) {
			return
		}
		answer.Question = m.Question
		c, err := newCached("key", answer, now)
		if err != nil {
			return
		}
		w.q.parse(query)
		reply := c.append(nil, query, &w.q, now, minUDP)
		if err := new(dns.Msg).Unpack(reply); err != nil || len(reply) > minUDP {
			t.Fatalf("%d octets: %v\nfrom %x\nto   %x", len(reply), err, wire, reply)
		}
	})
}
