package serve

import (
	"testing"
	"time"

	"svcplane/ingress/upstream"
)

// BenchmarkCount is what counting one answer costs.
func BenchmarkCount(b *testing.B) {
	s, route := &Server{}, &Route{stats: &RouteStats{}}
	c := &call{route: route, attempt: upstream.Attempt{Endpoint: &upstream.Endpoint{}}, exchanged: exchanged{asked: 120, answered: 700}}
	b.ReportAllocs()
	for b.Loop() {
		s.count(c, 200, 300*time.Microsecond)
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	s := &Server{}
	c := &call{route: &Route{stats: &RouteStats{}}, attempt: upstream.Attempt{Endpoint: &upstream.Endpoint{}}, exchanged: exchanged{asked: 120, answered: 700}}
	s.count(c, 200, time.Millisecond)
	if n := testing.AllocsPerRun(1000, func() { s.count(c, 200, time.Millisecond) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSizesFallIntoTheirBuckets(t *testing.T) {
	for n, want := range map[int64]float64{0: 10, 1: 10, 10: 10, 11: 20, 100: 100, 101: 1e3, 1000: 1e3, 1001: 1e4, 1e7: 1e7, 1e7 + 1: 0} {
		var s sizes
		s.observe(n)
		for i := range s.buckets {
			if s.buckets[i].Load() > 0 && (i < len(sizeBounds)) != (want > 0) || i < len(sizeBounds) && s.buckets[i].Load() > 0 && sizeBounds[i] != want {
				t.Errorf("%d octets are in bucket %d, want the one up to %v", n, i, want)
			}
		}
	}
}
