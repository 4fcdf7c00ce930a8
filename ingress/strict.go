package ingress

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// strictConn reads HTTP/1.1 from a client through a scanner, so that what two servers could understand differently
// never reaches the handler: the read fails before the head of such a request is complete, and net/http answers 400
// and closes. It also bounds the wait for each part of a request body, which net/http has no setting for.
type strictConn struct {
	net.Conn
	scan    scanner
	refused error // the client's mistake, for good
	raw     atomic.Bool

	bodyTimeout time.Duration
	mu          sync.Mutex
	wanted      time.Time // the read deadline that net/http asked for
	ours        bool      // another one is in force
}

// strictTLSConn is a strictConn over TLS; net/http asks it for the state that becomes Request.TLS.
type strictTLSConn struct {
	*strictConn
	tls *tls.Conn
}

func (c *strictTLSConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

func (c *strictConn) Read(p []byte) (int, error) {
	if c.raw.Load() {
		return c.Conn.Read(p)
	}
	if c.refused != nil {
		return 0, c.refused
	}
	if err := c.arm(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	good, bad := c.scan.feed(p[:n])
	if bad == nil {
		return n, err
	}
	c.refused = bad
	if good > 0 {
		return good, nil
	}
	return 0, bad
}

// passRaw ends the checks: the connection was taken over by another protocol.
func (c *strictConn) passRaw() { c.raw.Store(true) }

// CloseWrite lets net/http end a connection without losing its last answer.
func (c *strictConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

func (c *strictConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *strictConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted, c.ours = t, false
	return c.Conn.SetReadDeadline(t)
}

// arm sets our own read deadline within a body and takes it back after it. The lock keeps a deadline that net/http
// sets meanwhile, to end a read, in force.
func (c *strictConn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.scan.inBody() {
		if !c.ours {
			return nil
		}
		c.ours = false
		return c.Conn.SetReadDeadline(c.wanted)
	}
	limit := time.Now().Add(c.bodyTimeout)
	if !c.wanted.IsZero() && c.wanted.Before(limit) {
		return nil
	}
	c.ours = true
	return c.Conn.SetReadDeadline(limit)
}
