package figures

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"svcplane/measure"
)

// Summary gives /stats/summary; short leaves out all but time of processors and memory.
func Summary(node string, m Machine, pods []Pod, short bool) stats.Summary {
	all := stats.Summary{Pods: []stats.PodStats{}}
	all.Node = stats.NodeStats{NodeName: node, StartTime: metav1.NewTime(m.Started)}
	all.Node.CPU, all.Node.Memory, all.Node.Swap = used(m.Measured, m.use(), m.Rate)
	if !short {
		all.Node.Network = network(m.Measured, m.Links)
		all.Node.Fs = m.Disk
		if m.Images != nil || m.Containers != nil {
			all.Node.Runtime = &stats.RuntimeStats{ImageFs: m.Images, ContainerFs: m.Containers}
		}
		limit, now := int64(m.MaxPID), int64(m.Machine.Processes)
		all.Node.Rlimit = &stats.RlimitStats{Time: metav1.NewTime(m.Measured), MaxPID: &limit, NumOfRunningProcesses: &now}
	}
	for i := range pods {
		one := pods[i].summary()
		if !short {
			pods[i].disks(&one)
		}
		all.Pods = append(all.Pods, one)
	}
	return all
}

func (p *Pod) summary() stats.PodStats {
	s := stats.PodStats{PodRef: stats.PodReference{Name: p.Name, Namespace: p.Namespace, UID: p.UID}, StartTime: metav1.NewTime(p.Started)}
	s.CPU, s.Memory, s.Swap = used(p.Measured, p.use(), p.rate())
	s.Containers = []stats.ContainerStats{}
	for _, c := range p.Containers {
		one := stats.ContainerStats{Name: c.Name, StartTime: metav1.NewTime(c.Started)}
		one.CPU, one.Memory, one.Swap = used(p.Measured, c.Use, c.Rate)
		s.Containers = append(s.Containers, one)
	}
	return s
}

// disks adds the rest to the summary of a pod.
func (p *Pod) disks(s *stats.PodStats) {
	for i, c := range p.Containers {
		s.Containers[i].Rootfs, s.Containers[i].Logs = c.Layer, c.Logs
	}
	for i := range p.Volumes {
		s.VolumeStats = append(s.VolumeStats, p.Volumes[i].VolumeStats)
	}
	s.EphemeralStorage = p.Ephemeral()
	s.Network = network(p.Measured, p.Links)
	if p.Processes > 0 {
		count := uint64(p.Processes)
		s.ProcessStats = &stats.ProcessStats{ProcessCount: &count}
	}
}

// network tells of the first link as the one that counts, as the kubelet does; nil: there is none.
func network(at time.Time, links []measure.Link) *stats.NetworkStats {
	var n *stats.NetworkStats
	for i := range links {
		l := &links[i]
		one := stats.InterfaceStats{Name: l.Name, RxBytes: &l.Received, RxErrors: &l.ReceiveErrors, TxBytes: &l.Sent, TxErrors: &l.SendErrors}
		if n == nil {
			n = &stats.NetworkStats{Time: metav1.NewTime(at), InterfaceStats: one}
		}
		n.Interfaces = append(n.Interfaces, one)
	}
	return n
}

// used is nil for what is not known.
func used(at time.Time, u *Use, r *Rate) (*stats.CPUStats, *stats.MemoryStats, *stats.SwapStats) {
	if u == nil {
		return nil, nil, nil
	}
	nanos, set, rss, when := uint64(u.CPU), u.WorkingSet, u.RSS, metav1.NewTime(at)
	cpu := &stats.CPUStats{Time: when, UsageCoreNanoSeconds: &nanos}
	if r != nil {
		rate := r.NanoCores
		cpu.UsageNanoCores = &rate
	}
	memory := &stats.MemoryStats{Time: when, WorkingSetBytes: &set, UsageBytes: u.Taken, AvailableBytes: u.Available,
		PageFaults: u.Faults, MajorPageFaults: u.MajorFaults}
	if rss > 0 {
		memory.RSSBytes = &rss
	}
	var swap *stats.SwapStats
	if u.Swap != nil {
		swap = &stats.SwapStats{Time: when, SwapUsageBytes: u.Swap, SwapAvailableBytes: u.SwapAvailable}
	}
	return cpu, memory, swap
}
