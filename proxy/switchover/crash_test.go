package switchover

import (
	"context"
	"testing"
	"time"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// fuse ends a switch, as the end of the process would, at one of its steps.
type fuse struct{ left int }

// crashed is what a fuse panics with.
type crashed struct{}

func (f *fuse) burn() {
	if f.left--; f.left == 0 {
		panic(crashed{})
	}
}

// fused is a data plane whose calls are steps.
type fused struct {
	proxy.Exchangeable
	*fuse
}

func (f fused) Resync(ctx context.Context, table proxy.Table) error {
	f.burn()
	return f.Exchangeable.Resync(ctx, table)
}

func (f fused) Prove(ctx context.Context) error {
	f.burn()
	return f.Exchangeable.Prove(ctx)
}

func (f fused) Act(ctx context.Context, role proxy.Role) error {
	f.burn()
	return f.Exchangeable.Act(ctx, role)
}

func (f fused) SetAffinities(ctx context.Context, all []proxy.ClientAffinity) error {
	f.burn()
	return f.Exchangeable.SetAffinities(ctx, all)
}

// Capabilities are none: what would run beside the steps of a switch is no part of them.
func (f fused) Capabilities() proxy.Capabilities { return proxy.Capabilities{} }

func (f fused) Close(ctx context.Context) error {
	f.burn()
	return f.Exchangeable.Close(ctx)
}

// fuseAt makes every data plane that is opened from now on part of the fuse.
func (r *rig) fuseAt(f *fuse) {
	for name, kind := range r.cfg.Kinds {
		open := kind.Open
		kind.Open = func(ctx context.Context) (proxy.Exchangeable, error) {
			p, err := open(ctx)
			return fused{p, f}, err
		}
		r.cfg.Kinds[name] = kind
	}
}

// TestCrashAtEveryStep of a switch: the next start ends with one data plane, which one depends on whether new
// connections were due to change hands, and until then everybody is answered.
func TestCrashAtEveryStep(t *testing.T) {
	for _, from := range []string{IPTables, EBPF} {
		t.Run(from, func(t *testing.T) {
			if proxytest.Apart(t) {
				return
			}
			r := newRig(t, from)
			r.serve(r.web(8080, "a"))
			f := &fuse{}
			r.fuseAt(f)
			finished, undone := 0, 0
			for n := 1; ; n++ {
				r.start()
				r.settled(from)
				done := r.switchUntil(f, n, otherThan(from))
				r.answers("a")
				r.crash()
				r.start()
				r.answers("a")
				must(t, r.quiet())
				serving := r.Mode()
				r.settled(serving)
				if serving == from {
					undone++
				} else {
					finished++
					r.to(from)
					must(t, r.quiet())
					r.settled(from)
				}
				r.crash()
				if done {
					break
				}
			}
			t.Logf("%d crashes were undone, %d finished", undone, finished)
			if undone < 3 || finished < 4 {
				t.Errorf("%d crashes were undone, %d finished: too few for a switch of this many steps", undone, finished)
			}
		})
	}
}

// switchUntil switches and drains until the fuse burns out at step n; done is true when the switch has fewer.
func (r *rig) switchUntil(f *fuse, n int, mode string) (done bool) {
	r.t.Helper()
	r.stop() // who drains must not be in the background: it is a step
	f.left = n
	defer func() {
		switch p := recover(); p.(type) {
		case nil:
		case crashed:
			done = false
		default:
			panic(p)
		}
		f.left = 0
	}()
	ctx := context.Background()
	must(r.t, r.To(ctx, mode, time.Hour))
	must(r.t, r.quiet())
	for r.Status().Phase != Settled {
		must(r.t, r.look(ctx))
	}
	return true
}
