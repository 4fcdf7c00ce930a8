package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func testNow() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// clock is a time that only the test moves: however long it takes, no TTL passes.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return testNow().Add(time.Duration(c.ahead.Load())) }
func (c *clock) running() time.Time      { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// fakeUpstream is a name server on an address of its own.
type fakeUpstream struct {
	addr netip.AddrPort
	udp  atomic.Int64 // questions seen
	tcp  atomic.Int64
}

// serveUpstream starts a name server on 127.0.0.N; handler sees every question.
func serveUpstream(t *testing.T, n int, handler func(w dns.ResponseWriter, q *dns.Msg)) *fakeUpstream {
	t.Helper()
	needNetns(t)
	u := &fakeUpstream{addr: netip.MustParseAddrPort(fmt.Sprintf("127.0.0.%d:53", n))}
	pc, err := net.ListenPacket("udp", u.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", u.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	count := func(seen *atomic.Int64) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) { seen.Add(1); handler(w, q) }
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // runs after the shutdowns below
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: count(&u.udp)}, {Listener: l, Handler: count(&u.tcp)}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { _ = s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return u
}

// answering gives records to every question.
func answering(records ...string) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(reply(q, records...)) }
}

func reply(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

// negative answers like the server of example.com, with a negative TTL of 60 s.
func negative(rcode int) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q, "example.com. 3600 IN SOA ns.example.com. admin.example.com. 1 2 3 4 60")
		m.Ns, m.Answer, m.Rcode = m.Answer, nil, rcode
		_ = w.WriteMsg(m)
	}
}

// forwarding makes a server with the given upstreams and a clock.
func forwarding(t *testing.T, upstreams ...netip.AddrPort) (*fixture, *clock) {
	t.Helper()
	c := &clock{}
	f := synced(t, Config{}, cluster()...)
	f.forward = newForwarder(newCache(1<<20), c.now)
	f.forward.use(upstreams)
	t.Cleanup(f.forward.workers.Wait)
	return f, c
}

const www = "www.example.com."

func TestForwardKeepsTheAnswer(t *testing.T) {
	u := serveUpstream(t, 101, answering("www.example.com. 60 IN A 192.0.2.1"))
	f, clock := forwarding(t, u.addr)
	for _, tt := range []struct {
		name  string
		after time.Duration
		ttl   uint32
		asked int64
	}{
		{www, 0, 60, 1},
		{"wWw.Example.COM.", 25 * time.Second, 35, 1},
		{www, 40 * time.Second, 60, 2},
	} {
		clock.advance(tt.after)
		m := f.ask(t, tt.name, dns.TypeA)
		if len(m.Answer) != 1 || m.Rcode != dns.RcodeSuccess || m.Authoritative || !m.RecursionAvailable || m.IsEdns0() != nil {
			t.Fatalf("%v", m)
		}
		if ttl := m.Answer[0].Header().Ttl; ttl > tt.ttl || ttl+1 < tt.ttl {
			t.Errorf("TTL %d, expected %d", ttl, tt.ttl)
		}
		if m.Question[0].Name != tt.name || m.Answer[0].Header().Name != tt.name {
			t.Errorf("asked for %s, answered %s %s", tt.name, m.Question[0].Name, m.Answer[0].Header().Name)
		}
		if n := u.udp.Load(); n != tt.asked {
			t.Errorf("the upstream was asked %d times, expected %d", n, tt.asked)
		}
	}
}

func TestForwardNegativeCaching(t *testing.T) {
	for n, rcode := range []int{dns.RcodeNameError, dns.RcodeSuccess} {
		u := serveUpstream(t, 111+n, negative(rcode))
		f, clock := forwarding(t, u.addr)
		for i, after := range []time.Duration{0, 59 * time.Second, 2 * time.Second} {
			clock.advance(after)
			m := f.ask(t, www, dns.TypeA)
			if m.Rcode != rcode || len(m.Answer) != 0 || len(m.Ns) != 1 {
				t.Fatalf("%v", m)
			}
			if want := int64(1 + i/2); u.udp.Load() != want {
				t.Errorf("%s, step %d: asked %d times, expected %d", dns.RcodeToString[rcode], i, u.udp.Load(), want)
			}
		}
	}
}

func TestForwardDoesNotKeepFailures(t *testing.T) {
	for n, handler := range []func(dns.ResponseWriter, *dns.Msg){
		func(w dns.ResponseWriter, q *dns.Msg) {
			m := reply(q)
			m.Rcode = dns.RcodeServerFailure
			_ = w.WriteMsg(m)
		},
		func(w dns.ResponseWriter, q *dns.Msg) { // absent, and no SOA to say for how long
			m := reply(q)
			m.Rcode = dns.RcodeNameError
			_ = w.WriteMsg(m)
		},
	} {
		u := serveUpstream(t, 121+n, handler)
		f, _ := forwarding(t, u.addr)
		f.ask(t, www, dns.TypeA)
		before := u.udp.Load()
		f.ask(t, www, dns.TypeA)
		if u.udp.Load() == before {
			t.Errorf("upstream %d: a failure was kept", n)
		}
	}
}

