package upstream

import (
	"sync/atomic"
	"time"
)

// LatencyBounds are the upper bounds of the buckets of a histogram.
var LatencyBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Stats count the answers of an endpoint by code and time. They are safe for concurrent use; observing allocates once per class of
// codes.
type Stats struct {
	codes [6]atomic.Pointer[[100]atomic.Uint64] // by the first digit, then the rest
	Took  Durations
}

// Observe counts one answer. A connection that was taken over (101) counts with no time: it lasts as long as both
// ends like.
func (s *Stats) Observe(code int, took time.Duration) {
	class := code / 100
	if class < 1 || class >= len(s.codes) {
		class, code = 0, 0
	}
	counts := s.codes[class].Load()
	if counts == nil {
		s.codes[class].CompareAndSwap(nil, new([100]atomic.Uint64))
		counts = s.codes[class].Load()
	}
	counts[code%100].Add(1)
	if code == 101 {
		return
	}
	s.Took.Observe(took)
}

// Each calls visit with every code that was seen.
func (s *Stats) Each(visit func(code int, count uint64)) {
	for class := range s.codes {
		counts := s.codes[class].Load()
		if counts == nil {
			continue
		}
		for rest := range counts {
			if n := counts[rest].Load(); n > 0 {
				visit(class*100+rest, n)
			}
		}
	}
}

// Durations is a histogram with LatencyBounds.
type Durations struct {
	Buckets [len(LatencyBounds) + 1]atomic.Uint64
	Sum     atomic.Int64 // nanoseconds
}

// Observe counts one duration.
func (d *Durations) Observe(took time.Duration) {
	i := 0
	for i < len(LatencyBounds) && took > LatencyBounds[i] {
		i++
	}
	d.Buckets[i].Add(1)
	d.Sum.Add(int64(took))
}
