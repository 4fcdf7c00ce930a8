package switchover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"svcplane/proxy"
	"svcplane/proxy/iptables"
	"svcplane/proxy/proxytest"
)

// TestThereAndBack: with no connection left, each switch ends with one data plane that has everything in force.
func TestThereAndBack(t *testing.T) {
	r := newRig(t, IPTables)
	r.serve(r.web(8080, "a"))
	r.start()
	r.answers("a")
	for _, mode := range []string{EBPF, IPTables, EBPF} {
		r.to(mode)
		r.answers("a")
		r.serve(r.web(8080, "b"))
		r.answers("b")
		must(t, r.quiet())
		r.settled(mode)
		r.serve(r.web(8080, "a"))
		r.answers("a")
	}
}

// TestRefusals: what cannot be is refused with a reason, and changes nothing.
func TestRefusals(t *testing.T) {
	r := newRig(t, IPTables)
	r.serve(r.web(8080, "a"))
	r.start()
	if err := r.To(t.Context(), IPTables, time.Hour); !errors.Is(err, ErrServes) {
		t.Errorf("to what serves already: %v", err)
	}
	if err := r.To(t.Context(), "ipvs", time.Hour); err == nil || !strings.Contains(err.Error(), "ipvs") {
		t.Errorf("to what does not exist: %v", err)
	}
	r.switching.Store(true)
	if err := r.To(t.Context(), EBPF, time.Hour); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("beside another switch: %v", err)
	}
	r.switching.Store(false)
	sctp := r.web(8080, "a")
	sctp.Ports[0].Protocol = "SCTP"
	r.serve(sctp)
	if err := r.To(t.Context(), EBPF, time.Hour); err == nil || !strings.Contains(err.Error(), "default/web:http") {
		t.Errorf("to a data plane that cannot serve SCTP: %v", err)
	}
	if p := r.Status().Problem; !strings.Contains(p, "default/web:http") {
		t.Errorf("the status says %q", p)
	}
	r.settled(IPTables)
}

// doubtful is a data plane that passes its probe so many times.
type doubtful struct {
	proxy.Exchangeable
	good *atomic.Int64
}

func (d doubtful) Prove(ctx context.Context) error {
	if d.good.Add(-1) < 0 {
		return errors.New("not in the path")
	}
	return d.Exchangeable.Prove(ctx)
}

func (d doubtful) Unproven() error {
	if d.good.Load() < 0 {
		return errors.New("not in the path")
	}
	return nil
}

func (d doubtful) Problem() string { return "" }

func (d doubtful) Capabilities() proxy.Capabilities { return proxy.Capabilities{Monitor: d} }

// doubt makes data planes of a kind pass their probe so many times.
func (r *rig) doubt(name string, good int64) *atomic.Int64 {
	left := new(atomic.Int64)
	left.Store(good)
	kind := r.cfg.Kinds[name]
	open := kind.Open
	kind.Open = func(ctx context.Context) (proxy.Exchangeable, error) {
		p, err := open(ctx)
		return doubtful{p, left}, err
	}
	r.cfg.Kinds[name] = kind
	return left
}

// TestTheFirstThatCanServe does; the next when its probe fails, at the start or later, and the status says why.
func TestTheFirstThatCanServe(t *testing.T) {
	r := newRig(t, EBPF)
	r.cfg.Modes, r.cfg.Proof = []string{EBPF, IPTables}, time.Second
	r.serve(r.web(8080, "a"))
	left := r.doubt(EBPF, 0)
	r.start()
	r.settled(IPTables)
	r.answers("a")
	if reason := r.Status().Reason; !strings.Contains(reason, "not ebpf: not in the path") {
		t.Errorf("the reason is %q", reason)
	}
	r.crash()
	left.Store(1 << 32)
	r.start()
	r.answers("a")
	must(t, r.quiet())
	r.settled(EBPF)
	if st := r.Status().String(); st != EBPF {
		t.Errorf("the status says %q", st)
	}
	left.Store(-1)
	r.until("iptables takes its place", func() bool { return r.Mode() == IPTables })
	r.answers("a")
	must(t, r.quiet())
	r.settled(IPTables)
	if st := r.Status().String(); !strings.Contains(st, "iptables (not ebpf: not in the path)") {
		t.Errorf("the status says %q", st)
	}
	r.crash()
	left.Store(1 << 32)
	r.start() // it is no choice of anybody's: the next start tries again
	r.answers("a")
	must(t, r.quiet())
	r.settled(EBPF)
}

// TestProbeFails: before new connections change hands the next data plane is removed, after that they go back.
func TestProbeFails(t *testing.T) {
	for _, good := range []int{0, 1} {
		for _, from := range []string{IPTables, EBPF} {
			t.Run(fmt.Sprintf("%s after %d", from, good), func(t *testing.T) { probeFails(t, from, good) })
		}
	}
}

func probeFails(t *testing.T, from string, good int) {
	r := newRig(t, from)
	r.serve(r.web(8080, "a"))
	r.start()
	to := otherThan(from)
	r.doubt(to, int64(good))
	r.crash()
	r.cfg.Proof = time.Second
	r.start()
	err := r.To(t.Context(), to, time.Hour)
	if err == nil || !strings.Contains(err.Error(), "not in the path") || !strings.Contains(err.Error(), from+" serves as before") {
		t.Errorf("%s to %s: %v", from, to, err)
	}
	r.answers("a")
	must(t, r.quiet())
	r.settled(from)
	r.crash()
	r.start()
	r.settled(from)
	r.answers("a")
}