func TestForwardRetriesTruncatedOverTCP(t *testing.T) {
	u := serveUpstream(t, 102, func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		if _, isUDP := w.RemoteAddr().(*net.UDPAddr); isUDP {
			m.Truncated = true
		} else {
			for i := range 200 {
				m.Answer = append(m.Answer, reply(q, fmt.Sprintf("www.example.com. 60 IN A 192.0.2.%d", i)).Answer...)
			}
		}
		_ = w.WriteMsg(m)
	})
	f, _ := forwarding(t, u.addr)
	if m := f.ask(t, www, dns.TypeA); len(m.Answer) != 200 || m.Truncated || u.tcp.Load() != 1 {
		t.Errorf("%d records, truncated %t, %d questions over TCP", len(m.Answer), m.Truncated, u.tcp.Load())
	}
	m := f.exchange(t, false, www, dns.TypeA)
	if !m.Truncated || len(m.Answer) == 0 || len(m.Answer) == 200 {
		t.Errorf("over UDP: truncated %t, %d records", m.Truncated, len(m.Answer))
	}
}

// TestForwardBelievesOnlyTheAnswer: before the real answer the asker gets forged ones.
func TestForwardBelievesOnlyTheAnswer(t *testing.T) {
	const forged = "www.example.com. 60 IN A 203.0.113.66"
	stranger, err := net.ListenPacket("udp", "127.0.0.104:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Close() })
	u := serveUpstream(t, 103, func(w dns.ResponseWriter, q *dns.Msg) {
		wrongID, wrongName, wrongType, noAnswer := reply(q, forged), reply(q, forged), reply(q, forged), reply(q, forged)
		wrongID.Id ^= 1
		wrongName.Question[0].Name = "www.example.org."
		wrongType.Question = []dns.Question{{Name: www, Qtype: dns.TypeAAAA, Qclass: dns.ClassINET}}
		noAnswer.Response = false
		for _, m := range []*dns.Msg{wrongID, wrongName, wrongType, noAnswer} {
			_ = w.WriteMsg(m)
		}
		_, _ = w.Write([]byte("garbage"))
		if wire, err := reply(q, forged).Pack(); err == nil { // right in everything but the sender
			_, _ = stranger.WriteTo(wire, w.RemoteAddr())
		}
		_ = w.WriteMsg(reply(q, "www.example.com. 60 IN A 192.0.2.1"))
	})
	f, _ := forwarding(t, u.addr)
	if got := texts(f.ask(t, www, dns.TypeA).Answer); !slices.Equal(got, []string{"www.example.com. 60 IN A 192.0.2.1"}) {
		t.Errorf("answer %v", got)
	}
	if u.udp.Load() != 1 {
		t.Errorf("asked %d times", u.udp.Load())
	}
}

// within says that do takes no longer than limit. A busy machine may hold up any single try, not all of them.
func within(t *testing.T, limit time.Duration, prepare, do func()) {
	t.Helper()
	var took time.Duration
	for range 20 {
		prepare()
		start := time.Now()
		do()
		if took = time.Since(start); took <= limit {
			return
		}
	}
	t.Errorf("it takes %s, expected %s at most", took, limit)
}

func TestForwardFailsOver(t *testing.T) {
	silent := serveUpstream(t, 105, func(dns.ResponseWriter, *dns.Msg) {})
	good := serveUpstream(t, 106, answering("www.example.com. 0 IN A 192.0.2.1"))
	failing := serveUpstream(t, 107, func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		m.Rcode = dns.RcodeServerFailure
		_ = w.WriteMsg(m)
	})
	closed := netip.MustParseAddrPort("127.0.0.108:53")
	for _, tt := range []struct {
		name string
		bad  netip.AddrPort
		most time.Duration
	}{
		{"silent", silent.addr, 500 * time.Millisecond},
		{"failing", failing.addr, 300 * time.Millisecond},
		{"closed", closed, 300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f *fixture
			within(t, tt.most, func() {
				f, _ = forwarding(t, tt.bad, good.addr) // as if nobody had asked before
			}, func() {
				if m := f.ask(t, www, dns.TypeA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
					t.Errorf("%v", m)
				}
			})
			if tt.name != "failing" { // that one answers, if badly, and fast: now it is not asked first
				within(t, failover/2, func() {}, func() { f.ask(t, www, dns.TypeA) })
			}
		})
	}
}

