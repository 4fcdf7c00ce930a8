package switchover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// TestThereAndBack: with no connection left, each switch ends with one data plane that has everything in force.
func TestThereAndBack(t *testing.T) {
	r := newRig(t, iptablesMode)
	r.serve(r.web(8080, "a"))
	r.start()
	r.answers("a")
	for _, mode := range []string{ebpfMode, iptablesMode, ebpfMode} {
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
	r := newRig(t, iptablesMode)
	r.serve(r.web(8080, "a"))
	r.start()
	if err := r.To(t.Context(), iptablesMode, time.Hour); !errors.Is(err, ErrServes) {
		t.Errorf("to what serves already: %v", err)
	}
	if err := r.To(t.Context(), "ipvs", time.Hour); err == nil || !strings.Contains(err.Error(), "ipvs") {
		t.Errorf("to what does not exist: %v", err)
	}
	r.switching.Store(true)
	if err := r.To(t.Context(), ebpfMode, time.Hour); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("beside another switch: %v", err)
	}
	r.switching.Store(false)
	sctp := r.web(8080, "a")
	sctp.Ports[0].Protocol = "SCTP"
	r.serve(sctp)
	if err := r.To(t.Context(), ebpfMode, time.Hour); err == nil || !strings.Contains(err.Error(), "default/web:http") {
		t.Errorf("to a data plane that cannot serve SCTP: %v", err)
	}
	if p := r.Status().Problem; !strings.Contains(p, "default/web:http") {
		t.Errorf("the status says %q", p)
	}
	r.settled(iptablesMode)
}

// doubtful is a data plane that fails its probe from some attempt on.
type doubtful struct {
	proxy.Exchangeable
	good int
}

func (d *doubtful) Prove(ctx context.Context) error {
	if d.good--; d.good < 0 {
		return errors.New("not in the path")
	}
	return d.Exchangeable.Prove(ctx)
}

// TestProbeFails: before new connections change hands the next data plane is removed, after that they go back.
func TestProbeFails(t *testing.T) {
	for _, good := range []int{0, 1} {
		for _, from := range []string{iptablesMode, ebpfMode} {
			t.Run(fmt.Sprintf("%s after %d", from, good), func(t *testing.T) { probeFails(t, from, good) })
		}
	}
}

func probeFails(t *testing.T, from string, good int) {
	r := newRig(t, from)
	r.serve(r.web(8080, "a"))
	r.start()
	to := otherThan(from)
	kind := r.cfg.Kinds[to]
	open := kind.Open
	kind.Open = func(ctx context.Context) (proxy.Exchangeable, error) {
		p, err := open(ctx)
		return &doubtful{p, good}, err
	}
	r.cfg.Kinds[to] = kind
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
	r := newRig(t, iptablesMode)
	r.serve(r.web(8080, "a"))
	r.start()
	r.to(ebpfMode)
	r.settled(ebpfMode)
	r.crash()
	r.start()
	r.settled(ebpfMode)
	r.crash()
	r.cfg.Mode = ebpfMode
	r.start()
	r.settled(ebpfMode)
	r.crash()
	r.cfg.Mode = iptablesMode
	r.start()
	r.answers("a")
	must(t, r.quiet())
	r.settled(iptablesMode)
	must(t, os.WriteFile(r.cfg.File, []byte("{"), 0o600))
	if _, err := New(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), r.cfg.File) {
		t.Errorf("the file holds half a word, and: %v", err)
	}
}

// TestStickyClients stay with their endpoints in both directions.
func TestStickyClients(t *testing.T) {
	r := newRig(t, iptablesMode)
	web := r.web(8080, "a", "b", "c")
	web.Affinity = time.Hour
	r.serve(web)
	r.start()
	met := map[string]string{}
	for _, mode := range []string{iptablesMode, ebpfMode, iptablesMode, ebpfMode} {
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

// TestDrainTimeout: a connection that does not end goes when its time is over, and its program learns it.
func TestDrainTimeout(t *testing.T) {
	r := newRig(t, ebpfMode)
	r.serve(r.web(8080, "a"))
	r.start()
	conn := r.dialUDP("c", "10.96.0.5:80")
	must(t, r.To(t.Context(), iptablesMode, 300*time.Millisecond))
	if left := r.Status().Left; left != 1 {
		t.Errorf("%d connections are left, want 1", left)
	}
	r.settled(iptablesMode)
	if _, err := conn.Write([]byte("hello")); err == nil {
		if got, err := proxytest.Receive(conn); err == nil {
			t.Errorf("the socket's data plane is gone, and it got %v", got)
		}
	}
	if again := r.dialUDP("c", "10.96.0.5:80"); again == nil {
		t.Error("a new socket is not served")
	}
}
