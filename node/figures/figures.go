package figures

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"svcplane/measure"
)

// Pod is a running pod and what it uses.
type Pod struct {
	Namespace, Name, UID, Sandbox string
	Class                         corev1.PodQOSClass
	Started                       time.Time // zero: not known
	Measured                      time.Time
	Own                           *Use           // of all of the pod, if somebody counts that; nil: the sum over its containers
	Links                         []measure.Link // of its own; none with the host's network
	Processes                     int            // 0: not known
	Containers                    []Container
	Volumes                       []Volume
}

// Volume is a volume of a pod and what it takes. Local ones go with their pod, and take of the node's disk.
type Volume struct {
	stats.VolumeStats
	Local bool
}

// Container is a running container and what it uses.
type Container struct {
	Name, ID, Image string
	Started         time.Time // zero: not known
	Use             *Use      // nil: not known
	Rate            *Rate     // nil: not known
	Layer, Logs     *stats.FsStats
	Wants           *corev1.ResourceRequirements // nil: not known
}

// Use is a time, octets, and faults of pages. What is nil is not known.
type Use struct {
	CPU                                      time.Duration
	WorkingSet, RSS                          uint64
	Taken, Available                         *uint64 // page cache included; until the limit
	Faults, MajorFaults, Swap, SwapAvailable *uint64
}

// Rate is how many billionths of a processor were used, and over which time before it was measured.
type Rate struct {
	NanoCores uint64
	Window    time.Duration
}

// use is what the whole pod uses; nil if one of its containers is not known.
func (p *Pod) use() *Use {
	if p.Own != nil {
		return p.Own
	}
	if len(p.Containers) == 0 {
		return nil
	}
	sum := &Use{Taken: new(uint64), Faults: new(uint64), MajorFaults: new(uint64), Swap: new(uint64)}
	for _, c := range p.Containers {
		if c.Use == nil {
			return nil
		}
		sum.CPU += c.Use.CPU
		sum.WorkingSet += c.Use.WorkingSet
		sum.RSS += c.Use.RSS
		sum.Taken, sum.Swap = plus(sum.Taken, c.Use.Taken), plus(sum.Swap, c.Use.Swap)
		sum.Faults, sum.MajorFaults = plus(sum.Faults, c.Use.Faults), plus(sum.MajorFaults, c.Use.MajorFaults)
	}
	return sum
}

// Unrated says whether a container was measured and has no rate yet.
func (p Pod) Unrated() bool {
	return slices.ContainsFunc(p.Containers, func(c Container) bool { return c.Use != nil && c.Rate == nil })
}

// rate is the sum over the containers; nil if one of them is not known. The window is the shortest.
func (p *Pod) rate() *Rate {
	if len(p.Containers) == 0 {
		return nil
	}
	sum := &Rate{}
	for _, c := range p.Containers {
		if c.Rate == nil {
			return nil
		}
		sum.NanoCores += c.Rate.NanoCores
		if sum.Window == 0 || c.Rate.Window < sum.Window {
			sum.Window = c.Rate.Window
		}
	}
	return sum
}

// plus is nil if one of both is.
func plus(a, b *uint64) *uint64 {
	if a == nil || b == nil {
		return nil
	}
	sum := *a + *b
	return &sum
}

// Ephemeral is what the pod takes of the node's disk: writable layers, logs and volumes that go with it. What was not measured
// yet is left out, as the kubelet does.
func (p *Pod) Ephemeral() *stats.FsStats {
	var sum stats.FsStats
	add := func(one *stats.FsStats) {
		if one == nil || one.UsedBytes == nil {
			return
		}
		if sum.UsedBytes == nil {
			sum = stats.FsStats{Time: one.Time, AvailableBytes: one.AvailableBytes, CapacityBytes: one.CapacityBytes,
				InodesFree: one.InodesFree, Inodes: one.Inodes, UsedBytes: new(uint64), InodesUsed: new(uint64)}
		}
		*sum.UsedBytes += *one.UsedBytes
		if one.InodesUsed != nil {
			*sum.InodesUsed += *one.InodesUsed
		}
		if one.Time.After(sum.Time.Time) {
			sum.Time = one.Time
		}
	}
	for i := range p.Containers {
		add(p.Containers[i].Layer)
		add(p.Containers[i].Logs)
	}
	for i := range p.Volumes {
		if p.Volumes[i].Local {
			add(&p.Volumes[i].FsStats)
		}
	}
	if sum.UsedBytes == nil {
		return nil
	}
	return &sum
}

// Machine is the machine with what it offers.
type Machine struct {
	measure.Machine
	Measured                    time.Time
	Rate                        *Rate // nil: not known
	Cores                       int
	Sockets, Physical           int // 0: not known
	MachineID, SystemID, BootID string
	Links                       []measure.Link
	Disk                        *stats.FsStats // of pods
	Images, Containers          *stats.FsStats
}

func (m *Machine) use() *Use {
	available := m.Present - m.Memory
	return &Use{CPU: m.CPU, WorkingSet: m.Memory, RSS: m.Anonymous, Taken: &m.Taken, Available: &available,
		Faults: &m.Faults, MajorFaults: &m.MajorFaults, Swap: &m.Swap, SwapAvailable: available64(m.SwapPresent, m.Swap)}
}

func available64(all, used uint64) *uint64 {
	free := all - min(used, all)
	return &free
}
