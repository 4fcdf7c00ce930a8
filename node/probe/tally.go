package probe

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Kind is what a probe is for. Its text is the one in Events.
type Kind string

const (
	Startup   Kind = "Startup"
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
)

// tally turns single results into verdicts by the thresholds of a probe.
type tally struct {
	success, failure int // consecutive results that it takes
	last             bool
	run              int
}

func newTally(p *corev1.Probe) tally {
	return tally{success: max(1, int(p.SuccessThreshold)), failure: max(1, int(p.FailureThreshold))}
}

// add counts one result; decided says that it is, or stays, the verdict.
func (t *tally) add(ok bool) (decided bool) {
	if t.run == 0 || t.last != ok {
		t.last, t.run = ok, 0
	}
	t.run++
	if ok {
		return t.run >= t.success
	}
	return t.run >= t.failure
}

// firstExtra is the wait before the first try outside the schedule; each further wait is twice as long.
const firstExtra = 100 * time.Millisecond

// pace says when to try next. A container that has never been ready is also tried outside its schedule
// (documented for periodSeconds: "may be executed at times other than the configured interval, to make the
// Pod ready faster"), with growing waits that end at the period. Such extra tries raise no Events.
type pace struct {
	period time.Duration
	extra  time.Duration // the next wait outside the schedule; 0: only the schedule
	since  time.Duration // waited since the last try on schedule
}

func newPace(kind Kind, p *corev1.Probe) pace {
	out := pace{period: seconds(p.PeriodSeconds, 10)}
	if kind == Readiness {
		out.extra = firstExtra
	}
	return out
}

// endExtra ends the extra tries.
func (p *pace) endExtra() { p.extra = 0 }

// next gives the wait until the next try and whether that one is outside the schedule.
func (p *pace) next() (wait time.Duration, extra bool) {
	if p.extra == 0 || p.since+p.extra >= p.period {
		wait = p.period - p.since
		p.since = 0
		return wait, false
	}
	wait = p.extra
	p.since += wait
	p.extra *= 2
	return wait, true
}

func seconds(s int32, otherwise int32) time.Duration {
	if s <= 0 {
		s = otherwise
	}
	return time.Duration(s) * time.Second
}
