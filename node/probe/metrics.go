package probe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	kprobe "k8s.io/kubernetes/pkg/probe"

	"svcplane/metrics"
)

// The kubelet's families of /metrics/probes.
var (
	probes = metrics.New(metrics.Counter, "prober_probe_total", "Probes by result: successful, failed, unknown.",
		"probe_type", "result", "container", "pod", "namespace", "pod_uid")
	duration = metrics.New(metrics.Histogram, "prober_probe_duration_seconds", "How long probes with a result took.",
		"probe_type", "container", "pod", "namespace")
)

// Families are all that a Manager collects.
func Families() []*metrics.Family { return []*metrics.Family{probes, duration} }

// counts are kept as long as a pod is probed.
type counts struct {
	total *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

func newCounts() counts {
	return counts{probes.NewCounter(), duration.NewHistogram(prometheus.DefBuckets)}
}

func (c counts) count(w *watch, kind Kind, result kprobe.Result, err error, took time.Duration) {
	labels := []string{w.Container.Name, w.Pod.Name, w.Pod.Namespace}
	word := "unknown"
	switch {
	case err != nil:
	case result == kprobe.Success, result == kprobe.Warning:
		word = "successful"
	case result == kprobe.Failure:
		word = "failed"
	}
	c.total.WithLabelValues(append([]string{string(kind), word}, append(labels, string(w.Pod.UID))...)...).Inc()
	if err == nil {
		c.took.WithLabelValues(append([]string{string(kind)}, labels...)...).Observe(took.Seconds())
	}
}

// forget drops what was counted for a pod that is not probed any more.
func (c counts) forget(pod *corev1.Pod) {
	c.total.DeletePartialMatch(prometheus.Labels{"pod_uid": string(pod.UID)})
	c.took.DeletePartialMatch(prometheus.Labels{"pod": pod.Name, "namespace": pod.Namespace}) // as the kubelet has no UID there
}

// Describe implements prometheus.Collector.
func (m *Manager) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, Families()) }

// Collect implements prometheus.Collector.
func (m *Manager) Collect(to chan<- prometheus.Metric) {
	m.total.Collect(to)
	m.took.Collect(to)
}
