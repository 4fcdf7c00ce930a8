package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	v1resource "k8s.io/kubernetes/pkg/api/v1/resource"
)

// Pods are those that run, and what they use.
type Pods struct {
	List []*corev1.Pod
	Use  map[string]*stats.PodStats // by UID
	// ImageDisk says that images and what containers write lie on another disk than volumes and logs.
	ImageDisk bool
}

// ranked is a pod with what its place depends on.
type ranked struct {
	pod      *corev1.Pod
	known    bool
	exceeds  bool // it uses more than it requested
	priority int32
	over     resource.Quantity // how much more
}

// rank puts those first that go first: pods of which nothing is known, pods that use more than they requested, then by priority,
// then by how much more they use. Process numbers are not requested, so that the first two do not count.
func (p *Pods) rank(s Signal) []*corev1.Pod {
	all := make([]ranked, 0, len(p.List))
	for _, pod := range p.List {
		all = append(all, p.rankOne(s, pod))
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		return cmp.Or(first(!a.known, !b.known), first(a.exceeds, b.exceeds), cmp.Compare(a.priority, b.priority), b.over.Cmp(a.over))
	})
	pods := make([]*corev1.Pod, 0, len(all))
	for _, r := range all {
		pods = append(pods, r.pod)
	}
	return pods
}

func (p *Pods) rankOne(s Signal, pod *corev1.Pod) ranked {
	r := ranked{pod: pod}
	if pod.Spec.Priority != nil {
		r.priority = *pod.Spec.Priority
	}
	use := p.Use[string(pod.UID)]
	if use == nil {
		r.known = s == PIDAvailable // there its priority comes first
		return r
	}
	r.known = true
	switch of := s.Resource(); of {
	case corev1.ResourceMemory:
		if use.Memory != nil && use.Memory.WorkingSetBytes != nil {
			r.over = *resource.NewQuantity(int64(*use.Memory.WorkingSetBytes), resource.BinarySI)
		}
		request := v1resource.GetResourceRequestQuantity(pod, of)
		r.exceeds = r.over.Cmp(request) > 0
		r.over.Sub(request)
	case pids:
		if use.ProcessStats != nil && use.ProcessStats.ProcessCount != nil {
			r.over = *resource.NewQuantity(int64(*use.ProcessStats.ProcessCount), resource.DecimalSI)
		}
	default:
		r.over = p.disk(s, pod, use)
		request := v1resource.GetResourceRequestQuantity(pod, of)
		r.exceeds = r.over.Cmp(request) > 0
		r.over.Sub(request)
	}
	return r
}

// disk is what a pod takes of the disk that a signal is about: octets, or inodes.
func (p *Pods) disk(s Signal, pod *corev1.Pod, use *stats.PodStats) resource.Quantity {
	onImages := s == ImageFsAvailable || s == ImageFsInodesFree || s == ContainerFsAvailable || s == ContainerFsInodes
	sum := uint64(0)
	add := func(fs *stats.FsStats) {
		switch {
		case fs == nil:
		case s.Resource() == inodes && fs.InodesUsed != nil:
			sum += *fs.InodesUsed
		case s.Resource() != inodes && fs.UsedBytes != nil:
			sum += *fs.UsedBytes
		}
	}
	for i := range use.Containers {
		if !p.ImageDisk || onImages {
			add(use.Containers[i].Rootfs)
		}
		if !p.ImageDisk || !onImages {
			add(use.Containers[i].Logs)
		}
	}
	if !p.ImageDisk || !onImages {
		for i := range use.VolumeStats {
			if local(pod, use.VolumeStats[i].Name) {
				add(&use.VolumeStats[i].FsStats)
			}
		}
	}
	if s.Resource() == inodes {
		return *resource.NewQuantity(int64(sum), resource.DecimalSI)
	}
	return *resource.NewQuantity(int64(sum), resource.BinarySI)
}

// local says whether a volume goes with its pod, and lies on the node's disk.
func local(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == name && (v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault || v.ConfigMap != nil)
	})
}

// first puts what is so before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
