package serve

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/ingress/listen"
	"svcplane/ingress/rawio"
	"svcplane/ingress/upstream"
)

// tunnel is a WebSocket (RFC 6455) after its handshake: bytes go both ways until one side ends. It keeps no buffer while
// nobody talks, and outlives the request, its route and its endpoint's readiness.
type tunnel struct {
	c      *listen.Conn
	secure *tls.Conn // nil: plain
	raw    syscall.RawConn
	w      *upstream.Conn
	entry  *logEntry // to be written at the end; nil: none
	began  time.Time
}

const (
	tunnelBuffer = 16 << 10
	// tunnelLinger is how long one side may go on when the other has ended.
	tunnelLinger = 10 * time.Second
)

var tunnelBuffers = sync.Pool{New: func() any { return new([tunnelBuffer]byte) }}

// switchOver answers the handshake and readies the tunnel.
func (f *http1Conn) switchOver(w *upstream.Conn, c *call) error {
	a := &f.answer
	c.finishHeader(a)
	f.out = a.AppendTo(f.out[:0], false)
	f.out = append(f.out[:len(f.out)-len("\r\n")], "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
	f.out = append(f.out, w.Buf[w.R+a.Size:w.W]...)
	if err := errors.Join(f.write(f.out), f.flush()); err != nil {
		return err
	}
	f.c.StopPacing()
	f.tunnel = &tunnel{c: f.c, secure: f.secure, raw: f.raw, w: w, began: c.began}
	if f.s.log != nil && f.s.log.wants() {
		e := entryOfHead(c, &f.head, "HTTP/1.1", a.Code)
		e.Path, e.Query = strings.Clone(e.Path), strings.Clone(e.Query) // the buffer they lie in is given back
		f.tunnel.entry = &e
	}
	return nil
}

// run serves until both sides have ended. early is what the client said behind its handshake.
func (t *tunnel) run(s *Server, early []byte) {
	t.w.Buf = nil
	if t.secure != nil {
		t.secure.NetConn().(*listen.TLSConn).Release()
	}
	err := errors.Join(t.c.SetReadDeadline(time.Time{}), t.w.SetDeadline(time.Time{}))
	if len(early) > 0 && err == nil {
		err = t.w.Put(early)
	}
	var sent int64
	if err == nil {
		var up sync.WaitGroup
		up.Go(func() { t.up() })
		sent = t.down()
		up.Wait()
	}
	_ = t.w.Close() // both have ended
	if t.secure != nil {
		_ = t.secure.Close() // the same
	}
	_ = t.c.Close() // the same
	if t.entry != nil {
		t.entry.Bytes, t.entry.Seconds = sent, time.Since(t.began).Seconds()
		s.log.write(*t.entry)
	}
}

// up takes from the client to the endpoint.
func (t *tunnel) up() {
	var err error
	if t.secure != nil {
		err = pumpTLS(t.secure, t.w.Put)
	} else {
		_, err = pump(t.raw, t.w.Put)
	}
	t.ended(err, t.w.CloseWrite)
}

// down takes from the endpoint to the client.
func (t *tunnel) down() (sent int64) {
	to, end := func(b []byte) error { return t.c.Send(t.raw, b) }, t.c.CloseWrite
	if t.secure != nil {
		to = func(b []byte) error {
			_, err := t.secure.Write(b)
			return err
		}
		end = t.secure.CloseWrite
	}
	sent, err := pump(t.w.Raw, to)
	t.ended(err, end)
	return sent
}

// ended passes on that one direction has: in order if err is nil, then the other may go on for a moment.
func (t *tunnel) ended(err error, closeWrite func() error) {
	until := time.Now().Add(tunnelLinger)
	if err != nil || closeWrite() != nil {
		until = time.Unix(1, 0)
	}
	_ = t.c.SetReadDeadline(until) // an error means that it is closed already
	_ = t.w.SetDeadline(until)     // the same
	if err != nil {
		_ = t.c.SetWriteDeadline(until) // the same
	}
}

// pump takes what comes from one socket to another, within one wait for it, until it ends: nil, or an error.
func pump(from syscall.RawConn, to func([]byte) error) (n int64, err error) {
	var failed error
	err = from.Read(func(fd uintptr) bool {
		buf := tunnelBuffers.Get().(*[tunnelBuffer]byte)
		defer tunnelBuffers.Put(buf)
		for {
			got, errno := rawio.Read(fd, buf[:])
			switch {
			case errno == unix.EAGAIN:
				return false
			case errno != 0:
				failed = errno
				return true
			case got == 0:
				return true
			}
			n += int64(got)
			// The next read tells whether that was all, or the end: both may have come as one event of the poller.
			if failed = to(buf[:got]); failed != nil {
				return true
			}
		}
	})
	return n, errors.Join(err, failed)
}

func pumpTLS(from *tls.Conn, to func([]byte) error) error {
	buf := make([]byte, 4<<10) // it has to be there before anything comes
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if err := to(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
