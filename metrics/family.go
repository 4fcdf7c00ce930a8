package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Kind is the type of a family, in Prometheus' words.
type Kind string

// The kinds of families.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Family is one family of metrics. It is never changed.
type Family struct {
	Name, Help string
	Kind       Kind
	Labels     []string // those that vary, in the order of the values; then the fixed ones
	fixed      []string // values of the last labels
	desc       *prometheus.Desc
}

// New declares a family.
func New(kind Kind, name, help string, labels ...string) *Family {
	return &Family{Name: name, Help: help, Kind: kind, Labels: slices.Clone(labels), desc: prometheus.NewDesc(name, help, labels, nil)}
}

// Fixed is the family with further labels, whose values never change: pairs of name and value.
func (f *Family) Fixed(pairs ...string) *Family {
	g := New(f.Kind, f.Name, f.Help, f.Labels...)
	for i := 0; i+1 < len(pairs); i += 2 {
		g.Labels, g.fixed = append(g.Labels, pairs[i]), append(g.fixed, pairs[i+1])
	}
	g.desc = prometheus.NewDesc(g.Name, g.Help, g.Labels, nil)
	return g
}

// Varying is how many values a metric of the family is given.
func (f *Family) Varying() int { return len(f.Labels) - len(f.fixed) }

func (f *Family) values(labels []string) []string { return append(slices.Clip(labels), f.fixed...) }

// Value is one counter or gauge of the family.
func (f *Family) Value(value float64, labels ...string) prometheus.Metric {
	kind := prometheus.GaugeValue
	if f.Kind == Counter {
		kind = prometheus.CounterValue
	}
	return prometheus.MustNewConstMetric(f.desc, kind, value, f.values(labels)...)
}

// Histogram is one histogram of the family: how many were observed, their sum, and how many were within each bound.
func (f *Family) Histogram(count uint64, sum float64, within map[float64]uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstHistogram(f.desc, count, sum, within, f.values(labels)...)
}

// Invalid makes the whole scrape tell why the family cannot be had.
func (f *Family) Invalid(err error) prometheus.Metric {
	return prometheus.NewInvalidMetric(f.desc, err)
}

// NewCounter makes a counter that is kept by itself, for what is counted off the hot paths.
func (f *Family) NewCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, f.Labels)
}

// NewGauge makes a gauge that is kept by itself.
func (f *Family) NewGauge() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.Name, Help: f.Help}, f.Labels)
}

// NewHistogram makes a histogram that is kept by itself.
func (f *Family) NewHistogram(bounds []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.Name, Help: f.Help, Buckets: bounds}, f.Labels)
}

// Describe tells a registry of families.
func Describe(to chan<- *prometheus.Desc, families []*Family) {
	for _, f := range families {
		to <- f.desc
	}
}

// Within turns counts of bounds that are finer, or the same, into the numbers within coarser ones. counts[i] is how many
// were above bounds[i-1] and at most bounds[i]; the last one those above all bounds. Each of want must be one of bounds.
func Within(counts []uint64, bounds, want []float64) (total uint64, within map[float64]uint64) {
	within = make(map[float64]uint64, len(want))
	for i, n := range counts {
		total += n
		if i < len(bounds) && slices.Contains(want, bounds[i]) {
			within[bounds[i]] = total
		}
	}
	return total, within
}
