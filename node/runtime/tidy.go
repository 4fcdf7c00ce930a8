package runtime

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"svcplane/disk"
	"svcplane/node/runtime/pull"
)

// tidyEvery is how often what nobody needs is looked for among images and what pulls have left.
const tidyEvery = 5 * time.Minute

// tidyImages removes what crashes, and pulls that were given up, have left of images. A pull that is tried again needs what it
// has left: that is kept for a week, but on a disk that is nearly full.
func (r *Runtime) tidyImages(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if err := r.images.Tidy(); err != nil {
			klog.ErrorS(err, "Removing what nobody needs of images")
		}
		age := pull.KeepBlobs
		if space, err := disk.Look(r.cfg.DataDir); err == nil && space.Free < space.Total/10 {
			age = abandoned
		}
		if err := pull.Tidy(BlobDir(r.cfg.DataDir), age); err != nil {
			klog.ErrorS(err, "Removing what pulls have left")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
