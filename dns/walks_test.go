package dns

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// asking counts the questions by name that reach an upstream which knows no name.
type asking struct {
	mu    sync.Mutex
	names map[string]int
}

func (a *asking) handle(w dns.ResponseWriter, q *dns.Msg) {
	a.mu.Lock()
	a.names[q.Question[0].Name]++
	a.mu.Unlock()
	negative(dns.RcodeNameError)(w, q)
}

// TestCompleteNamesOfOursAreNeverAskedUpstream: a resolver with ndots:5 looks for names that end in our zone and do not
// exist; all that it asks on its way is answered here.
func TestCompleteNamesOfOursAreNeverAskedUpstream(t *testing.T) {
	seen := &asking{names: map[string]int{}}
	u := serveUpstream(t, 155, seen.handle)
	index := podsOf(t, searchingPod("default", "10.244.0.9"))
	for _, tt := range []struct {
		what, name string
		rcode      int
	}{
		{"of the pod's own namespace", "wrong.default.svc.cluster.local.", dns.RcodeNameError},
		{"of another namespace", "wrong.shop.svc.cluster.local.", dns.RcodeNameError},
		{"with a port", "_http._tcp.wrong.default.svc.cluster.local.", dns.RcodeNameError},
		{"below the zone", "wrong.cluster.local.", dns.RcodeNameError},
		{"one that exists, for the family that it lacks", "web.default.svc.cluster.local.", dns.RcodeSuccess},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f := synced(t, Config{Pods: index}, cluster()...)
			f.forward.use([]netip.AddrPort{u.addr})
			f.setSuffixes([]string{"lab.example"})
			clear(seen.names)
			for _, suffix := range []string{"default.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "lab.example."} {
				m := f.askFrom(t, "10.244.0.9", tt.name+suffix, dns.TypeAAAA)
				if m.Rcode != dns.RcodeNameError && tt.rcode == dns.RcodeNameError {
					t.Errorf("%s: %s", tt.name+suffix, dns.RcodeToString[m.Rcode])
				}
			}
			if m := f.askFrom(t, "10.244.0.9", tt.name, dns.TypeAAAA); m.Rcode != tt.rcode {
				t.Errorf("%s: %s", tt.name, dns.RcodeToString[m.Rcode])
			}
			if len(seen.names) > 0 {
				t.Errorf("the upstream was asked for %v", seen.names)
			}
		})
	}
}

// TestWalksAreToldApart: who has not begun a walk gets what upstreams know of a name that looks like part of one.
func TestWalksAreToldApart(t *testing.T) {
	u := serveUpstream(t, 156, func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1"))
	})
	index := podsOf(t, searchingPod("default", "10.244.0.9"), searchingPod("default", "10.244.0.10"))
	f := synced(t, Config{Pods: index}, cluster()...)
	f.forward.use([]netip.AddrPort{u.addr})
	now := &clock{}
	f.forward.now = now.now
	f.setSuffixes([]string{"lab.example"})
	const name = "wrong.default.svc.cluster.local."
	astray := func(from string) bool {
		return f.askFrom(t, from, name+"lab.example.", dns.TypeA).Rcode == dns.RcodeNameError
	}
	if f.askFrom(t, "10.244.0.9", name+"default.svc.cluster.local.", dns.TypeA); !astray("10.244.0.9") {
		t.Error("on a walk: the upstream is asked")
	}
	if astray("10.244.0.10") {
		t.Error("another pod, which is on no walk: the upstream is not asked")
	}
	now.advance(walkLasts + 2*time.Second)
	if astray("10.244.0.9") {
		t.Error("after the walk: the upstream is not asked")
	}
}

// TestSilentUpstreams: while none answers, questions fail at once and the search path ends at once; probes find out when
// one answers again.
func TestSilentUpstreams(t *testing.T) {
	var answers atomic.Bool
	u := serveUpstream(t, 157, func(w dns.ResponseWriter, q *dns.Msg) {
		if answers.Load() {
			_ = w.WriteMsg(reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1"))
		}
	})
	now := &clock{}
	f := synced(t, Config{Pods: podsOf(t, searchingPod("default", "10.244.0.9"))}, cluster()...)
	f.forward = newForwarder(newCache(1<<20), now.now)
	f.forward.use([]netip.AddrPort{u.addr})
	t.Cleanup(f.forward.workers.Wait)
	probe := func() {
		f.forward.asked.Store(now.now().UnixNano())
		f.forward.probe(t.Context())
		f.forward.workers.Wait()
	}
	for range 3 { // as when the upstream drops questions for one name
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		query := new(dns.Msg)
		query.SetQuestion("dropped.example.com.", dns.TypeA)
		f.forward.try(ctx, (*f.forward.upstreams.Load())[0], query)
		cancel()
	}
	if f.forward.health(now.now()) != hearing {
		t.Fatal("that one name has no answer says nothing about the upstream")
	}
	probe()
	asked := u.udp.Load()
	if m := f.ask(t, www, dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
	if m := f.askFrom(t, "10.244.0.9", "wrong.default.svc.cluster.local.", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("%v", m)
	}
	if n := u.udp.Load(); n != asked {
		t.Errorf("the upstream that does not answer was asked %d times more", n-asked)
	}
	now.advance(silentFor + time.Second)
	if h := f.forward.health(now.now()); h != doubtful {
		t.Errorf("a while later its health is %d", h)
	}
	answers.Store(true)
	probe()
	if m := f.ask(t, www, dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("it answers again: %v", m)
	}
}

// TestOneLostProbe: one datagram that is lost, be it a probe's, makes no question fail.
func TestOneLostProbe(t *testing.T) {
	var seen atomic.Int64
	u := serveUpstream(t, 159, func(w dns.ResponseWriter, q *dns.Msg) {
		if seen.Add(1) > 1 {
			_ = w.WriteMsg(reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1"))
		}
	})
	f, now := forwarding(t, u.addr)
	f.forward.asked.Store(now.now().UnixNano())
	f.forward.probe(t.Context())
	f.forward.workers.Wait()
	if h := f.forward.health(now.now()); h != hearing {
		t.Errorf("its health is %d", h)
	}
	if m := f.ask(t, www, dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("%v", m)
	}
}

func TestWalksDoNotAllocate(t *testing.T) {
	u := serveUpstream(t, 158, negative(dns.RcodeNameError))
	f := synced(t, Config{Pods: podsOf(t, searchingPod("default", "10.244.0.9"))}, cluster()...)
	f.forward.use([]netip.AddrPort{u.addr})
	f.setSuffixes([]string{"lab.example"})
	w, out := &scratch{from: netip.MustParseAddr("10.244.0.9")}, make([]byte, 0, maxReplyUDP)
	for _, suffix := range []string{"default.svc.cluster.local.", "lab.example.", ""} {
		query := new(dns.Msg)
		query.SetQuestion("wrong.default.svc.cluster.local."+suffix, dns.TypeA)
		wire, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { f.respond(out, wire, w, false) }); n > 0 {
			t.Errorf("below %q: %v allocations", suffix, n)
		}
	}
}
