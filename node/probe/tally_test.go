package probe

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestTallyNeedsResultsInARow(t *testing.T) {
	count := newTally(&corev1.Probe{SuccessThreshold: 2, FailureThreshold: 3})
	for i, step := range []struct{ ok, decided bool }{
		{true, false}, {true, true}, {true, true},
		{false, false}, {false, false}, {true, false}, // a success starts the count of failures anew
		{false, false}, {false, false}, {false, true}, {true, false}, {true, true},
	} {
		if got := count.add(step.ok); got != step.decided {
			t.Errorf("step %d: decided is %v", i, got)
		}
	}
}

func TestTallyWithoutThresholdsDecidesAtOnce(t *testing.T) {
	count := newTally(&corev1.Probe{})
	if !count.add(false) || !count.add(true) {
		t.Error("one result must do")
	}
}

func TestPaceTriesOftenUntilReady(t *testing.T) {
	p := newPace(Readiness, &corev1.Probe{PeriodSeconds: 1})
	var sum time.Duration
	extras := 0
	for {
		wait, extra := p.next()
		sum += wait
		if !extra {
			break
		}
		extras++
	}
	if sum != time.Second || extras != 3 { // after 0.1, 0.3 and 0.7 s
		t.Errorf("%d extra tries, the one on schedule after %v", extras, sum)
	}
	p.endExtra()
	if wait, extra := p.next(); wait != time.Second || extra {
		t.Errorf("once ready it waits %v (extra: %v)", wait, extra)
	}
}

func TestPaceOfOtherProbesIsTheirPeriod(t *testing.T) {
	for _, kind := range []Kind{Liveness, Startup} {
		p := newPace(kind, &corev1.Probe{})
		if wait, extra := p.next(); wait != 10*time.Second || extra {
			t.Errorf("%s waits %v (extra: %v)", kind, wait, extra)
		}
	}
}
