package node

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/node/imagegc"
)

func (n *Node) newImageGC() *imagegc.Collector {
	return imagegc.New(imagegc.Config{
		Runtime: n.cfg.Runtime, Images: n.cfg.Images, Recorder: n.cfg.Recorder, Node: n.ref(), Policy: n.cfg.ImageGC, Space: n.imageSpace, Collected: n.images.access.prune,
	})
}

// imageSpace is that of the file system which the runtime keeps images on.
func (n *Node) imageSpace(ctx context.Context) (capacity, available int64, err error) {
	info, err := n.cfg.Images.ImageFsInfo(ctx)
	if err != nil {
		return 0, 0, err
	}
	if len(info.GetImageFilesystems()) == 0 {
		return 0, 0, errors.New("the container runtime names no file system of images")
	}
	var s unix.Statfs_t
	if err := unix.Statfs(info.ImageFilesystems[0].GetFsId().GetMountpoint(), &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize), nil
}

// What a node tells of its images at most, as a kubelet does.
const maxImagesInStatus, maxNamesInStatus = 50, 5

// imagesOnNode are the images that are here, the largest first. Builtin ones have no size and are here always.
func (n *Node) imagesOnNode(ctx context.Context) []corev1.ContainerImage {
	all, err := n.cfg.Images.ListImages(ctx, nil)
	if err != nil {
		klog.V(2).InfoS("Listing the images of the node", "err", err)
		return nil
	}
	all = slices.DeleteFunc(slices.Clone(all), func(i *runtimeapi.Image) bool { return i.Size == 0 })
	slices.SortStableFunc(all, func(a, b *runtimeapi.Image) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Id, b.Id)) })
	var out []corev1.ContainerImage
	for _, i := range all[:min(len(all), maxImagesInStatus)] {
		names := slices.Concat(i.RepoDigests, i.RepoTags)
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), maxNamesInStatus)], SizeBytes: int64(i.Size)})
	}
	return out
}
