package upstream

import (
	"sync"
	"sync/atomic"
)

// gate counts users of a thing that is going away: after shut nobody comes in, and when the last one has left,
// onEmpty runs, once. enter and shut each write first and look second, so that one of them sees the other.
type gate struct {
	Inside  atomic.Int64
	closed  atomic.Bool
	once    sync.Once
	onEmpty func()
}

// Enter counts the caller in; false when the gate is shut. Every true wants one leave.
func (g *gate) Enter() bool {
	g.Inside.Add(1)
	if g.closed.Load() {
		g.Leave()
		return false
	}
	return true
}

func (g *gate) Leave() {
	if g.Inside.Add(-1) == 0 && g.closed.Load() {
		g.once.Do(g.onEmpty)
	}
}

func (g *gate) shut() {
	g.closed.Store(true)
	if g.Inside.Load() == 0 {
		g.once.Do(g.onEmpty)
	}
}
