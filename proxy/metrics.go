package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/metrics"
)

// own declares a family of a Proxy's own.
func own(kind metrics.Kind, name, help string) *metrics.Family {
	return metrics.New(kind, "svcplane_proxy_"+name, help)
}

var (
	syncTime        = own(metrics.Histogram, "sync_duration_seconds", "Time that one change took to be in force in the kernel.")
	programmingTime = own(metrics.Histogram, "network_programming_duration_seconds",
		"Time from a change of a Service or its endpoints until it was in force in the kernel.")
	queueTime = own(metrics.Histogram, "queue_duration_seconds",
		"Time from the arrival of a change until the work on it began.")
	changes = own(metrics.Counter, "changes_total",
		"Services that were looked at again because they or their endpoints changed.")
	failures   = own(metrics.Counter, "failures_total", "Changes and comparisons that the kernel refused.")
	repairs    = own(metrics.Counter, "repairs_total", "Times that the kernel differed from what was wanted and was put right.")
	staleEnded = own(metrics.Counter, "stale_flows_removed_total",
		"Tracked connections removed because their endpoint is gone.")
)

// Families are all that Metrics has.
func Families() []*metrics.Family {
	return append([]*metrics.Family{syncTime, programmingTime, queueTime, changes, failures, repairs, staleEnded}, kubeFamilies...)
}

// Metrics counts what a Proxy does. It is a prometheus.Collector.
type Metrics struct {
	syncs prometheus.Observer
	// programming is the network programming latency, queued the part of it before the work began
	programming, queued                    prometheus.Observer
	changes, failures, repairs, staleFlows prometheus.Counter

	kube *kubeProxy
	all  []prometheus.Collector
}

// NewMetrics makes a set that starts at zero; the caller registers it.
func NewMetrics() *Metrics {
	m := &Metrics{}
	counter := func(f *metrics.Family) prometheus.Counter {
		c := f.NewCounter()
		m.all = append(m.all, c)
		return c.WithLabelValues()
	}
	seconds := func(f *metrics.Family) prometheus.Observer {
		h := f.NewHistogram(prometheus.ExponentialBuckets(0.001, 2, 16))
		m.all = append(m.all, h)
		return h.WithLabelValues()
	}
	m.syncs, m.programming, m.queued = seconds(syncTime), seconds(programmingTime), seconds(queueTime)
	m.changes, m.failures, m.repairs, m.staleFlows = counter(changes), counter(failures), counter(repairs), counter(staleEnded)
	m.kube = newKubeProxy()
	m.all = append(m.all, m.kube)
	return m
}

// synced notes that a data plane was given changes, or (full) the whole Table.
func (m *Metrics) synced(began time.Time, full bool, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	took := time.Since(began).Seconds()
	m.syncs.Observe(took)
	m.kube.synced(took, full)
}

// programmed notes that a change is in force which was made, or arrived, a while ago; exact says that it is known when it
// was made.
func (m *Metrics) programmed(took time.Duration, exact bool) {
	m.programming.Observe(took.Seconds())
	if exact {
		m.kube.programmed(took)
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, Families()) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(to)
	}
}
