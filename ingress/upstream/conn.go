package upstream

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/ingress/rawio"
)

// Conn is an HTTP/1.1 connection to an endpoint: written and read by the goroutine of the client's connection, with no other
// between.
type Conn struct {
	*budgetConn
	Raw      syscall.RawConn
	Buf      []byte // what was read lies in Buf[R:W]
	R, W     int
	Reused   bool
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
	// ConnBuffer is the size of Buf, unless an answer is large.
	ConnBuffer = 16 << 10
	// takeTimeout is how long an endpoint may take nothing of what is written.
	takeTimeout = 60 * time.Second
	// maxIdleConns is for one endpoint: with fewer than there are busy clients, connections would be made and closed
	// for nothing. What is idle for idleConnTimeout is closed anyway, and beyond maxIdleBuffers it is only a socket.
	maxIdleConns   = 4096
	maxIdleBuffers = 512
	// watchEvery is how often a wait for an endpoint is interrupted to see whether the client is still there.
	watchEvery = 2 * time.Second
	// trustIdle is how long an idle connection is taken to be open without looking.
	trustIdle = time.Second
)

// Dial makes a connection within limit (0: the usual time). Its error is a *DialError or ErrTooManyConns.
func (e *Endpoint) Dial(limit time.Duration) (*Conn, error) {
	if limit == 0 {
		limit = dialTimeout
	}
	c, err := e.connect(context.Background(), limit)
	if err != nil {
		return nil, err
	}
	w := &Conn{budgetConn: c, Buf: make([]byte, ConnBuffer)}
	if w.Raw, err = w.SyscallConn(); err != nil {
		_ = c.Close() // the first error counts
		return nil, &DialError{e.Host, err}
	}
	w.next = w.step
	return w, nil
}

// wideBuffers are for what is left of large answers: fewer, larger reads and writes.
var wideBuffers = sync.Pool{New: func() any { return new([wideBuffer]byte) }}

const wideBuffer = 64 << 10

// Widen takes a wide buffer when all that was read is used up and much is to come; whoever calls it calls Narrow.
// HTTP/2 does not: the answers under way on all its streams would no longer fit the processor's cache.
func (w *Conn) Widen(left int64) {
	if w.narrow == nil && left >= wideBuffer/2 && w.R == w.W {
		w.narrow = w.Buf
		w.Buf, w.R, w.W = wideBuffers.Get().(*[wideBuffer]byte)[:], 0, 0
	}
}

// Narrowed gives the wide buffer back, unless there is something in it: such a connection is closed.
func (w *Conn) Narrow() {
	if w.narrow != nil && w.R == w.W {
		wideBuffers.Put((*[wideBuffer]byte)(w.Buf))
		w.Buf, w.narrow, w.R, w.W = w.narrow, nil, 0, 0
	}
}

// open says whether an idle connection is neither closed nor has anything to read, which nobody asked for.
func (w *Conn) open() bool {
	alive := false
	err := w.Raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = err == unix.EAGAIN
	})
	return err == nil && alive
}

// Send writes a request and waits for the first bytes of the answer. Waiting is set up before writing, so that no
// read is tried that would only say that there is nothing yet.
func (w *Conn) Send(request []byte) error {
	w.R, w.W, w.out, w.took, w.err = 0, 0, request, false, nil
	return w.await()
}

// More waits for bytes after those in Buf[R:W], which move to the beginning if there is no room behind them.
func (w *Conn) More() error {
	if w.R == w.W {
		w.R, w.W = 0, 0
	} else if w.W == len(w.Buf) {
		w.W = copy(w.Buf, w.Buf[w.R:w.W])
		w.R = 0
	}
	if w.W == len(w.Buf) {
		if len(w.Buf) >= maxAnswerHead {
			return errors.New("the answer's head is too long")
		}
		w.Buf = append(make([]byte, 0, maxAnswerHead), w.Buf...)[:maxAnswerHead]
	}
	w.out, w.took, w.err = nil, false, nil
	return w.await()
}

// await runs step until there is something to read. A timeout is os.ErrDeadlineExceeded and may be followed by
// another await.
func (w *Conn) await() error {
	if now := time.Now(); w.deadline.Sub(now) < watchEvery/2 {
		w.deadline = now.Add(watchEvery)
		if err := w.SetReadDeadline(w.deadline); err != nil {
			return err
		}
	}
	err := w.Raw.Read(w.next)
	if err != nil {
		return err
	}
	if w.err == nil && !w.took && len(w.out) > 0 {
		// the endpoint takes less at once than there is: wait for it
		if err := w.SetWriteDeadline(time.Now().Add(takeTimeout)); err != nil {
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
func (w *Conn) step(fd uintptr) bool {
	if len(w.out) > 0 {
		n, err := rawio.Write(fd, w.out)
		w.out = w.out[n:]
		if err != 0 && err != unix.EAGAIN {
			w.err = err
			return true
		}
		return len(w.out) > 0
	}
	n, err := rawio.Read(fd, w.Buf[w.W:])
	switch {
	case err == unix.EAGAIN:
		return false
	case err != 0:
		w.err = err
	case n == 0:
		w.err = io.EOF
	}
	w.W += n
	w.took = true
	return true
}

// IsWatch says whether a wait was only interrupted, to see whether the client is still there.
func IsWatch(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Put writes all of b to the endpoint, without telling the scheduler as long as the endpoint takes it.
func (w *Conn) Put(b []byte) error {
	var errno syscall.Errno
	n := 0
	err := w.Raw.Control(func(fd uintptr) { n, errno = rawio.Write(fd, b) })
	switch {
	case err != nil:
		return err
	case errno != 0 && errno != unix.EAGAIN:
		return errno
	case n == len(b):
		return nil
	}
	if err := w.SetWriteDeadline(time.Now().Add(takeTimeout)); err != nil {
		return err
	}
	_, err = w.TCPConn.Write(b[n:])
	return err
}
