package serve

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/ingress/http1"
	"svcplane/ingress/listen"
	"svcplane/ingress/rawio"
)

// http1Conn serves plain HTTP/1.1 requests on one connection: one goroutine reads the request, writes it to an
// endpoint, reads the answer and writes it to the client, without handing anything to another and without building
// a map of headers. The first request that is not plain takes the whole connection to net/http.
type http1Conn struct {
	s      *Server
	l      *listener
	c      *listen.Conn
	secure *tls.Conn       // nil: plain
	wire   *listen.TLSConn // under secure
	sni    string          // what the client called us; empty: nothing
	raw    syscall.RawConn
	who    http1.Forwarded

	buf      []byte // of the client; what was read lies in Buf[R:W]
	r, w     int
	head     http1.RequestHead
	sender             // its out is also what is written to the client
	deadline time.Time // for the client's next bytes
	started  bool      // a part of a head is there
	drained  bool      // the last read took all there was
	looked   bool      // after the end of the grace
	end      outcome
	tunnel   *tunnel // once it has switched
}

// outcome is what becomes of the connection after a request.
type outcome int

const (
	goOn      outcome = iota // the next request
	finished                 // close it
	toHandler                // net/http serves what is in the buffer, and all that follows
	wantBody                 // the rest of the request's body must be read first
	switched                 // it is a tunnel now
)

const connBuffer = 8 << 10

// http1Conns keeps the state of connections that have ended.
var http1Conns = sync.Pool{New: func() any {
	return &http1Conn{buf: make([]byte, connBuffer), sender: sender{out: make([]byte, 0, connBuffer)}}
}}

// serveConn serves a client's connection, over TLS if secure is not nil.
func (s *Server) serveConn(l *listener, c *listen.Conn, secure *tls.Conn) {
	f := http1Conns.Get().(*http1Conn)
	f.s, f.l, f.c, f.secure = s, l, c, secure
	f.r, f.w, f.started, f.drained, f.looked, f.deadline = 0, 0, false, false, false, time.Time{}
	f.who = identify(c, secure != nil)
	if secure != nil {
		f.wire, f.sni = secure.NetConn().(*listen.TLSConn), secure.ConnectionState().ServerName
	}
	s.own.add(f)
	end := f.serve()
	s.own.remove(f)
	rest, t := append([]byte(nil), f.buf[f.r:f.w]...), f.tunnel
	if len(f.buf) > connBuffer {
		f.buf = make([]byte, connBuffer)
	}
	f.s, f.l, f.c, f.secure, f.wire, f.sni, f.raw, f.head, f.answer, f.judged, f.tunnel = nil, nil, nil, nil, nil, "", nil, http1.RequestHead{}, http1.ResponseHead{}, judged{}, nil
	http1Conns.Put(f)
	if end == switched {
		t.run(s, rest)
		return
	}
	if end == toHandler && c.SetReadDeadline(time.Time{}) == nil {
		if startsHTTP2(rest) {
			s.serveHTTP2(l, c, secure, rest)
		} else {
			s.handOver(s.strict(l, c, secure, rest))
		}
		return
	}
	if secure != nil {
		_ = secure.Close() // the client may be gone
		return
	}
	_ = c.Close()
}

// identify says who a connection's requests come from, as far as the connection tells.
func identify(c *listen.Conn, secure bool) http1.Forwarded {
	client := c.Remote.Addr().WithZone("")
	who := http1.Forwarded{Client: client, Peer: client.String(), Node: nodeText(client), Proto: "http"}
	if secure {
		who.Proto = "https"
	}
	if local, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
		who.Port = portText(local.Port())
	}
	return who
}

// drain: see drainer. An error means that it is closed already.
func (f *http1Conn) drain(until time.Time) { _ = f.c.SetReadDeadline(until) }

func (f *http1Conn) serve() outcome {
	if f.secure == nil {
		copied := copy(f.buf, f.c.Prefix)
		if copied < len(f.c.Prefix) {
			return toHandler
		}
		f.c.Prefix, f.w = nil, copied
		raw, err := f.c.SyscallConn()
		if err != nil {
			return finished
		}
		f.raw = raw
		return f.servePlain()
	}
	return f.serveTLS()
}

// servePlain keeps the whole exchange of requests and answers within one RawConn.Read: the poller then remembers
// whatever arrives meanwhile, and no read is needed to find out that nothing has.
func (f *http1Conn) servePlain() outcome {
	step := f.step
	for {
		f.end, f.drained = goOn, false
		if err := f.arm(); err != nil {
			return finished
		}
		err := f.raw.Read(step)
		switch {
		case err != nil && f.lookAgain(err):
		case err != nil:
			return f.timedOut(err)
		case f.end == wantBody:
			// waiting for bytes needs a Read of its own
			began := time.Now()
			if err := f.readBody(); err != nil {
				return f.slowBody(began, err)
			}
			if f.end = f.request(); f.end != goOn {
				return f.end
			}
		default:
			return f.end
		}
	}
}

