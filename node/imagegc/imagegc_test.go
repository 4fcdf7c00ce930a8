package imagegc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// machine is a runtime with images on a disk of 1000 bytes, of which each image alone takes its size.
type machine struct {
	images []*runtimeapi.Image
	runs   []string // images
	other  int64    // bytes that are no image's
	busy   string   // an image that something uses that is no container
	broken string   // an image that cannot be removed
	now    time.Time
	events *record.FakeRecorder
	left   []string
}

func (m *machine) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	return slices.Clone(m.images), nil
}

func (m *machine) ListContainers(context.Context, *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	var all []*runtimeapi.Container
	for _, id := range m.runs {
		all = append(all, &runtimeapi.Container{ImageId: id})
	}
	return all, nil
}

func (m *machine) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	switch spec.Image {
	case m.busy:
		return status.Error(codes.FailedPrecondition, "it is used")
	case m.broken:
		return errors.New("the disk is read-only")
	}
	m.images = slices.DeleteFunc(m.images, func(i *runtimeapi.Image) bool { return i.Id == spec.Image })
	return nil
}

func (m *machine) space(context.Context) (int64, int64, error) {
	used := m.other
	for _, image := range m.images {
		used += int64(image.Size)
	}
	return 1000, 1000 - used, nil
}

func (m *machine) ids() string {
	var all []string
	for _, image := range m.images {
		all = append(all, image.Id)
	}
	return strings.Join(all, " ")
}

func newMachine(p Policy, sizes ...uint64) (*machine, *Collector) {
	m := &machine{now: time.Unix(1e9, 0), events: record.NewFakeRecorder(10)}
	for i, size := range sizes {
		m.images = append(m.images, &runtimeapi.Image{Id: string(rune('a' + i)), Size: size})
	}
	return m, New(Config{Runtime: m, Images: m, Recorder: m.events, Node: &corev1.ObjectReference{}, Policy: p, Space: m.space,
		Now: func() time.Time { return m.now }, Collected: func(_ context.Context, left []string, _ time.Time) { slices.Sort(left); m.left = left }})
}

func (m *machine) collect(t *testing.T, c *Collector, want string) {
	t.Helper()
	if err := c.Collect(context.Background()); err != nil {
		t.Errorf("collect: %v", err)
	}
	if got := m.ids(); got != want {
		t.Errorf("left: %s, want %s", got, want)
	}
}

func TestLeastRecentlyUsedFirst(t *testing.T) {
	m, c := newMachine(DefaultPolicy(), 200, 200, 200, 200)
	m.runs = []string{"a", "b", "d"}
	m.collect(t, c, "a b c d")
	m.now = m.now.Add(time.Minute)
	m.runs = []string{"b", "d"}
	m.collect(t, c, "a b c d")
	m.now = m.now.Add(time.Minute)
	m.runs = []string{"d"}
	m.other = 50 // 85 %: the high threshold
	m.collect(t, c, "a b d")
	if !slices.Equal(m.left, []string{"a", "b", "d"}) {
		t.Errorf("told that %v are left", m.left)
	}
	m.other = 300 // a was used before b
	m.collect(t, c, "b d")
	m.other = 239 // 83.9 % are below it
	m.images = append(m.images, &runtimeapi.Image{Id: "e", Size: 200})
	m.collect(t, c, "b d e")
}

func TestWhatIsNeverRemoved(t *testing.T) {
	m, c := newMachine(DefaultPolicy(), 250, 200, 200, 150)
	m.collect(t, c, "a b c d")
	m.now = m.now.Add(time.Hour)
	m.images = append(m.images, &runtimeapi.Image{Id: "new", Size: 1})
	m.runs, m.images[1].Pinned, m.busy, m.other = []string{"a"}, true, "c", 199
	// d goes, and that is not enough: a is used, b pinned, c busy, and the last one came a moment ago.
	if err := c.Collect(context.Background()); err == nil || m.ids() != "a b c new" {
		t.Errorf("left: %s, %v", m.ids(), err)
	}
}

