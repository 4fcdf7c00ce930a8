package node

import (
	"context"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"svcplane/measure"
	"svcplane/node/figures"
)

// treeAge is how old the size of a volume may be.
const treeAge = 15 * time.Second

// diskOf tells of the file system that a path is on, without what one user takes of it; nil: it can't be read.
func diskOf(path string) *stats.FsStats {
	d, err := measure.ReadDisk(path)
	if err != nil {
		return nil // it has gone
	}
	return &stats.FsStats{Time: metav1.Now(), AvailableBytes: &d.Available, CapacityBytes: &d.Capacity, UsedBytes: &d.Used,
		Inodes: &d.Inodes, InodesFree: &d.InodesFree, InodesUsed: &d.InodesUsed}
}

// taking is what somebody takes of the file system that a path is on.
func taking(path string, t measure.Tree, at time.Time) *stats.FsStats {
	f := diskOf(path)
	if f == nil {
		return nil
	}
	f.Time, f.UsedBytes, f.InodesUsed = metav1.NewTime(at), &t.Bytes, &t.Inodes
	return f
}

// volumeFigures tells what the volumes of a pod take, those that were measured already.
func (n *Node) volumeFigures(ctx context.Context, pod *corev1.Pod) []figures.Volume {
	var all []figures.Volume
	for _, place := range n.volumes.Places(ctx, pod) {
		v := figures.Volume{Local: place.Claim == "" && !place.Memory}
		v.Name = place.Volume
		if place.Claim != "" {
			v.PVCRef = &stats.PVCReference{Namespace: pod.Namespace, Name: place.Claim}
		}
		var f *stats.FsStats
		if place.Memory {
			f = diskOf(place.Path)
		} else if tree, at, ok := n.trees.Get(place.Path); ok {
			f = taking(place.Path, tree, at)
		}
		if f != nil {
			v.FsStats = *f
			all = append(all, v)
		}
	}
	return all
}

// logFigures tells what the logs of a container take, those of its earlier instances included.
func (n *Node) logFigures(pod *corev1.Pod, container string) *stats.FsStats {
	dir := filepath.Join(n.logDir(pod), container)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var t measure.Tree
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			t.Bytes += uint64(info.Size())
			t.Inodes++
		}
	}
	return taking(dir, t, time.Now())
}

// layerFigures tells what a container has written into its root; nil: the runtime has not measured it.
func layerFigures(use *runtimeapi.FilesystemUsage) *stats.FsStats {
	if use.GetUsedBytes() == nil || use.GetFsId() == nil {
		return nil
	}
	return taking(use.FsId.Mountpoint, measure.Tree{Bytes: use.UsedBytes.Value, Inodes: use.InodesUsed.GetValue()}, time.Unix(0, use.Timestamp))
}

// runtimeDisks tells of the file systems of images and of containers. What images take of theirs the runtime knows.
func (n *Node) runtimeDisks(ctx context.Context) (images, containers *stats.FsStats) {
	info, err := n.cfg.Images.ImageFsInfo(ctx)
	if err != nil {
		klog.V(2).InfoS("What images take is not known", "err", err)
		return nil, nil
	}
	for _, one := range info.GetImageFilesystems() {
		images = layerFigures(one)
	}
	for _, one := range info.GetContainerFilesystems() {
		containers = layerFigures(one)
	}
	return images, containers
}
