package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"svcplane/metrics"
	"svcplane/node/figures"
)

// The kubelet's families about itself, in /metrics.
var (
	nodeName      = metrics.New(metrics.Gauge, "kubelet_node_name", "1, for the name of the node.", "node")
	runningPods   = metrics.New(metrics.Gauge, "kubelet_running_pods", "Pods that have a running container.")
	containerKind = metrics.New(metrics.Gauge, "kubelet_running_containers", "Containers by their state.", "container_state")
)

// Families are all that a Node collects.
func Families() []*metrics.Family {
	return append([]*metrics.Family{nodeName, runningPods, containerKind}, figures.ClaimFamilies()...)
}

// Describe implements prometheus.Collector.
func (n *Node) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, Families()) }

// Collect implements prometheus.Collector.
func (n *Node) Collect(to chan<- prometheus.Metric) {
	to <- nodeName.Value(1, n.cfg.Name)
	pods, states := 0, map[string]int{"running": 0}
	for _, o := range n.pods.GetStore().List() {
		pod, ok := o.(*corev1.Pod)
		if !ok || !n.ours(pod) {
			continue
		}
		running := 0
		for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for i := range list {
				switch state := &list[i].State; {
				case state.Running != nil:
					running++
				case state.Terminated != nil:
					states["exited"]++
				case list[i].ContainerID != "":
					states["created"]++
				}
			}
		}
		if states["running"] += running; running > 0 {
			pods++
		}
	}
	figures.Claims(n.claimFigures(context.Background())).Collect(to)
	to <- runningPods.Value(float64(pods))
	for state, count := range states {
		to <- containerKind.Value(float64(count), state)
	}
}
