package node

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWorkersWriteOneByOne(t *testing.T) {
	n := &Node{writing: make(chan struct{}, 1)}
	var writing, most atomic.Int32
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range 20 {
		all.Go(func() {
			<-begin
			for range 100 {
				err := n.oneByOne(t.Context(), func() error {
					most.Store(max(most.Load(), writing.Add(1)))
					runtime.Gosched()
					writing.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	close(begin)
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d wrote at once", most.Load())
	}
	ended, end := context.WithCancel(t.Context())
	end()
	n.writing <- struct{}{} // somebody writes, and gets no answer
	if err := n.oneByOne(ended, func() error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("who has no time left waits: %v", err)
	}
}
