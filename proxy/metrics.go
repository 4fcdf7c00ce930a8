package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what a Proxy does. It is a prometheus.Collector.
type Metrics struct {
	syncs prometheus.Histogram
	// programming is the network programming latency, queued the part of it before the work began
	programming, queued prometheus.Histogram
	changes             prometheus.Counter
	failures            prometheus.Counter
	repairs             prometheus.Counter
	staleFlows          prometheus.Counter
}

// NewMetrics makes a set that starts at zero; the caller registers it.
func NewMetrics() *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "svcplane", Subsystem: "proxy", Name: name, Help: help})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "svcplane", Subsystem: "proxy", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		})
	}
	return &Metrics{
		syncs: seconds("sync_duration_seconds", "Time that one change took to be in force in the kernel."),
		programming: seconds("network_programming_duration_seconds",
			"Time from a change of a Service or its endpoints until it was in force in the kernel."),
		queued:     seconds("queue_duration_seconds", "Time from the arrival of a change until the work on it began."),
		changes:    counter("changes_total", "Services that were looked at again because they or their endpoints changed."),
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
	return []prometheus.Collector{m.syncs, m.programming, m.queued, m.changes, m.failures, m.repairs, m.staleFlows}
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
