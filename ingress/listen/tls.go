package listen

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"svcplane/ingress/pace"
	"svcplane/ingress/rawio"
)

// TLSConn is a client's connection as crypto/tls uses it, which writes each record by itself: the session ticket,
// the parts of an answer, the farewell. While it holds, records wait for each other, until a read would wait for the
// client, until there are many, or until the end.
type TLSConn struct {
	*Conn
	raw syscall.RawConn

	mu   sync.Mutex // crypto/tls may write from within a read
	hold bool
	held []byte // nil or from heldRecords
}

// heldRecords keeps what connections need only while they write.
var heldRecords = sync.Pool{New: func() any { return new([heldMost]byte) }}

const heldMost = 20 << 10 // one record and some small ones: a larger one is dear when the collector has emptied the pool

func newTLSConn(c *Conn) (*TLSConn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &TLSConn{Conn: c, raw: raw, hold: true}, nil
}

// Read sends what is held before it waits for the client.
func (w *TLSConn) Read(p []byte) (n int, err error) {
	if len(w.Prefix) > 0 {
		return w.Conn.Read(p)
	}
	var errno syscall.Errno
	var failed error
	err = w.raw.Read(func(fd uintptr) bool {
		if n, errno = rawio.Read(fd, p); errno != unix.EAGAIN {
			return true
		}
		failed = w.Flush()
		return failed != nil
	})
	switch {
	case err != nil:
		return 0, err
	case failed != nil:
		return 0, failed
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	w.Got.Add(int64(n))
	return n, nil
}

// Write may hold a record back until Flush, Read or Close.
func (w *TLSConn) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held)+len(p) > heldMost {
		if err := w.flushLocked(); err != nil {
			return 0, err
		}
	}
	if !w.hold && len(w.held) == 0 || len(p) > heldMost {
		return len(p), w.Conn.Send(w.raw, p)
	}
	if w.held == nil {
		w.held = heldRecords.Get().(*[heldMost]byte)[:0]
	}
	w.held = append(w.held, p...)
	if !w.hold {
		return len(p), w.flushLocked()
	}
	return len(p), nil
}

// Flush sends what waits.
func (w *TLSConn) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushLocked()
}

func (w *TLSConn) flushLocked() error {
	if len(w.held) == 0 {
		return nil
	}
	held := w.held
	w.held = nil
	err := w.Conn.Send(w.raw, held)
	heldRecords.Put((*[heldMost]byte)(held[:heldMost]))
	return err
}

// Release ends holding: whoever serves the connection from now on writes what belongs together at once.
func (w *TLSConn) Release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = false
}

// Close sends what waits first, unless a write is stuck; that it cannot is no news at the end.
func (w *TLSConn) Close() error {
	if w.mu.TryLock() {
		_ = w.flushLocked()
		w.mu.Unlock()
	}
	return w.Conn.Close()
}

// CloseWrite is for net/http, which wants it of what it serves.
func (w *TLSConn) CloseWrite() error {
	if err := w.Flush(); err != nil {
		return err
	}
	return w.Conn.CloseWrite()
}

// Send writes all of b without telling the scheduler, as long as the client takes it.
func (c *Conn) Send(raw syscall.RawConn, b []byte) error {
	var errno syscall.Errno
	n := 0
	if c.out.cut {
		return pace.ErrSlow
	}
	err := raw.Control(func(fd uintptr) { n, errno = rawio.Write(fd, b) })
	c.out.sent += int64(n)
	switch {
	case err != nil:
		return err
	case errno != 0 && errno != unix.EAGAIN:
		return errno
	case n < len(b):
		_, err = c.Write(b[n:])
	}
	return err
}
