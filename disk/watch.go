package disk

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
)

// Config says what to watch.
type Config struct {
	Dir string
	// Reserve fills up what the store keeps of the disk for itself; nil: nothing is kept.
	Reserve func() error
	// Look reads the space, and Every is how often; zero values: of Dir, once a second.
	Look  func() (Space, error)
	Every time.Duration
}

// Watch knows whether there is room in a data directory.
type Watch struct {
	cfg     Config
	space   atomic.Pointer[Space]
	refusal atomic.Pointer[error]
	ready   chan struct{}
}

// New makes a Watch that has not looked yet.
func New(cfg Config) *Watch {
	if cfg.Reserve == nil {
		cfg.Reserve = func() error { return nil }
	}
	if cfg.Look == nil {
		cfg.Look = func() (Space, error) { return Look(cfg.Dir) }
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	w := &Watch{cfg: cfg, ready: make(chan struct{})}
	w.space.Store(&Space{})
	return w
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	w.look()
	close(w.ready)
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.look()
		}
	}
}

// Ready is closed after the first look.
func (w *Watch) Ready() <-chan struct{} { return w.ready }

// look finds out how things are and tells of a change.
func (w *Watch) look() {
	before := w.Refusal()
	now := w.problem(before != nil)
	switch {
	case now == nil:
		w.refusal.Store(nil)
		if before != nil {
			klog.InfoS("There is room on the disk again: everything is accepted", "directory", w.cfg.Dir)
		}
	default:
		w.refusal.Store(&now)
		if before == nil {
			klog.ErrorS(now, "What needs more space is refused; reading, deleting and traffic go on")
		}
	}
}

// problem is why nothing may grow. The reserve is filled up first, since it is for what comes after.
func (w *Watch) problem(short bool) error {
	reserve := w.cfg.Reserve()
	space, err := w.cfg.Look()
	if err != nil {
		return err
	}
	w.space.Store(&space)
	if lack := space.lack(short); lack != "" {
		return fmt.Errorf("the disk of %s %s", w.cfg.Dir, lack)
	}
	if reserve != nil {
		return fmt.Errorf("the disk of %s is full: the store cannot keep its reserve there: %w: make room, or raise the quota", w.cfg.Dir, reserve)
	}
	return nil
}

// Refusal is why nothing that needs more space may be accepted now; nil: it may.
func (w *Watch) Refusal() error {
	if err := w.refusal.Load(); err != nil {
		return *err
	}
	return nil
}

// Await returns when there is room, or with the cause of the end of ctx.
func (w *Watch) Await(ctx context.Context) error {
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	for w.problem(true) != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// Figure is a short text for people.
func (w *Watch) Figure() string {
	return w.space.Load().String()
}

// Trouble is what is missing, empty if nothing is.
func (w *Watch) Trouble() string {
	if err := w.Refusal(); err != nil {
		return err.Error()
	}
	return ""
}
