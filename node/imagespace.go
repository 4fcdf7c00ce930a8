package node

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

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
