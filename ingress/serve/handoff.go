package serve

import (
	"crypto/tls"
	"net"
	"sync"

	"svcplane/ingress/listen"
)

// handoff is the net.Listener that net/http gets its connections from.
type handoff struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// give waits until net/http takes c; it closes c when there is no more serving.
func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close() // the end has come
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handoff) Addr() net.Addr { return h.addr }

// handOver lets net/http serve a connection.
func (s *Server) handOver(c net.Conn) { s.toHTTP.give(c) }

// strict is c, or TLS over it, as net/http gets it for HTTP/1.1: what was read already comes first.
func (s *Server) strict(l *listener, c *listen.Conn, secure *tls.Conn, read []byte) net.Conn {
	if secure == nil {
		c.Prefix = append(read, c.Prefix...)
		return &strictConn{Conn: c, under: c, at: l, bodies: &s.bodies}
	}
	secure.NetConn().(*listen.TLSConn).Release()
	var under net.Conn = secure
	if len(read) > 0 {
		under = &replayConn{secure, read}
	}
	return &strictTLSConn{&strictConn{Conn: under, under: c, at: l, bodies: &s.bodies}, secure}
}

// replayConn gives back what was read before.
type replayConn struct {
	*tls.Conn
	read []byte
}

func (r *replayConn) Read(p []byte) (int, error) {
	if len(r.read) > 0 {
		n := copy(p, r.read)
		r.read = r.read[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}
