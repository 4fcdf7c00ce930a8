package dns

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/metrics"
)

// ownBounds are the upper bounds of our own buckets of latencies, in seconds: from what a map costs to what a resolver gives
// up after.
var ownBounds = [...]float64{25e-6, 50e-6, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5}

// coreBounds are those of CoreDNS (plugin.TimeBuckets): 0.25 ms, doubled 15 times.
var coreBounds = [...]float64{
	25e-5, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
}

// histogramBounds are both: what is counted.
var histogramBounds = [...]float64{
	25e-6, 50e-6, 1e-4, 2e-4, 25e-5, 5e-4, 1e-3, 2e-3, 4e-3, 5e-3, 8e-3, 1e-2, 16e-3, 2e-2, 32e-3, 5e-2, 64e-3,
	0.1, 0.128, 0.2, 0.256, 0.5, 0.512, 1, 1.024, 2, 2.048, 4.096, 5, 8.192,
}

// histogram counts durations.
type histogram struct {
	buckets [len(histogramBounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

// observe counts n durations of the same length.
func (h *histogram) observe(took time.Duration, n uint64) {
	i, s := 0, took.Seconds()
	for i < len(histogramBounds) && s > histogramBounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.nanos.Add(int64(took) * int64(n))
}

func (h *histogram) add(other *histogram) {
	for i := range h.buckets {
		h.buckets[i].Add(other.buckets[i].Load())
	}
	h.nanos.Add(other.nanos.Load())
}

// histogramSum adds histograms up for somebody who looks.
type histogramSum struct {
	buckets [len(histogramBounds) + 1]uint64
	nanos   int64
}

func (s *histogramSum) add(h *histogram) {
	for i := range s.buckets {
		s.buckets[i] += h.buckets[i].Load()
	}
	s.nanos += h.nanos.Load()
}

func (s *histogramSum) count() (n uint64) {
	for _, b := range s.buckets {
		n += b
	}
	return n
}

// of makes a metric with some of the bounds.
func (s *histogramSum) of(f *metrics.Family, bounds []float64, labels ...string) prometheus.Metric {
	count, within := metrics.Within(s.buckets[:], histogramBounds[:], bounds)
	return f.Histogram(count, time.Duration(s.nanos).Seconds(), within, labels...)
}

// sizeBounds are the upper bounds of CoreDNS' buckets of sizes, in octets.
var sizeBounds = [...]float64{0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3}

// sizes count octets of messages.
type sizes struct {
	buckets [len(sizeBounds) + 1]atomic.Uint64
	sum     atomic.Uint64
}

func sizeBucket(n int) int {
	if n <= 400 { // as nearly all
		return (n + 99) / 100
	}
	i := 5
	for i < len(sizeBounds) && float64(n) > sizeBounds[i] {
		i++
	}
	return i
}

func (s *sizes) observe(n int) {
	s.buckets[sizeBucket(n)].Add(1)
	s.sum.Add(uint64(n))
}

// batchSizes are sizes in the hands of one worker.
type batchSizes struct {
	buckets [len(sizeBounds) + 1]uint32
	sum     uint64
}

func (b *batchSizes) observe(n int) {
	b.buckets[sizeBucket(n)]++
	b.sum += uint64(n)
}

// take moves the sizes of a batch to s.
func (s *sizes) take(b *batchSizes) {
	for i, n := range b.buckets {
		if n > 0 {
			s.buckets[i].Add(uint64(n))
		}
	}
	s.sum.Add(b.sum)
	*b = batchSizes{}
}

func (s *sizes) add(other *sizes) {
	for i := range s.buckets {
		s.buckets[i].Add(other.buckets[i].Load())
	}
	s.sum.Add(other.sum.Load())
}

func (s *sizes) histogram() (count uint64, sum float64, within map[float64]uint64) {
	var counts [len(sizeBounds) + 1]uint64
	for i := range counts {
		counts[i] = s.buckets[i].Load()
	}
	count, within = metrics.Within(counts[:], sizeBounds[:], sizeBounds[:])
	return count, float64(s.sum.Load()), within
}
