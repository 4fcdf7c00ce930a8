package figures

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/measure"
	"svcplane/metrics"
)

// Pod is a running pod and what it uses.
type Pod struct {
	Namespace, Name, UID, Sandbox string
	Started                       time.Time // zero: not known
	Measured                      time.Time
	Links                         []measure.Link // of its own; none with the host's network
	Processes                     int            // 0: not known
	Containers                    []Container
}

// Container is a running container and what it uses.
type Container struct {
	Name, ID, Image string
	Started         time.Time // zero: not known
	Use             *Use      // nil: not known
}

// Use is a time, and octets.
type Use struct {
	CPU             time.Duration
	WorkingSet, RSS uint64
}

// use is the sum over the containers of a pod; nil if one of them is not known.
func (p *Pod) use() *Use {
	sum := &Use{}
	for _, c := range p.Containers {
		if c.Use == nil {
			return nil
		}
		sum.CPU += c.Use.CPU
		sum.WorkingSet += c.Use.WorkingSet
		sum.RSS += c.Use.RSS
	}
	if len(p.Containers) == 0 {
		return nil
	}
	return sum
}

// Machine is the machine with what it offers.
type Machine struct {
	measure.Machine
	Cores int
}

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
		to <- cores.Value(float64(m.Cores))
		to <- memory.Value(float64(m.Present))
		root := []string{"", "/", "", "", "", ""}
		to <- cpu.Value(m.CPU.Seconds(), append(root[:6:6], "total")...)
		to <- workingSet.Value(float64(m.Memory), root...)
		to <- started.Value(unix(m.Started), root...)
		for i := range pods {
			pods[i].cadvisor(to)
		}
	}}
}

func (p *Pod) cadvisor(to chan<- prometheus.Metric) {
	id := "/kubepods/pod" + p.UID
	pod := []string{"", id, "", "", p.Namespace, p.Name}
	p.of(to, pod, p.use(), p.Started)
	if p.Processes > 0 {
		to <- processes.Value(float64(p.Processes), pod...)
	}
	for _, c := range p.Containers {
		p.of(to, []string{c.Name, id + "/" + c.ID, c.Image, c.ID, p.Namespace, p.Name}, c.Use, c.Started)
	}
	for _, l := range p.Links {
		labels := []string{"", id, "", l.Name, p.Sandbox, p.Namespace, p.Name}
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
		to <- cpu.Value(u.CPU.Seconds(), append(labels[:6:6], "total")...)
		to <- workingSet.Value(float64(u.WorkingSet), labels...)
		to <- rss.Value(float64(u.RSS), labels...)
	}
}

// Resource gives /metrics/resource; err says what could not be measured.
func Resource(m Machine, pods []Pod, err error) prometheus.Collector {
	return collector{ResourceFamilies(), func(to chan<- prometheus.Metric) {
		failed := 0.0
		if err != nil {
			failed = 1
		}
		to <- scrapeError.Value(failed)
		to <- nodeCPU.Value(m.CPU.Seconds())
		to <- nodeMemory.Value(float64(m.Memory))
		for i := range pods {
			pods[i].resource(to)
		}
	}}
}

func (p *Pod) resource(to chan<- prometheus.Metric) {
	for _, c := range p.Containers {
		labels := []string{c.Name, p.Name, p.Namespace}
		if !c.Started.IsZero() {
			to <- containerTime.Value(unix(c.Started), labels...)
		}
		if c.Use != nil {
			to <- at(p.Measured, containerCPU.Value(c.Use.CPU.Seconds(), labels...))
			to <- at(p.Measured, containerMem.Value(float64(c.Use.WorkingSet), labels...))
		}
	}
	if u := p.use(); u != nil {
		to <- at(p.Measured, podCPU.Value(u.CPU.Seconds(), p.Name, p.Namespace))
		to <- at(p.Measured, podMemory.Value(float64(u.WorkingSet), p.Name, p.Namespace))
	}
}

// at says when a value was measured: metrics-server makes rates of that.
func at(t time.Time, m prometheus.Metric) prometheus.Metric {
	return prometheus.NewMetricWithTimestamp(t, m)
}

func unix(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
