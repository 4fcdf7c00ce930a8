package switchover

import (
	"context"
	"sync"
)

// runner runs what members have to run beside.
type runner struct {
	mu      sync.Mutex
	ctx     context.Context // nil until Run
	failed  chan error
	running map[*member]running
}

type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// open lets members run until ctx ends.
func (r *runner) open(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx, r.failed, r.running = ctx, make(chan error, 2), map[*member]running{}
}

// start runs a member that has something to run.
func (r *runner) start(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	runs := m.plane.Capabilities().Runner
	if runs == nil || r.ctx == nil || r.running[m].done != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	r.running[m] = running{cancel, done}
	go func() {
		defer close(done)
		if err := runs.Run(ctx); err != nil {
			select {
			case r.failed <- err:
			default: // one is enough
			}
		}
	}()
}

// stop ends a member's work and waits for its end.
func (r *runner) stop(m *member) {
	r.mu.Lock()
	run := r.running[m]
	delete(r.running, m)
	r.mu.Unlock()
	if run.done != nil {
		run.cancel()
		<-run.done
	}
}

// wait returns when all have ended.
func (r *runner) wait() {
	r.mu.Lock()
	all := r.running
	r.running = map[*member]running{}
	r.mu.Unlock()
	for _, run := range all {
		run.cancel()
		<-run.done
	}
}
