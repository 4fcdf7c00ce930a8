package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"svcplane/server/admin"
)

// part is what starts and ends as one, and has a line of its own in `svcplane status`.
type part interface {
	Run(context.Context) error // until ctx ends; waits for what it started
	Ready() <-chan struct{}    // closed when it serves
	Figure() string            // one short figure for people
}

// troubled is a part that serves, but not all that it should.
type troubled interface {
	Trouble() string // what is missing, and how to mend it; empty: nothing
}

// parts starts parts one after the other, each when the one before serves, and stops them in reverse.
type parts struct {
	mu       sync.Mutex
	began    time.Time
	expected []string // all that are to run, in the order of their start
	running  []*running
	failed   chan error // the first part that ended by itself
}

type running struct {
	name   string
	part   part
	cancel context.CancelFunc
	done   chan struct{}
	since  time.Time
	ready  bool
	err    error
}

func newParts() *parts { return &parts{began: time.Now(), failed: make(chan error, 1)} }

// expect names a part that will be started, after those that were named before.
func (ps *parts) expect(name string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.expected = append(ps.expected, name)
}

// start runs p and returns when it serves, or with the error that it, or an earlier part, ended with.
func (ps *parts) start(ctx context.Context, name string, p part) error {
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{name: name, part: p, cancel: cancel, done: make(chan struct{}), since: time.Now()}
	ps.mu.Lock()
	ps.running = append(ps.running, r)
	ps.mu.Unlock()
	go ps.run(runCtx, r)
	select {
	case <-p.Ready():
	case err := <-ps.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ps.mu.Lock()
	r.ready, r.since = true, time.Now()
	ps.mu.Unlock()
	klog.V(2).InfoS("Part serves", "part", name)
	return nil
}

func (ps *parts) run(ctx context.Context, r *running) {
	defer close(r.done)
	err := r.part.Run(ctx)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return
	}
	if err == nil {
		err = errors.New("ended by itself")
	}
	err = fmt.Errorf("%s: %w", r.name, err)
	ps.mu.Lock()
	r.err, r.since = err, time.Now()
	ps.mu.Unlock()
	select {
	case ps.failed <- err:
	default:
	}
}

// wait returns when ctx ends (nil) or a part failed.
func (ps *parts) wait(ctx context.Context) error {
	select {
	case err := <-ps.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// stop ends the parts, the last started first, each after the one that leans on it.
func (ps *parts) stop() {
	ps.mu.Lock()
	list := ps.running
	ps.mu.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		list[i].cancel()
		<-list[i].done
		klog.V(2).InfoS("Part stopped", "part", list[i].name)
	}
}

// status lists the parts in the order of their start.
func (ps *parts) status() []admin.Status {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var all []admin.Status
	for _, r := range ps.running {
		s := admin.Status{Part: r.name, State: admin.Starting, Since: r.since}
		switch {
		case r.err != nil:
			s.State, s.Figure = admin.Failed, r.err.Error()
		case r.ready:
			s.State, s.Figure = admin.Serving, r.part.Figure()
			if t, ok := r.part.(troubled); ok && t.Trouble() != "" {
				s.State, s.Figure = admin.Degraded, s.Figure+": "+t.Trouble()
			}
		}
		all = append(all, s)
	}
	for i := len(ps.running); i < len(ps.expected); i++ {
		all = append(all, admin.Status{Part: ps.expected[i], State: admin.Waiting, Since: ps.began})
	}
	return all
}
