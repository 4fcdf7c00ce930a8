package pace

import (
	"cmp"
	"fmt"
	"os"
	"time"
)

// ErrSlow is what a wait for a peer that is too slow ends with. It is a timeout.
var ErrSlow = fmt.Errorf("slower than the minimum rate: %w", os.ErrDeadlineExceeded)

// Limit is how slow a peer may be.
type Limit struct {
	Rate  int           // octets a second; 0: no minimum, only Most
	Grace time.Duration // before the rate counts, at most Most; and how long a wait may last before a look
	Most  time.Duration // that a peer may keep us waiting for nothing, however much it did before
}

// Meter measures one peer, in one direction. Several may wait at the same time for the same peer: that time counts once.
// It is not safe for concurrent use, and no use before Start.
type Meter struct {
	limit   *Limit
	credit  time.Duration
	since   time.Time // credit is as of then, while somebody waits
	waiting int
}

// Start begins anew. l must not change.
func (m *Meter) Start(l *Limit) {
	*m = Meter{limit: l, credit: min(l.Grace, l.Most)}
	if l.Rate == 0 {
		m.credit = l.Most
	}
}

// Wait begins a wait for the peer and returns when to end it: to look whether octets have moved of which nobody told, and
// whether the peer is slow. That is a time that has passed if it has used up what it had.
func (m *Meter) Wait(now time.Time) time.Time {
	m.account(now)
	m.waiting++
	return now.Add(min(m.credit, cmp.Or(m.limit.Grace, m.limit.Most)))
}

// Done ends a wait, whatever ended it.
func (m *Meter) Done(now time.Time) {
	m.account(now)
	m.waiting--
}

func (m *Meter) account(now time.Time) {
	if m.waiting > 0 {
		m.credit -= now.Sub(m.since)
	}
	m.since = now
}

// Add counts octets that the peer sent or took.
func (m *Meter) Add(octets int64) {
	switch rate := int64(m.limit.Rate); {
	case octets <= 0:
	case rate == 0 || octets/rate > int64(m.limit.Most/time.Second):
		m.credit = m.limit.Most
	default:
		m.credit = min(m.credit+time.Duration(octets*int64(time.Second)/rate), m.limit.Most)
	}
}

// Slow says whether the peer has used up what it had.
func (m *Meter) Slow() bool { return m.credit <= 0 }
