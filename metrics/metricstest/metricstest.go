package metricstest

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// Set is what was gathered.
type Set []*dto.MetricFamily

// Gather asks a collector, and holds its own families (svcplane_*) to the conventions of Prometheus.
func Gather(t testing.TB, c prometheus.Collector) Set {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(all).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "svcplane_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	return all
}

// Find is the one metric of a family that has all of the labels "name=value"; nil: there is none.
func (s Set) Find(t testing.TB, name string, labels ...string) *dto.Metric {
	t.Helper()
	var found *dto.Metric
	for _, family := range s {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if !has(m, labels) {
				continue
			}
			if found != nil {
				t.Errorf("%s has more than one metric with %q", name, labels)
			}
			found = m
		}
	}
	return found
}

func has(m *dto.Metric, labels []string) bool {
	for _, want := range labels {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == want }) {
			return false
		}
	}
	return true
}

// Value is that of a counter or gauge, of a histogram the count; 0: there is none.
func (s Set) Value(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	m := s.Find(t, name, labels...)
	if m == nil {
		return 0
	}
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
}

// Bounds are the buckets of a histogram; nil: there is none.
func (s Set) Bounds(t testing.TB, name string, labels ...string) []float64 {
	t.Helper()
	var all []float64
	if m := s.Find(t, name, labels...); m != nil {
		for _, b := range m.GetHistogram().GetBucket() {
			all = append(all, b.GetUpperBound())
		}
	}
	return all
}
