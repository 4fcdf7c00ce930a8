package imagegc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// Policy says when images are removed; the names and values are the kubelet's.
type Policy struct {
	HighThresholdPercent int           // of the disk: from here on
	LowThresholdPercent  int           // of the disk: down to here
	MinAge               time.Duration // how long an image is here at least
	MaxAge               time.Duration // how long an image may be unused; 0: for ever
}

// DefaultPolicy is the kubelet's.
func DefaultPolicy() Policy {
	return Policy{HighThresholdPercent: 85, LowThresholdPercent: 80, MinAge: 2 * time.Minute}
}

// Never says that no image is ever removed.
func (p Policy) Never() bool { return p.HighThresholdPercent == 100 && p.MaxAge == 0 }

// Validate says what is wrong with a policy, in the kubelet's words.
func (p Policy) Validate() error {
	percent := func(what string, value int) error {
		if value < 0 || value > 100 {
			return fmt.Errorf("%s %v must be between 0 and 100, inclusive", what, value)
		}
		return nil
	}
	const high, low = "imageGCHighThresholdPercent (--image-gc-high-threshold)", "imageGCLowThresholdPercent (--image-gc-low-threshold)"
	const least, most = "imageMinimumGCAge (--minimum-image-ttl-duration)", "imageMaximumGCAge (--image-maximum-gc-age)"
	if err := cmp.Or(percent(high, p.HighThresholdPercent), percent(low, p.LowThresholdPercent)); err != nil {
		return err
	}
	switch {
	case p.LowThresholdPercent >= p.HighThresholdPercent:
		return fmt.Errorf("%s %v must be less than %s %v", low, p.LowThresholdPercent, high, p.HighThresholdPercent)
	case p.MinAge < 0:
		return fmt.Errorf("%s %v must not be negative", least, p.MinAge)
	case p.MaxAge < 0:
		return fmt.Errorf("%s %v must not be negative", most, p.MaxAge)
	case p.MaxAge > 0 && p.MaxAge <= p.MinAge:
		return fmt.Errorf("%s %v must be greater than %s %v", most, p.MaxAge, least, p.MinAge)
	}
	return nil
}

// Runtime is what is asked of the container runtime.
type Runtime interface {
	ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error)
}

// Images is what is asked of its images.
type Images interface {
	ListImages(ctx context.Context, filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error)
	RemoveImage(ctx context.Context, image *runtimeapi.ImageSpec) error
}

// Config is what a Collector needs.
type Config struct {
	Runtime  Runtime
	Images   Images
	Recorder record.EventRecorder
	Node     *corev1.ObjectReference
	Policy   Policy
	Space    func(ctx context.Context) (capacity, available int64, err error) // of the disk of images
	Now      func() time.Time                                                 // nil: the clock
	// Collected gets the ids of the images that are left, and when it began; nil: nobody.
	Collected func(ctx context.Context, left []string, began time.Time)
}

// Every is how often the images are looked at.
const Every = 5 * time.Minute

// Collector removes images.
type Collector struct {
	cfg   Config
	began time.Time

	mu      sync.Mutex
	records map[string]*usage // by id
}

// usage is what is known of an image.
type usage struct {
	id                  string
	detected, used      time.Time
	size                uint64
	pinned, inContainer bool
}

// New makes a Collector.
func New(cfg Config) *Collector {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Collector{cfg: cfg, began: cfg.Now(), records: map[string]*usage{}}
}

// Run looks now and then, until ctx ends. The first failure is not told, as by a kubelet: there may be no figures yet.
func (c *Collector) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for failed := false; ; {
		err := c.Collect(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && failed:
			klog.ErrorS(err, "Image garbage collection failed multiple times in a row")
			c.cfg.Recorder.Event(c.cfg.Node, corev1.EventTypeWarning, "ImageGCFailed", err.Error())
		case err != nil:
			klog.ErrorS(err, "Image garbage collection failed once. Stats initialization may not have completed yet")
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Collect removes what the policy says.
func (c *Collector) Collect(ctx context.Context) error {
	now := c.cfg.Now()
	images, err := c.order(ctx, now)
	if err != nil {
		return err
	}
	if images, err = c.freeOld(ctx, images, now); err != nil {
		return err
	}
	capacity, available, err := c.space(ctx)
	if err != nil {
		return err
	}
	p := c.cfg.Policy
	percent := 100 - int(available*100/capacity)
	if percent < p.HighThresholdPercent {
		return nil
	}
	target := capacity * int64(100-p.LowThresholdPercent) / 100
	klog.InfoS("Disk usage on image filesystem is over the high threshold, trying to free bytes down to the low threshold",
		"usage", percent, "highThreshold", p.HighThresholdPercent, "amountToFree", target-available, "lowThreshold", p.LowThresholdPercent)
	freed, err := c.free(ctx, images, now, available, target)
	if err != nil {
		return err
	}
	if freed < target-available {
		message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). Failed to free sufficient space by deleting unused images (freed %d bytes). "+
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.", percent, formatSize(capacity), freed)
		c.cfg.Recorder.Event(c.cfg.Node, corev1.EventTypeWarning, "FreeDiskSpaceFailed", message)
		return errors.New(message)
	}
	return nil
}

// DeleteUnused removes every image that nothing uses and nobody has pinned, unless it came a moment ago: for evictions.
func (c *Collector) DeleteUnused(ctx context.Context) error {
	now := c.cfg.Now()
	images, err := c.order(ctx, now)
	if err != nil {
		return err
	}
	_, available, err := c.space(ctx)
	if err != nil {
		return err
	}
	_, err = c.free(ctx, images, now, available, 1<<62)
	return err
}

// space is that of the disk.
func (c *Collector) space(ctx context.Context) (capacity, available int64, err error) {
	capacity, available, err = c.cfg.Space(ctx)
	if err != nil {
		return 0, 0, err
	}
	if capacity <= 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		c.cfg.Recorder.Event(c.cfg.Node, corev1.EventTypeWarning, "InvalidDiskCapacity", err.Error())
		return 0, 0, err
	}
	return capacity, min(available, capacity), nil
}