func TestNotEnough(t *testing.T) {
	m, c := newMachine(DefaultPolicy(), 100)
	m.collect(t, c, "a")
	m.now, m.other = m.now.Add(time.Hour), 850
	err := c.Collect(context.Background())
	want := "Insufficient free disk space on the node's image filesystem (95% of 1000 B used). Failed to free sufficient space by deleting unused images (freed 100 bytes). " +
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
	if err == nil || err.Error() != want || m.ids() != "" {
		t.Errorf("%v, left %s", err, m.ids())
	}
	if got := <-m.events.Events; got != "Warning FreeDiskSpaceFailed "+want {
		t.Errorf("event %s", got)
	}
	m.images, m.broken = []*runtimeapi.Image{{Id: "x", Size: 100}}, "x"
	_ = c.Collect(context.Background()) // it came a moment ago
	m.now = m.now.Add(time.Hour)
	if err := c.Collect(context.Background()); err == nil || !strings.Contains(err.Error(), "wanted to free 150 bytes, but freed 0 bytes space with errors in image deletion: the disk is read-only") {
		t.Errorf("%v", err)
	}
}

func TestMaximumAge(t *testing.T) {
	p := DefaultPolicy()
	p.MaxAge = time.Hour
	m, c := newMachine(p, 1, 1, 1)
	m.runs = []string{"a", "b"}
	m.collect(t, c, "a b c")
	m.now = m.now.Add(59 * time.Minute)
	m.runs = []string{"b"}
	m.collect(t, c, "a b c")
	m.now = m.now.Add(2 * time.Minute)
	m.collect(t, c, "b")
}

func TestDeleteUnused(t *testing.T) {
	m, c := newMachine(DefaultPolicy(), 1, 1, 1)
	m.runs, m.images[2].Pinned = []string{"a"}, true
	m.collect(t, c, "a b c")
	m.now = m.now.Add(time.Hour)
	if err := c.DeleteUnused(context.Background()); err != nil || m.ids() != "a c" {
		t.Errorf("left: %s, %v", m.ids(), err)
	}
}

func TestValidate(t *testing.T) {
	for want, p := range map[string]Policy{
		"": DefaultPolicy(),
		"imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive":                                      {HighThresholdPercent: 101},
		"imageGCLowThresholdPercent (--image-gc-low-threshold) 85 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 85": {HighThresholdPercent: 85, LowThresholdPercent: 85},
		"imageMinimumGCAge (--minimum-image-ttl-duration) -1s must not be negative":                                                             {HighThresholdPercent: 85, MinAge: -time.Second},
		"imageMaximumGCAge (--image-maximum-gc-age) 1s must be greater than imageMinimumGCAge (--minimum-image-ttl-duration) 1s":                {HighThresholdPercent: 85, MinAge: time.Second, MaxAge: time.Second},
	} {
		if got := fmt.Sprint(p.Validate()); got != want && !(want == "" && got == "<nil>") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestFailuresInARow: the first one is not told, since there may be no figures yet.
func TestFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := newMachine(DefaultPolicy(), 100)
		m.images[0].Pinned, m.other = true, 850
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		synctest.Wait()
		if got := <-m.events.Events; !strings.HasPrefix(got, "Warning FreeDiskSpaceFailed ") || len(m.events.Events) != 0 {
			t.Errorf("after the first failure: %s, and %d more", got, len(m.events.Events))
		}
		time.Sleep(Every + time.Second)
		synctest.Wait()
		if first, second := <-m.events.Events, <-m.events.Events; !strings.HasPrefix(first, "Warning FreeDiskSpaceFailed ") || !strings.HasPrefix(second, "Warning ImageGCFailed Insufficient free disk space") {
			t.Errorf("after the second: %s, %s", first, second)
		}
		cancel()
		<-done
	})
}
