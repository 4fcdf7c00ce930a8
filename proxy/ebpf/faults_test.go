package ebpf

import (
	"errors"
	"math/rand/v2"
	"testing"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// flaky fails every nth write: by turns before and after it is done.
type flaky struct {
	store
	every, count int
}

var errFlaky = errors.New("this write fails in a test")

func (f *flaky) attempt(do func() error) error {
	f.count++
	switch {
	case f.count%f.every != 0:
		return do()
	case f.count/f.every%2 == 0:
		return errFlaky
	}
	return errors.Join(do(), errFlaky)
}

func (f *flaky) put(e entry) error    { return f.attempt(func() error { return f.store.put(e) }) }
func (f *flaky) remove(e entry) error { return f.attempt(func() error { return f.store.remove(e) }) }

// insistent tries again after each failure, as the loop does.
type insistent struct {
	*Dataplane
	t        *testing.T
	failures int
}

func (i *insistent) insist(try func() error) error {
	for attempt := 0; ; attempt++ {
		err := try()
		if !errors.Is(err, errFlaky) || attempt > 500 {
			return err
		}
		i.failures++
	}
}

// TestEveryTenthWriteFails runs the whole contract so.
func TestEveryTenthWriteFails(t *testing.T) {
	if proxytest.Apart(t) {
		return
	}
	lab := proxytest.NewLab(t)
	i := &insistent{Dataplane: open(t, lab), t: t}
	i.fault = func(s store) store { return &flaky{store: s, every: 10} }
	proxytest.Run(t, lab, swept{flakyPlane{i}, i.Dataplane})
	if i.failures < 5 {
		t.Errorf("only %d writes failed", i.failures)
	}
}

// TestRandomChangesUnderFaults looks at the maps after changes of all kinds.
func TestRandomChangesUnderFaults(t *testing.T) {
	d := open(t, &proxytest.Lab{})
	i := &insistent{Dataplane: d, t: t}
	i.fault = func(s store) store { return &flaky{store: s, every: 40} }
	plane := flakyPlane{i}
	r := rand.New(rand.NewPCG(9, 10))
	var now proxy.Table
	must(t, plane.Resync(t.Context(), now))
	for n := range 20 {
		next := random(r, r.IntN(40))
		if n%4 == 3 {
			must(t, plane.Resync(t.Context(), next))
		} else {
			must(t, plane.Sync(t.Context(), proxytest.Step(now, next)))
		}
		now = next
		proxytest.CheckDump(t, d, now)
	}
	if i.failures < 5 {
		t.Errorf("only %d writes failed", i.failures)
	}
}
