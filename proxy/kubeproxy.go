package proxy

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/catalog"
	"svcplane/metrics"
)

// kube declares a family of kube-proxy, as its release 1.36 has it (pkg/proxy/metrics).
func kube(kind metrics.Kind, name, help string, labels ...string) *metrics.Family {
	return metrics.New(kind, "kubeproxy_"+name, help, labels...)
}

// What dashboards of kube-proxy ask for. One change of ours is for both address families at once.
var (
	kubeSync = kube(metrics.Histogram, "sync_proxy_rules_duration_seconds",
		"Time that the kernel took to take changes.", "ip_family")
	kubeFull = kube(metrics.Histogram, "sync_full_proxy_rules_duration_seconds",
		"Time that the kernel took to take everything.", "ip_family")
	kubePartial = kube(metrics.Histogram, "sync_partial_proxy_rules_duration_seconds",
		"Time that the kernel took to take what changed.", "ip_family")
	kubeLast = kube(metrics.Gauge, "sync_proxy_rules_last_timestamp_seconds",
		"When all changes were last written to the kernel.", "ip_family")
	kubeQueued = kube(metrics.Gauge, "sync_proxy_rules_last_queued_timestamp_seconds",
		"When the last change arrived.", "ip_family")
	kubeNetwork = kube(metrics.Histogram, "network_programming_duration_seconds",
		"Time from a change of endpoints until it was in force in the kernel.", "ip_family")
	kubeServices = kube(metrics.Counter, "sync_proxy_rules_service_changes_total", "Changes of Services.")
	kubeWaiting  = kube(metrics.Gauge, "sync_proxy_rules_service_changes_pending",
		"Changes of Services that are not in force yet.")
	kubeSlices   = kube(metrics.Counter, "sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices.")
	kubeAwaiting = kube(metrics.Gauge, "sync_proxy_rules_endpoint_changes_pending",
		"Changes of EndpointSlices that are not in force yet.")
	kubeHealthz = kube(metrics.Counter, "proxy_healthz_total", "Answers of /healthz of the health port.", "code")
	kubeLivez   = kube(metrics.Counter, "proxy_livez_total", "Answers of /livez of the health port.", "code")

	kubeFamilies = []*metrics.Family{kubeSync, kubeFull, kubePartial, kubeLast, kubeQueued, kubeNetwork,
		kubeServices, kubeWaiting, kubeSlices, kubeAwaiting, kubeHealthz, kubeLivez}
)

// kubeProxy counts what a kube-proxy does.
type kubeProxy struct {
	families []string // values of ip_family; set before anything is counted

	sync, full, partial, network *prometheus.HistogramVec
	last, queued                 *prometheus.GaugeVec
	healthz, livez               *prometheus.CounterVec
	seen                         func() catalog.Changes // nil: not known
	taken, inForce               atomic.Pointer[catalog.Changes]
}

func newKubeProxy() *kubeProxy {
	bounds := prometheus.ExponentialBuckets(0.001, 2, 15)
	k := &kubeProxy{
		families: []string{"IPv4"},
		sync:     kubeSync.NewHistogram(bounds), full: kubeFull.NewHistogram(bounds), partial: kubePartial.NewHistogram(bounds),
		network: kubeNetwork.NewHistogram(networkBounds()),
		last:    kubeLast.NewGauge(), queued: kubeQueued.NewGauge(), healthz: kubeHealthz.NewCounter(), livez: kubeLivez.NewCounter(),
	}
	k.taken.Store(&catalog.Changes{})
	k.inForce.Store(&catalog.Changes{})
	return k
}

// networkBounds are kube-proxy's: every quarter of a second, then second, 5 s, 30 s, up to 5 minutes.
func networkBounds() []float64 {
	all := prometheus.LinearBuckets(0.25, 0.25, 2)
	all = append(all, prometheus.LinearBuckets(1, 1, 59)...)
	all = append(all, prometheus.LinearBuckets(60, 5, 12)...)
	return append(all, prometheus.LinearBuckets(120, 30, 7)...)
}

// begin is called before anything is counted.
func (k *kubeProxy) begin(node Node, seen func() catalog.Changes) {
	k.seen = seen
	if len(node.PodCIDRs) > 1 {
		k.families = []string{"IPv4", "IPv6"}
	}
}

// took notes what has arrived, before the work on it begins; applied, that it is in force.
func (k *kubeProxy) took() {
	now := k.seen()
	k.taken.Store(&now)
	for _, family := range k.families {
		k.queued.WithLabelValues(family).SetToCurrentTime()
	}
}

func (k *kubeProxy) applied() {
	k.inForce.Store(k.taken.Load())
	for _, family := range k.families {
		k.last.WithLabelValues(family).SetToCurrentTime()
	}
}

func (k *kubeProxy) synced(seconds float64, full bool) {
	kind := k.partial
	if full {
		kind = k.full
	}
	for _, family := range k.families {
		k.sync.WithLabelValues(family).Observe(seconds)
		kind.WithLabelValues(family).Observe(seconds)
	}
}

func (k *kubeProxy) programmed(took time.Duration) {
	for _, family := range k.families {
		k.network.WithLabelValues(family).Observe(took.Seconds())
	}
}

// answered counts an answer of the health port.
func (k *kubeProxy) answered(node bool, status int) {
	of := k.livez
	if node {
		of = k.healthz
	}
	of.WithLabelValues(strconv.Itoa(status)).Inc()
}

// Describe implements prometheus.Collector.
func (k *kubeProxy) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, kubeFamilies) }

// Collect implements prometheus.Collector.
func (k *kubeProxy) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{k.sync, k.full, k.partial, k.network, k.last, k.queued, k.healthz, k.livez} {
		c.Collect(to)
	}
	inForce, seen := *k.inForce.Load(), catalog.Changes{}
	if k.seen != nil {
		seen = k.seen()
	}
	to <- kubeServices.Value(float64(seen.Services))
	to <- kubeSlices.Value(float64(seen.Slices))
	to <- kubeWaiting.Value(float64(seen.Services - inForce.Services))
	to <- kubeAwaiting.Value(float64(seen.Slices - inForce.Slices))
}