// step serves what is there; true when something else than more bytes is needed.
func (f *http1Conn) step(fd uintptr) bool {
	for {
		if f.w > f.r || f.started {
			switch end := f.next(); end {
			case goOn:
				continue
			case needMore:
			default:
				f.end = end
				return true
			}
		}
		if f.drained {
			f.drained = false
			if f.arm() != nil {
				f.end = finished
				return true
			}
			return false
		}
		if f.w == len(f.buf) && !f.makeSpace() {
			f.end = toHandler
			return true
		}
		n, errno := rawio.Read(fd, f.buf[f.w:])
		switch {
		case errno == unix.EAGAIN:
			f.drained = true
			continue
		case errno != 0 || n == 0:
			f.end = finished
			return true
		}
		f.drained = n < len(f.buf)-f.w
		f.w += n
	}
}

// needMore says that a head is not complete.
const needMore outcome = -1

// next serves the request at the beginning of the buffer.
func (f *http1Conn) next() outcome {
	if f.w == f.r {
		f.started = false
		return needMore
	}
	switch f.head.Parse(f.buf[f.r:f.w]) {
	case http1.HeadIncomplete:
		if !f.started {
			f.started, f.deadline = true, time.Time{}
		}
		return needMore
	case http1.HeadOther:
		return toHandler
	}
	f.started = false
	if f.w-f.r < f.head.Size+f.head.Length {
		return wantBody
	}
	return f.request()
}

// makeSpace makes place in the buffer for more of a head; false when the head is longer than the buffer.
func (f *http1Conn) makeSpace() bool {
	if f.r == 0 {
		return false
	}
	f.w = copy(f.buf, f.buf[f.r:f.w])
	f.r = 0
	return true
}

// serveTLS is the same over TLS, where what the socket says tells nothing about requests.
func (f *http1Conn) serveTLS() outcome {
	for {
		end := f.next()
		switch end {
		case goOn:
			continue
		case wantBody:
			began := time.Now()
			if err := f.readBody(); err != nil {
				return f.slowBody(began, err)
			}
			if end := f.request(); end != goOn {
				return end
			}
			continue
		case needMore:
		default:
			return end
		}
		if f.w == len(f.buf) && !f.makeSpace() {
			return toHandler
		}
		if f.r == f.w {
			f.r, f.w = 0, 0
		}
		if err := f.arm(); err != nil {
			return finished
		}
		n, err := f.secure.Read(f.buf[f.w:])
		f.w += n
		if err != nil && !f.lookAgain(err) {
			return f.timedOut(err)
		}
	}
}

// arm sets the limit for the client's next bytes: a short one within a head, a long one before it, which is set
// anew only when a part of it is over, because that costs more than a small request.
func (f *http1Conn) arm() error {
	limit := clientIdleTimeout
	if f.started {
		limit = headerTimeout
		if !f.deadline.IsZero() {
			return nil
		}
	}
	if f.s.own.ending() {
		return f.c.SetReadDeadline(f.last())
	}
	now := time.Now()
	if left := f.deadline.Sub(now); left > limit*3/4 && left <= limit {
		return nil
	}
	f.deadline = now.Add(limit)
	if err := f.c.SetReadDeadline(f.deadline); err != nil {
		return err
	}
	if f.s.own.ending() { // it began between the two: its deadline is gone
		return f.c.SetReadDeadline(f.last())
	}
	return nil
}

// last is when the last request may come.
func (f *http1Conn) last() time.Time {
	if f.looked {
		return f.deadline
	}
	return f.s.own.until
}

// lookAgain says whether a connection on which nothing came until the end of the grace is to be read once more. On a
// busy machine the time may have passed with the request there and nobody to read it, and closing would reset it.
func (f *http1Conn) lookAgain(err error) bool {
	if f.looked || !errors.Is(err, os.ErrDeadlineExceeded) || !f.s.own.ending() {
		return false
	}
	f.looked, f.deadline = true, time.Now().Add(lastLook)
	return true
}

// timedOut ends a connection on which nothing more came. One that stopped within a head hears why.
func (f *http1Conn) timedOut(err error) outcome {
	if f.started && errors.Is(err, os.ErrDeadlineExceeded) && !f.s.own.ending() {
		f.say("HTTP/1.1 408 Request Timeout", "the request did not come in time")
	}
	return finished
}

// say answers for ourselves, and last on this connection.
func (f *http1Conn) say(status, why string) {
	f.out = append(f.out[:0], status...)
	f.out = append(f.out, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"...)
	if strings.HasPrefix(status, "HTTP/1.1 503") {
		f.out = append(f.out, "Retry-After: 1\r\n"...)
	}
	f.out = append(f.out, "\r\n"...)
	f.out = append(f.out, why...)
	f.out = append(f.out, '\n')
	_ = f.write(f.out) // the client may be gone
}

// write sends all of b to the client. Over TLS it may wait for what follows it.
func (f *http1Conn) write(b []byte) error {
	if f.secure != nil {
		_, err := f.secure.Write(b)
		return err
	}
	return f.c.Send(f.raw, b)
}

// flush sends what waits.
func (f *http1Conn) flush() error {
	if f.secure != nil {
		return f.wire.Flush()
	}
	return nil
}

// gone says whether the client has closed the connection while it waits.
func (f *http1Conn) gone() bool {
	raw, err := f.c.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		closed = err == nil && n == 0 || err != nil && err != unix.EAGAIN
	})
	return err != nil || closed
}
