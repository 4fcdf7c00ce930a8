package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what a Proxy does. It is a prometheus.Collector.
type Metrics struct {
	syncs      prometheus.Histogram
	failures   prometheus.Counter
	repairs    prometheus.Counter
	staleFlows prometheus.Counter
}

// NewMetrics makes a set that starts at zero; the caller registers it.
func NewMetrics() *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "svcplane", Subsystem: "proxy", Name: name, Help: help})
	}
	return &Metrics{
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "svcplane", Subsystem: "proxy", Name: "sync_duration_seconds",
			Help:    "Time that one change took to be in force in the kernel.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		failures:   counter("failures_total", "Changes and comparisons that the kernel refused."),
		repairs:    counter("repairs_total", "Times that the kernel differed from what was wanted and was put right."),
		staleFlows: counter("stale_flows_removed_total", "Tracked connections removed because their endpoint is gone."),
	}
}

func (m *Metrics) synced(began time.Time, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	m.syncs.Observe(time.Since(began).Seconds())
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.syncs, m.failures, m.repairs, m.staleFlows}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(out)
	}
}
