package figures

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/metrics"
)

// Resource gives /metrics/resource; err says what could not be measured.
func Resource(m Machine, pods []Pod, err error) prometheus.Collector {
	return collector{ResourceFamilies(), func(to chan<- prometheus.Metric) {
		if err != nil {
			to <- scrapeError.Value(1)
			return
		}
		to <- scrapeError.Value(0)
		to <- at(m.Measured, nodeCPU.Value(m.CPU.Seconds()))
		to <- at(m.Measured, nodeMemory.Value(float64(m.Memory)))
		to <- at(m.Measured, nodeSwap.Value(float64(m.Swap)))
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
		if c.Use == nil {
			continue
		}
		to <- at(p.Measured, containerCPU.Value(c.Use.CPU.Seconds(), labels...))
		to <- at(p.Measured, containerMem.Value(float64(c.Use.WorkingSet), labels...))
		if c.Use.Swap != nil {
			to <- at(p.Measured, containerSwap.Value(float64(*c.Use.Swap), labels...))
			if c.Use.SwapAvailable != nil {
				to <- at(p.Measured, containerSwapLimit.Value(float64(*c.Use.Swap+*c.Use.SwapAvailable), labels...))
			}
		}
	}
	u := p.use()
	if u == nil {
		return
	}
	to <- at(p.Measured, podCPU.Value(u.CPU.Seconds(), p.Name, p.Namespace))
	to <- at(p.Measured, podMemory.Value(float64(u.WorkingSet), p.Name, p.Namespace))
	if u.Swap != nil {
		to <- at(p.Measured, podSwap.Value(float64(*u.Swap), p.Name, p.Namespace))
	}
}

// at says when a value was measured: metrics-server makes rates of that.
func at(t time.Time, m prometheus.Metric) prometheus.Metric {
	return prometheus.NewMetricWithTimestamp(t, m)
}

// Claims gives what the claims of pods take. Several pods may have the same one.
func Claims(pods []Pod) prometheus.Collector {
	return collector{ClaimFamilies(), func(to chan<- prometheus.Metric) {
		told := map[string]bool{}
		for i := range pods {
			for _, v := range pods[i].Volumes {
				if v.PVCRef == nil || told[v.PVCRef.Namespace+"/"+v.PVCRef.Name] {
					continue
				}
				told[v.PVCRef.Namespace+"/"+v.PVCRef.Name] = true
				v.claim(to)
			}
		}
	}}
}

func (v *Volume) claim(to chan<- prometheus.Metric) {
	for _, one := range []struct {
		family *metrics.Family
		value  *uint64
	}{
		{claimSize, v.CapacityBytes}, {claimAvailable, v.AvailableBytes}, {claimUsed, v.UsedBytes},
		{claimInodes, v.Inodes}, {claimInodesFree, v.InodesFree}, {claimInodesUsed, v.InodesUsed},
	} {
		if one.value != nil {
			to <- one.family.Value(float64(*one.value), v.PVCRef.Namespace, v.PVCRef.Name)
		}
	}
}
