package node

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/metrics/pkg/apis/metrics"

	"svcplane/node/figures"
)

// ResourceMetrics tells what the node and its pods use, over the last seconds. Pods with a container that was not measured are
// missing. It looks at once, and goes on looking for a while in case that somebody asks again.
func (n *Node) ResourceMetrics(ctx context.Context) ([]metrics.NodeMetrics, []metrics.PodMetrics, error) {
	m, pods, err := n.sampler.rated(ctx)
	if err != nil {
		return nil, nil, err
	}
	var nodes []metrics.NodeMetrics
	if m.Rate != nil {
		nodes = append(nodes, metrics.NodeMetrics{
			ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name}, Timestamp: metav1.NewTime(m.Measured),
			Window: metav1.Duration{Duration: m.Rate.Window}, Usage: usage(m.Rate.NanoCores, m.Memory),
		})
	}
	var all []metrics.PodMetrics
	for i := range pods {
		if one, ok := podMetrics(&pods[i]); ok {
			all = append(all, one)
		}
	}
	return nodes, all, nil
}

func podMetrics(p *figures.Pod) (metrics.PodMetrics, bool) {
	one := metrics.PodMetrics{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: types.UID(p.UID)}, Timestamp: metav1.NewTime(p.Measured),
	}
	for _, c := range p.Containers {
		if c.Use == nil || c.Rate == nil {
			return one, false
		}
		if one.Window.Duration == 0 || c.Rate.Window < one.Window.Duration {
			one.Window.Duration = c.Rate.Window
		}
		one.Containers = append(one.Containers, metrics.ContainerMetrics{Name: c.Name, Usage: usage(c.Rate.NanoCores, c.Use.WorkingSet)})
	}
	return one, len(one.Containers) > 0
}

// usage has the units of metrics-server.
func usage(nanoCores, memory uint64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(nanoCores), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(memory), resource.BinarySI),
	}
}
