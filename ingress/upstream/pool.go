package upstream

import (
	"sync"
	"time"
)

// pool keeps the idle connections to one endpoint, the last used on top.
type pool struct {
	mu     sync.Mutex
	idle   []*Conn
	closed bool
	sweep  *time.Timer // runs while there are idle connections
}

// Get takes an idle connection that is open; nil if there is none. With look it makes sure of that, because the
// request cannot be sent twice.
func (p *pool) Get(look bool) *Conn {
	now := time.Now()
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		w := p.idle[n-1]
		p.idle[n-1], p.idle = nil, p.idle[:n-1]
		p.mu.Unlock()
		if (look || now.Sub(w.idle) > trustIdle) && !w.open() {
			_ = w.Close() // the other side closed it
			continue
		}
		if w.Reused = true; w.Buf == nil {
			w.Buf = make([]byte, ConnBuffer)
		}
		return w
	}
}

// Put gives a connection back for the next request.
func (p *pool) Put(w *Conn, now time.Time) {
	w.idle = now
	p.mu.Lock()
	keep := !p.closed && len(p.idle) < maxIdleConns && !w.lines.scarce()
	if keep {
		if len(p.idle) >= maxIdleBuffers || len(w.Buf) > ConnBuffer {
			w.Buf = nil
		}
		p.idle = append(p.idle, w)
		if p.sweep == nil {
			p.sweep = time.AfterFunc(idleConnTimeout, p.expire)
		}
	}
	p.mu.Unlock()
	if !keep {
		_ = w.Close() // nobody waits for it
	}
}

// expire closes what was idle too long, and comes again while anything is.
func (p *pool) expire() {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].idle) >= idleConnTimeout {
		n++
	}
	old := append([]*Conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	if len(p.idle) > 0 && !p.closed {
		p.sweep.Reset(idleConnTimeout / 4)
	} else {
		p.sweep = nil
	}
	p.mu.Unlock()
	closeConns(old)
}

// close closes what is idle, now, and what comes back, then.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	old := p.idle
	p.idle = nil
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	p.mu.Unlock()
	closeConns(old)
}

func closeConns(wires []*Conn) {
	for _, w := range wires {
		_ = w.Close() // it is going away: there is nothing to do about an error
	}
}