// free removes images until so much is available, and says how much more there is.
func (c *Collector) free(ctx context.Context, images []usage, now time.Time, before, target int64) (int64, error) {
	var failed []error
	var left []string
	available := before
	for _, image := range images {
		if available >= target || !image.used.Before(now) || now.Sub(image.detected) < c.cfg.Policy.MinAge {
			left = append(left, image.id)
			continue
		}
		gone, err := c.remove(ctx, image)
		if err != nil {
			failed = append(failed, err)
		}
		if !gone {
			left = append(left, image.id)
			continue
		}
		if _, available, err = c.space(ctx); err != nil {
			return 0, err
		}
	}
	freed := max(0, available-before)
	if len(failed) > 0 {
		return freed, fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w", target-before, freed, utilerrors.NewAggregate(failed))
	}
	if c.cfg.Collected != nil {
		c.cfg.Collected(ctx, append(left, c.kept()...), now)
	}
	return freed, nil
}

// kept are the images that are not for removal.
func (c *Collector) kept() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range c.records {
		if r.pinned || r.inContainer {
			ids = append(ids, id)
		}
	}
	return ids
}

// freeOld removes what was not used for MaxAge, once this process runs for as long: it knows no use before.
func (c *Collector) freeOld(ctx context.Context, images []usage, now time.Time) ([]usage, error) {
	most := c.cfg.Policy.MaxAge
	if most == 0 || now.Sub(c.began) <= most {
		return images, nil
	}
	var left []usage
	var failed []error
	for _, image := range images {
		if now.Sub(image.used) > most {
			gone, err := c.remove(ctx, image)
			if err != nil {
				failed = append(failed, err)
			}
			if gone {
				continue
			}
		}
		left = append(left, image)
	}
	if len(failed) > 0 {
		return left, fmt.Errorf("wanted to free images older than %v, encountered errors in image deletion: %v", most, utilerrors.NewAggregate(failed))
	}
	return left, nil
}

// remove removes one image. That something uses it by now is no error: it stays.
func (c *Collector) remove(ctx context.Context, image usage) (gone bool, err error) {
	klog.InfoS("Removing image to free bytes", "imageID", image.id, "size", image.size)
	err = c.cfg.Images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: image.id})
	if status.Code(err) == codes.FailedPrecondition {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.records, image.id)
	return true, nil
}

// order gives the images that may go, the least recently used first.
func (c *Collector) order(ctx context.Context, now time.Time) ([]usage, error) {
	if err := c.detect(ctx, now); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var free []usage
	for _, r := range c.records {
		if !r.pinned && !r.inContainer {
			free = append(free, *r)
		}
	}
	slices.SortFunc(free, func(a, b usage) int {
		return cmp.Or(a.used.Compare(b.used), a.detected.Compare(b.detected), cmp.Compare(a.id, b.id))
	})
	return free, nil
}

// detect looks which images there are, and which of them are used.
func (c *Collector) detect(ctx context.Context, now time.Time) error {
	images, err := c.cfg.Images.ListImages(ctx, nil)
	if err != nil {
		return err
	}
	containers, err := c.cfg.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, container := range containers {
		used[container.ImageId], used[container.ImageRef] = true, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.records
	c.records = map[string]*usage{}
	for _, image := range images {
		r := before[image.Id]
		if r == nil {
			r = &usage{id: image.Id, detected: now}
		}
		if r.inContainer = used[image.Id]; r.inContainer {
			r.used = now
		}
		r.size, r.pinned = image.Size, image.Pinned
		c.records[image.Id] = r
	}
	return nil
}

// formatSize writes bytes as the kubelet's Event does.
func formatSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}
