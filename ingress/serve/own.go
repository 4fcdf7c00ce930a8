package serve

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// drainGrace is how long a connection without a request is kept at the end: a request may be on its way to it, and
// is answered with Connection: close.
// lastLook is how long it is read after that, for a request that is there already.
const (
	drainGrace = 500 * time.Millisecond
	lastLook   = 50 * time.Millisecond
)

// drainer is a connection that can be told to end after what is under way, and what comes until then.
type drainer interface{ drain(until time.Time) }

// ownConns knows the connections that net/http does not serve, so that it can be ended: each after the requests that
// are under way, or that come within drainGrace.
type ownConns struct {
	over  atomic.Bool
	until time.Time // end of the grace; set before over

	mu    sync.Mutex
	conns map[drainer]struct{}
	left  chan struct{} // receives after a connection has gone
}

func newOwnConns() *ownConns {
	return &ownConns{conns: map[drainer]struct{}{}, left: make(chan struct{}, 1)}
}

// ending says whether connections are to be closed after the request at hand.
func (s *ownConns) ending() bool { return s.over.Load() }

func (s *ownConns) add(d drainer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[d] = struct{}{}
	if s.ending() {
		d.drain(s.until)
	}
}

func (s *ownConns) remove(d drainer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, d)
	select {
	case s.left <- struct{}{}:
	default:
	}
}

// finish begins the end; it is called once. Connections that wait for a request go on until the grace is over, the
// others see ending when they have answered.
func (s *ownConns) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now().Add(drainGrace)
	s.over.Store(true)
	for d := range s.conns {
		d.drain(s.until)
	}
}

// wait returns when there is no connection left or ctx has ended.
func (s *ownConns) wait(ctx context.Context) {
	for {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-s.left:
		case <-ctx.Done():
			return
		}
	}
}
