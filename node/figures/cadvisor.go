package figures

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"svcplane/measure"
	"svcplane/metrics"
)

// collector is what was measured once, for one request.
type collector struct {
	families []*metrics.Family
	collect  func(chan<- prometheus.Metric)
}

func (c collector) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, c.families) }

func (c collector) Collect(to chan<- prometheus.Metric) { c.collect(to) }

// Cadvisor gives /metrics/cadvisor.
func Cadvisor(m Machine, pods []Pod) prometheus.Collector {
	return collector{CadvisorFamilies(), func(to chan<- prometheus.Metric) {
		to <- failed.Value(0)
		m.cadvisor(to)
		for i := range pods {
			pods[i].cadvisor(to)
		}
	}}
}

func (m *Machine) cadvisor(to chan<- prometheus.Metric) {
	of := []string{m.BootID, m.MachineID, m.SystemID}
	to <- cores.Value(float64(m.Cores), of...)
	to <- memory.Value(float64(m.Present), of...)
	to <- swapSize.Value(float64(m.SwapPresent), of...)
	if m.Physical > 0 {
		to <- physical.Value(float64(m.Physical), of...)
		to <- sockets.Value(float64(m.Sockets), of...)
	}
	root := []string{"", "/", "", "", "", ""}
	to <- started.Value(unix(m.Started), root...)
	m.use().cadvisor(to, root)
	links(to, m.Links, root)
	if m.Disk != nil {
		disk := []string{"", "", "/", "", "", "", ""}
		to <- diskUsed.Value(float64(*m.Disk.UsedBytes), disk...)
		to <- diskSize.Value(float64(*m.Disk.CapacityBytes), disk...)
		to <- inodes.Value(float64(*m.Disk.Inodes), disk...)
		to <- inodesFree.Value(float64(*m.Disk.InodesFree), disk...)
	}
}

// cgroup is where a kubelet with the driver cgroupfs has the pod's.
func (p *Pod) cgroup() string {
	class := ""
	if p.Class == corev1.PodQOSBurstable || p.Class == corev1.PodQOSBestEffort {
		class = "/" + strings.ToLower(string(p.Class))
	}
	return "/kubepods" + class + "/pod" + p.UID
}

func (p *Pod) cadvisor(to chan<- prometheus.Metric) {
	id := p.cgroup()
	pod := []string{"", id, "", "", p.Namespace, p.Name}
	p.of(to, pod, p.use(), p.Started)
	if p.Processes > 0 {
		to <- processes.Value(float64(p.Processes), pod...)
	}
	for _, c := range p.Containers {
		labels := []string{c.Name, id + "/" + c.ID, c.Image, c.ID, p.Namespace, p.Name}
		p.of(to, labels, c.Use, c.Started)
		c.spec(to, labels)
		if used := sum(c.Layer, c.Logs); used != nil {
			to <- diskUsed.Value(float64(*used), c.Name, "", labels[1], c.Image, c.ID, p.Namespace, p.Name)
		}
	}
	links(to, p.Links, []string{"", id, "", p.Sandbox, p.Namespace, p.Name})
}

// sum is what a container takes of the disk; nil: nothing was measured.
func sum(of ...*stats.FsStats) *uint64 {
	var all *uint64
	for _, one := range of {
		if one != nil && one.UsedBytes != nil {
			if all == nil {
				all = new(uint64)
			}
			*all += *one.UsedBytes
		}
	}
	return all
}

func links(to chan<- prometheus.Metric, all []measure.Link, of []string) {
	for _, l := range all {
		labels := []string{of[0], of[1], of[2], l.Name, of[3], of[4], of[5]}
		to <- received.Value(float64(l.Received), labels...)
		to <- receiveErr.Value(float64(l.ReceiveErrors), labels...)
		to <- sent.Value(float64(l.Sent), labels...)
		to <- sendErr.Value(float64(l.SendErrors), labels...)
	}
}

// of gives what a container or the whole pod uses.
func (p *Pod) of(to chan<- prometheus.Metric, labels []string, u *Use, since time.Time) {
	to <- seen.Value(unix(p.Measured), labels...)
	if !since.IsZero() {
		to <- started.Value(unix(since), labels...)
	}
	if u != nil {
		u.cadvisor(to, labels)
	}
}

func (u *Use) cadvisor(to chan<- prometheus.Metric, labels []string) {
	to <- cpu.Value(u.CPU.Seconds(), append(labels[:6:6], "total")...)
	to <- workingSet.Value(float64(u.WorkingSet), labels...)
	to <- rss.Value(float64(u.RSS), labels...)
	if u.Taken != nil {
		to <- taken.Value(float64(*u.Taken), labels...)
	}
	if u.Swap != nil {
		to <- swap.Value(float64(*u.Swap), labels...)
	}
	if u.Faults != nil {
		to <- faults.Value(float64(*u.Faults), append(labels[:6:6], "pgfault", "container")...)
	}
	if u.MajorFaults != nil {
		to <- faults.Value(float64(*u.MajorFaults), append(labels[:6:6], "pgmajfault", "container")...)
	}
}

// A kubelet's translation of processors (Kubernetes: "Resource Management for Pods and Containers").
const (
	periodMicros = 100000
	minShares    = 2
	minQuota     = 1000
	perCore      = 1024
)

// spec gives what the container asked for.
func (c *Container) spec(to chan<- prometheus.Metric, labels []string) {
	if c.Wants == nil {
		return
	}
	limit, limited := c.Wants.Limits[corev1.ResourceCPU]
	request, requested := c.Wants.Requests[corev1.ResourceCPU]
	if !requested && limited {
		request = limit
	}
	to <- shares.Value(float64(max(request.MilliValue()*perCore/1000, minShares)), labels...)
	to <- period.Value(periodMicros, labels...)
	if limited && !limit.IsZero() {
		to <- quota.Value(float64(max(limit.MilliValue()*periodMicros/1000, minQuota)), labels...)
	}
	to <- memLimit.Value(float64(c.Wants.Limits.Memory().Value()), labels...)
	to <- memSoft.Value(0, labels...)
	to <- swapLimit.Value(0, labels...)
}

func unix(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