func TestForwardFailsFastWithoutUpstream(t *testing.T) {
	needNetns(t)
	f, _ := forwarding(t, netip.MustParseAddrPort("127.0.0.109:53"))
	within(t, time.Second, func() {}, func() {
		if m := f.ask(t, www, dns.TypeA); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("%v", m)
		}
	})
}

func TestForwardCoalesces(t *testing.T) {
	release := make(chan struct{})
	u := serveUpstream(t, 131, func(w dns.ResponseWriter, q *dns.Msg) {
		<-release
		_ = w.WriteMsg(reply(q, "www.example.com. 60 IN A 192.0.2.1"))
	})
	f, _ := forwarding(t, u.addr)
	var askers sync.WaitGroup
	for range 50 {
		askers.Go(func() {
			if m := f.ask(t, www, dns.TypeA); len(m.Answer) != 1 {
				t.Errorf("%v", m)
			}
		})
	}
	wait(t, "all to wait", func() bool { return len(f.waiting) == 50 })
	close(release)
	askers.Wait()
	if n := u.udp.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

func TestForwardServesStale(t *testing.T) {
	var down atomic.Bool
	u := serveUpstream(t, 132, func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q, "www.example.com. 60 IN A 192.0.2.1")
		if down.Load() {
			m.Answer, m.Rcode = nil, dns.RcodeServerFailure
		}
		_ = w.WriteMsg(m)
	})
	f, clock := forwarding(t, u.addr)
	f.ask(t, www, dns.TypeA)
	down.Store(true)
	clock.advance(time.Hour)
	if got := texts(f.ask(t, www, dns.TypeA).Answer); !slices.Equal(got, []string{"www.example.com. 30 IN A 192.0.2.1"}) {
		t.Errorf("an hour later: %v", got)
	}
	asked := u.udp.Load()
	for range 10 {
		f.ask(t, www, dns.TypeA)
	}
	if u.udp.Load() != asked {
		t.Errorf("asked %d times more within the recheck time", u.udp.Load()-asked)
	}
	clock.advance(25 * time.Hour)
	if m := f.ask(t, www, dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a day later: %v", m)
	}
}

// TestForwardLoop: an upstream that asks us gets told so at once, and nothing multiplies.
func TestForwardLoop(t *testing.T) {
	var self atomic.Pointer[fixture]
	var inner atomic.Int64
	u := serveUpstream(t, 133, func(w dns.ResponseWriter, q *dns.Msg) {
		wire, err := q.Pack()
		if err != nil {
			t.Error(err)
		}
		back := new(dns.Msg)
		if err := back.Unpack(self.Load().wait(context.Background(), wire, netip.MustParseAddr("127.0.0.133"), false)); err != nil {
			t.Error(err)
		}
		inner.Add(1)
		_ = w.WriteMsg(back)
	})
	f, _ := forwarding(t, u.addr)
	self.Store(f)
	if m := f.ask(t, www, dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
	if n := inner.Load(); n == 0 || n > 3 {
		t.Errorf("went round %d times", n)
	}
}

func TestAliasIsFollowed(t *testing.T) {
	u := serveUpstream(t, 134, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Name == "db.example.com." && q.Question[0].Qtype == dns.TypeA {
			_ = w.WriteMsg(reply(q, "db.example.com. 60 IN CNAME db1.example.com.", "db1.example.com. 60 IN A 192.0.2.5"))
			return
		}
		negative(dns.RcodeSuccess)(w, q)
	})
	f, _ := forwarding(t, u.addr)
	for _, tt := range []struct {
		name   string
		typ    uint16
		rcode  int
		answer []string
	}{
		{"Db.default.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{
			"Db.default.svc.cluster.local. 5 IN CNAME db.example.com.",
			"db.example.com. 60 IN CNAME db1.example.com.", "db1.example.com. 60 IN A 192.0.2.5",
		}},
		{"db.default.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, []string{"db.default.svc.cluster.local. 5 IN CNAME db.example.com."}},
		{"db.default.svc.cluster.local.", dns.TypeCNAME, dns.RcodeSuccess, []string{"db.default.svc.cluster.local. 5 IN CNAME db.example.com."}},
		{"alias.default.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, []string{
			"alias.default.svc.cluster.local. 5 IN CNAME dual.default.svc.cluster.local.",
			"dual.default.svc.cluster.local. 5 IN AAAA fd00:96::2",
		}},
		{"circle.default.svc.cluster.local.", dns.TypeA, dns.RcodeServerFailure, nil},
	} {
		m := f.ask(t, tt.name, tt.typ)
		if m.Rcode != tt.rcode {
			t.Errorf("%s: %s", tt.name, dns.RcodeToString[m.Rcode])
		}
		if got := texts(m.Answer); tt.answer != nil && !slices.Equal(got, tt.answer) {
			t.Errorf("%s: got %q", tt.name, got)
		}
	}
}
