package ingress

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wire is an HTTP/1.1 connection to an endpoint as the fast path uses it: written and read by the goroutine of the
// client's connection, with no other between.
type wire struct {
	*line
	raw      syscall.RawConn
	buf      []byte // what was read lies in buf[r:w]
	r, w     int
	reused   bool
	idle     time.Time // since when
	deadline time.Time // that is set for reading

	// for step
	out  []byte // still to be written
	took bool   // something was read by now, or the end
	err  error
	next func(fd uintptr) bool

	narrow []byte // the usual buffer, while buf is a wide one
}

const (
	wireBuffer = 16 << 10
	// maxIdleWires is for one endpoint: with fewer than there are busy clients, connections would be made and closed
	// for nothing. What is idle for idleConnTimeout is closed anyway, and beyond maxIdleBuffers it is only a socket.
	maxIdleWires   = 4096
	maxIdleBuffers = 512
	// watchEvery is how often a wait for an endpoint is interrupted to see whether the client is still there.
	watchEvery = 2 * time.Second
	// trustIdle is how long an idle connection is taken to be open without looking.
	trustIdle = time.Second
)

var errWireClosed = errors.New("the endpoint closed the connection")

// pool keeps the idle connections to one endpoint, the last used on top.
type pool struct {
	mu     sync.Mutex
	idle   []*wire
	closed bool
	sweep  *time.Timer // runs while there are idle connections
}

// get takes an idle connection that is open; nil if there is none. With look it makes sure of that, because the
// request cannot be sent twice.
func (p *pool) get(look bool) *wire {
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
		if w.reused = true; w.buf == nil {
			w.buf = make([]byte, wireBuffer)
		}
		return w
	}
}

// put gives a connection back for the next request.
func (p *pool) put(w *wire, now time.Time) {
	w.idle = now
	p.mu.Lock()
	keep := !p.closed && len(p.idle) < maxIdleWires && !w.lines.scarce()
	if keep {
		if len(p.idle) >= maxIdleBuffers || len(w.buf) > wireBuffer {
			w.buf = nil
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
	old := append([]*wire(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	if len(p.idle) > 0 && !p.closed {
		p.sweep.Reset(idleConnTimeout / 4)
	} else {
		p.sweep = nil
	}
	p.mu.Unlock()
	closeWires(old)
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
	closeWires(old)
}

func closeWires(wires []*wire) {
	for _, w := range wires {
		_ = w.Close() // it is going away: there is nothing to do about an error
	}
}

func (e *endpoint) dialWire(limit time.Duration) (*wire, error) {
	if limit == 0 {
		limit = dialTimeout
	}
	c, err := e.connect(context.Background(), limit)
	if err != nil {
		return nil, err
	}
	w := &wire{line: c, buf: make([]byte, wireBuffer)}
	if w.raw, err = w.SyscallConn(); err != nil {
		_ = c.Close() // the first error counts
		return nil, &dialError{e.host, err}
	}
	w.next = w.step
	return w, nil
}

// wideBuffers are for what is left of large answers: fewer, larger reads and writes.
var wideBuffers = sync.Pool{New: func() any { return new([wideBuffer]byte) }}

const wideBuffer = 64 << 10

// widen takes a wide buffer when all that was read is used up and much is to come; whoever calls it calls narrowed.
// HTTP/2 does not: the answers under way on all its streams would no longer fit the processor's cache.
func (w *wire) widen(left int64) {
	if w.narrow == nil && left >= wideBuffer/2 && w.r == w.w {
		w.narrow = w.buf
		w.buf, w.r, w.w = wideBuffers.Get().(*[wideBuffer]byte)[:], 0, 0
	}
}

// narrowed gives the wide buffer back, unless there is something in it: such a connection is closed.
func (w *wire) narrowed() {
	if w.narrow != nil && w.r == w.w {
		wideBuffers.Put((*[wideBuffer]byte)(w.buf))
		w.buf, w.narrow, w.r, w.w = w.narrow, nil, 0, 0
	}
}

// open says whether an idle connection is neither closed nor has anything to read, which nobody asked for.
func (w *wire) open() bool {
	alive := false
	err := w.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = err == unix.EAGAIN
	})
	return err == nil && alive
}

// send writes a request and waits for the first bytes of the answer. Waiting is set up before writing, so that no
// read is tried that would only say that there is nothing yet.
func (w *wire) send(request []byte) error {
	w.r, w.w, w.out, w.took, w.err = 0, 0, request, false, nil
	return w.await()
}

// more waits for bytes after those in buf[r:w], which move to the beginning if there is no room behind them.
func (w *wire) more() error {
	if w.r == w.w {
		w.r, w.w = 0, 0
	} else if w.w == len(w.buf) {
		w.w = copy(w.buf, w.buf[w.r:w.w])
		w.r = 0
	}
	if w.w == len(w.buf) {
		if len(w.buf) >= maxAnswerHead {
			return errors.New("the answer's head is too long")
		}
		w.buf = append(make([]byte, 0, maxAnswerHead), w.buf...)[:maxAnswerHead]
	}
	w.out, w.took, w.err = nil, false, nil
	return w.await()
}

// await runs step until there is something to read. A timeout is os.ErrDeadlineExceeded and may be followed by
// another await.
func (w *wire) await() error {
	if now := time.Now(); w.deadline.Sub(now) < watchEvery/2 {
		w.deadline = now.Add(watchEvery)
		if err := w.SetReadDeadline(w.deadline); err != nil {
			return err
		}
	}
	err := w.raw.Read(w.next)
	if err != nil {
		return err
	}
	if w.err == nil && !w.took && len(w.out) > 0 {
		// the endpoint takes less at once than there is: wait for it
		if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		out := w.out
		w.out = nil
		if _, err := w.TCPConn.Write(out); err != nil {
			return err
		}
		return w.await()
	}
	return w.err
}

// step is called with nothing but the socket between: first to write, then each time there may be something to read.
func (w *wire) step(fd uintptr) bool {
	if len(w.out) > 0 {
		n, err := rawWrite(fd, w.out)
		w.out = w.out[n:]
		if err != 0 && err != unix.EAGAIN {
			w.err = err
			return true
		}
		return len(w.out) > 0
	}
	n, err := rawRead(fd, w.buf[w.w:])
	switch {
	case err == unix.EAGAIN:
		return false
	case err != 0:
		w.err = err
	case n == 0:
		w.err = io.EOF
	}
	w.w += n
	w.took = true
	return true
}

func isWatch(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
