package ingress

import (
	"sync"
	"sync/atomic"
	"time"
)

// fastSet knows the connections that the fast path serves, so that it can be ended: each after the request that is
// under way.
type fastSet struct {
	over atomic.Bool

	mu    sync.Mutex
	conns map[*fast]*conn
	empty chan struct{} // closed when it is over and the last one has left
}

func newFastSet() *fastSet { return &fastSet{conns: map[*fast]*conn{}, empty: make(chan struct{})} }

// ending says whether connections are to be closed after the request at hand.
func (s *fastSet) ending() bool { return s.over.Load() }

// add takes f in; false when the end has come.
func (s *fastSet) add(f *fast) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over.Load() {
		return false
	}
	s.conns[f] = f.c
	return true
}

func (s *fastSet) remove(f *fast) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, f)
	if s.over.Load() && len(s.conns) == 0 {
		close(s.empty)
	}
}

// finish wakes those that wait for a request; the others see ending when they have answered. It is called once.
func (s *fastSet) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over.Store(true)
	for _, c := range s.conns {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // an error means that it is closed already
	}
	if len(s.conns) == 0 {
		close(s.empty)
	}
}
