// Package resourcemetrics serves metrics.k8s.io/v1beta1, which `kubectl top` and autoscalers read, from what the node of this
// process measures. Elsewhere metrics-server does that.
//
//	Source (the node) ──▶ rates of CPU, memory ─┐
//	                                            ├─▶ PodMetrics, NodeMetrics: get, list, tables
//	informers: labels of pods and of nodes ─────┘
//
//	Keeper ──▶ APIService v1beta1.metrics.k8s.io, local, unless there is one already that leads to somebody else
//	       └─▶ ClusterRole system:aggregated-metrics-reader
//
// Invariants:
//   - Nothing is measured while nobody asks.
//   - A pod of which a container was not measured is missing, rather than too small.
//   - Who installs metrics-server has its figures; who removes it has ours again.
package resourcemetrics
