package ingress

import (
	"sync/atomic"
	"time"
)

// latencyBounds are the upper bounds of the buckets of a histogram.
var latencyBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// stats count the answers of an endpoint by code and time. They are safe for concurrent use; observing allocates once per class of
// codes.
type stats struct {
	codes [6]atomic.Pointer[[100]atomic.Uint64] // by the first digit, then the rest
	took  durations
}

// observe counts one answer. A connection that was taken over (101) counts with no time: it lasts as long as both
// ends like.
func (s *stats) observe(code int, took time.Duration) {
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
	s.took.observe(took)
}

// each calls visit with every code that was seen.
func (s *stats) each(visit func(code int, count uint64)) {
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
