package eviction

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Signal is something that a node can run short of, by the kubelet's name.
type Signal string

// The signals.
const (
	MemoryAvailable      Signal = "memory.available"
	NodeFsAvailable      Signal = "nodefs.available"
	NodeFsInodesFree     Signal = "nodefs.inodesFree"
	ImageFsAvailable     Signal = "imagefs.available"
	ImageFsInodesFree    Signal = "imagefs.inodesFree"
	ContainerFsAvailable Signal = "containerfs.available"
	ContainerFsInodes    Signal = "containerfs.inodesFree"
	PIDAvailable         Signal = "pid.available"
)

// DefaultHard are the kubelet's thresholds.
const DefaultHard = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"

// What is short by which signal.
const (
	inodes corev1.ResourceName = "inodes"
	pids   corev1.ResourceName = "pids"
)

type meaning struct {
	resource  corev1.ResourceName
	condition corev1.NodeConditionType
}

func (s Signal) meaning() (meaning, bool) {
	switch s {
	case MemoryAvailable:
		return meaning{corev1.ResourceMemory, corev1.NodeMemoryPressure}, true
	case NodeFsAvailable, ImageFsAvailable, ContainerFsAvailable:
		return meaning{corev1.ResourceEphemeralStorage, corev1.NodeDiskPressure}, true
	case NodeFsInodesFree, ImageFsInodesFree, ContainerFsInodes:
		return meaning{inodes, corev1.NodeDiskPressure}, true
	case PIDAvailable:
		return meaning{pids, corev1.NodePIDPressure}, true
	}
	return meaning{}, false
}

// Resource is what is short.
func (s Signal) Resource() corev1.ResourceName {
	m, _ := s.meaning()
	return m.resource
}

// Threshold is met when less is left: a quantity, or a share of all there is.
type Threshold struct {
	Signal   Signal
	Quantity resource.Quantity // zero: Percent counts
	Percent  float64
}

func (t Threshold) value(capacity resource.Quantity) resource.Quantity {
	if !t.Quantity.IsZero() {
		return t.Quantity
	}
	return *resource.NewQuantity(int64(float64(capacity.Value())*t.Percent/100), capacity.Format)
}

// Parse reads thresholds as the kubelet's --eviction-hard has them: "memory.available<1Gi,nodefs.available<10%". They replace
// all defaults; an empty text has none.
func Parse(text string) ([]Threshold, error) {
	var all []Threshold
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "<")
		if !ok {
			return nil, fmt.Errorf("eviction threshold %q has no \"<\"; write it as memory.available<100Mi", part)
		}
		t := Threshold{Signal: Signal(strings.TrimSpace(name))}
		if _, ok := t.Signal.meaning(); !ok {
			return nil, fmt.Errorf("unsupported eviction signal %v; use one of %s", t.Signal, strings.Join(names(), ", "))
		}
		if slices.ContainsFunc(all, func(o Threshold) bool { return o.Signal == t.Signal }) {
			return nil, fmt.Errorf("eviction signal %v has two thresholds; leave one out", t.Signal)
		}
		used, err := t.parse(strings.TrimSpace(value))
		if err != nil {
			return nil, err
		}
		if used {
			all = append(all, t)
		}
	}
	return all, nil
}

// parse reads the value; used is false for 0% and 100%, by which the kubelet turns a threshold off.
func (t *Threshold) parse(value string) (used bool, err error) {
	if share, ok := strings.CutSuffix(value, "%"); ok {
		if t.Percent, err = strconv.ParseFloat(share, 64); err != nil {
			return false, fmt.Errorf("eviction percentage threshold %v: %q is no number", t.Signal, value)
		}
		if !(t.Percent >= 0 && t.Percent <= 100) {
			return false, fmt.Errorf("eviction percentage threshold %v must be >= 0%% and <= 100%%: %s", t.Signal, value)
		}
		return t.Percent != 0 && t.Percent != 100, nil
	}
	if t.Quantity, err = resource.ParseQuantity(value); err != nil {
		return false, fmt.Errorf("eviction threshold %v: %q: %w", t.Signal, value, err)
	}
	if t.Quantity.Sign() <= 0 {
		return false, fmt.Errorf("eviction threshold %v must be positive: %s", t.Signal, value)
	}
	return true, nil
}

func names() []string {
	return []string{string(MemoryAvailable), string(NodeFsAvailable), string(NodeFsInodesFree), string(ImageFsAvailable),
		string(ImageFsInodesFree), string(ContainerFsAvailable), string(ContainerFsInodes), string(PIDAvailable)}
}

// Observation is how much there is, and how much is left of it.
type Observation struct{ Available, Capacity resource.Quantity }

// Observations are what was measured, by signal.
type Observations map[Signal]Observation

// Observe takes from the figures of a node what signals are about.
func Observe(node *stats.NodeStats) Observations {
	all := Observations{}
	bytes := func(s Signal, available, capacity *uint64) {
		if available != nil && capacity != nil {
			all[s] = Observation{*resource.NewQuantity(int64(*available), resource.BinarySI), *resource.NewQuantity(int64(*capacity), resource.BinarySI)}
		}
	}
	count := func(s Signal, available, capacity *uint64) {
		if available != nil && capacity != nil && *capacity > 0 { // some file systems have no number of inodes
			all[s] = Observation{*resource.NewQuantity(int64(*available), resource.DecimalSI), *resource.NewQuantity(int64(*capacity), resource.DecimalSI)}
		}
	}
	if m := node.Memory; m != nil && m.AvailableBytes != nil && m.WorkingSetBytes != nil {
		capacity := *m.AvailableBytes + *m.WorkingSetBytes
		bytes(MemoryAvailable, m.AvailableBytes, &capacity)
	}
	if fs := node.Fs; fs != nil {
		bytes(NodeFsAvailable, fs.AvailableBytes, fs.CapacityBytes)
		count(NodeFsInodesFree, fs.InodesFree, fs.Inodes)
	}
	if r := node.Runtime; r != nil {
		if fs := r.ImageFs; fs != nil {
			bytes(ImageFsAvailable, fs.AvailableBytes, fs.CapacityBytes)
			count(ImageFsInodesFree, fs.InodesFree, fs.Inodes)
		}
		if fs := r.ContainerFs; fs != nil {
			bytes(ContainerFsAvailable, fs.AvailableBytes, fs.CapacityBytes)
			count(ContainerFsInodes, fs.InodesFree, fs.Inodes)
		}
	}
	if r := node.Rlimit; r != nil && r.MaxPID != nil && r.NumOfRunningProcesses != nil {
		limit := uint64(*r.MaxPID)
		left := limit - min(limit, uint64(*r.NumOfRunningProcesses))
		count(PIDAvailable, &left, &limit)
	}
	return all
}

// Reserve is what of a node's capacity has to stay free, so that it is not offered to pods.
func Reserve(thresholds []Threshold, capacity corev1.ResourceList) corev1.ResourceList {
	kept := corev1.ResourceList{}
	for _, t := range thresholds {
		switch of := t.Signal.Resource(); t.Signal {
		case MemoryAvailable, NodeFsAvailable:
			kept[of] = t.value(capacity[of])
		}
	}
	return kept
}