// TestChoiceSurvives: what a switch has chosen counts after a restart, until another thing is configured.
func TestChoiceSurvives(t *testing.T) {
	r := newRig(t, IPTables)
	r.serve(r.web(8080, "a"))
	r.start()
	r.to(EBPF)
	r.settled(EBPF)
	r.crash()
	r.start()
	r.settled(EBPF)
	r.crash()
	r.cfg.Modes = []string{EBPF}
	r.start()
	r.settled(EBPF)
	r.crash()
	r.cfg.Modes = []string{IPTables}
	r.start()
	r.answers("a")
	must(t, r.quiet())
	r.settled(IPTables)
	must(t, os.WriteFile(r.cfg.File, []byte("{"), 0o600))
	if _, err := New(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), r.cfg.File) {
		t.Errorf("the file holds half a word, and: %v", err)
	}
}

// TestSessionAffinity: clients stay with their endpoints in both directions.
func TestSessionAffinity(t *testing.T) {
	r := newRig(t, IPTables)
	web := r.web(8080, "a", "b", "c")
	web.Affinity = time.Hour
	r.serve(web)
	r.start()
	met := map[string]string{}
	for _, mode := range []string{IPTables, EBPF, IPTables, EBPF} {
		if r.Mode() != mode {
			r.to(mode)
		}
		for _, from := range []string{"node", "a", "client"} {
			for _, to := range []proxy.Address{clusterTCP, nodeTCP} {
				got, err := r.lab.Hosts[from].Dial(to)
				must(t, err)
				if was, ever := met[from]; ever && got.Name != was {
					t.Errorf("after the switch to %s, %s -> %s met %s and before %s", mode, from, to, got.Name, was)
				}
				met[from] = got.Name
			}
		}
		must(t, r.quiet())
		r.settled(mode)
	}
}

// TestSessionAffinityMoves: of two endpoints that are noted for a client the later counts.
func TestSessionAffinityMoves(t *testing.T) {
	for _, mode := range []string{IPTables, EBPF} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, mode)
			web := r.web(8080, "a", "b", "c")
			web.Affinity = time.Hour
			r.serve(web)
			r.start()
			plane, _ := r.members()
			client := r.lab.Hosts["client"].IPv4
			for _, pod := range []string{"b", "c", "a"} {
				want := proxy.ClientAffinity{Origin: "default/web:http", Protocol: "TCP", Client: client, Endpoint: netip.AddrPortFrom(r.lab.Hosts[pod].IPv4, 8080), Last: time.Now()}
				must(t, plane.plane.SetAffinities(t.Context(), []proxy.ClientAffinity{want}))
				all, err := plane.plane.Affinities(t.Context(), r.Table())
				must(t, err)
				if len(all) != 1 || all[0].Endpoint != want.Endpoint || all[0].Client != client || want.Last.Sub(all[0].Last).Abs() > time.Minute {
					t.Errorf("remembered %+v, want %+v", all, want)
				}
				r.lab.Check(t, proxytest.Probe{From: "client", To: clusterTCP, Want: []string{pod}, Affinity: true})
			}
		})
	}
}

// TestDrainTimeout: a connection that does not end goes when its time is over, and its program learns it.
func TestDrainTimeout(t *testing.T) {
	r := newRig(t, EBPF)
	r.serve(r.web(8080, "a"))
	r.start()
	conn := r.dialUDP("c", "10.96.0.5:80")
	must(t, r.To(t.Context(), IPTables, 300*time.Millisecond))
	if left := r.Status().Left; left != 1 {
		t.Errorf("%d connections are left, want 1", left)
	}
	r.settled(IPTables)
	if _, err := conn.Write([]byte("hello")); err == nil {
		if got, err := proxytest.Receive(conn); err == nil {
			t.Errorf("the socket's data plane is gone, and it got %v", got)
		}
	}
	if again := r.dialUDP("c", "10.96.0.5:80"); again == nil {
		t.Error("a new socket is not served")
	}
}

// TestForwardingDropped: on a host that forwards nothing, as Docker leaves it, everybody is served in both modes and
// during a switch; what lets the packets pass comes back when somebody removes it, and goes with the rest.
func TestForwardingDropped(t *testing.T) {
	r := newRig(t, EBPF)
	iptablesTool(t, "-P", "FORWARD", "DROP")
	t.Cleanup(func() { iptablesTool(t, "-P", "FORWARD", "ACCEPT") })
	outside := r.web(8080, "a", "client")
	outside.Ports[1].Endpoints = outside.Ports[1].Endpoints[:1]
	r.serve(outside)
	r.start()
	r.answers("a", "client")
	iptablesTool(t, "-D", "FORWARD", "1")
	have, err := r.Dump(t.Context())
	must(t, err)
	if lines := r.Table().Diff(have); len(lines) != 1 || !strings.Contains(lines[0], "FORWARD") {
		t.Errorf("the jump is gone, and the comparison finds %q", lines)
	}
	must(t, r.Exclusively(func(table proxy.Table) error { return r.Resync(t.Context(), table) }))
	r.answers("a", "client")
	conn := r.dialUDP("client", "192.0.2.1:30080")
	for _, mode := range []string{IPTables, EBPF} {
		r.to(mode)
		r.answers("a", "client")
		r.asked(conn)
		must(t, r.quiet())
		r.settled(mode)
		r.answers("a", "client")
		conn = r.dialUDP("client", "192.0.2.1:30080")
	}
	must(t, iptables.Cleanup(t.Context()))
	if out := iptablesTool(t, "-S"); strings.Contains(out, "SVCPLANE") {
		t.Errorf("rules stay:\n%s", out)
	}
}
