package figures

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Summary gives /stats/summary.
func Summary(node string, now time.Time, m Machine, pods []Pod) stats.Summary {
	all := stats.Summary{Pods: []stats.PodStats{}}
	all.Node = stats.NodeStats{NodeName: node, StartTime: metav1.NewTime(m.Started)}
	all.Node.CPU, all.Node.Memory = used(now, &Use{CPU: m.CPU, WorkingSet: m.Memory})
	available := m.Present - m.Memory
	all.Node.Memory.AvailableBytes = &available
	for i := range pods {
		all.Pods = append(all.Pods, pods[i].summary())
	}
	return all
}

func (p *Pod) summary() stats.PodStats {
	s := stats.PodStats{PodRef: stats.PodReference{Name: p.Name, Namespace: p.Namespace, UID: p.UID}, StartTime: metav1.NewTime(p.Started)}
	s.CPU, s.Memory = used(p.Measured, p.use())
	for _, c := range p.Containers {
		one := stats.ContainerStats{Name: c.Name, StartTime: metav1.NewTime(c.Started)}
		one.CPU, one.Memory = used(p.Measured, c.Use)
		s.Containers = append(s.Containers, one)
	}
	if p.Processes > 0 {
		count := uint64(p.Processes)
		s.ProcessStats = &stats.ProcessStats{ProcessCount: &count}
	}
	for i := range p.Links {
		l := &p.Links[i]
		one := stats.InterfaceStats{Name: l.Name, RxBytes: &l.Received, RxErrors: &l.ReceiveErrors, TxBytes: &l.Sent, TxErrors: &l.SendErrors}
		if s.Network == nil {
			s.Network = &stats.NetworkStats{Time: metav1.NewTime(p.Measured), InterfaceStats: one}
		}
		s.Network.Interfaces = append(s.Network.Interfaces, one)
	}
	return s
}

// used is nil for what is not known.
func used(at time.Time, u *Use) (*stats.CPUStats, *stats.MemoryStats) {
	if u == nil {
		return nil, nil
	}
	nanos, set, rss := uint64(u.CPU), u.WorkingSet, u.RSS
	memory := &stats.MemoryStats{Time: metav1.NewTime(at), WorkingSetBytes: &set}
	if rss > 0 {
		memory.RSSBytes = &rss
	}
	return &stats.CPUStats{Time: metav1.NewTime(at), UsageCoreNanoSeconds: &nanos}, memory
}
