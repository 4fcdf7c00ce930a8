package serve

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"svcplane/ingress/http1"
	"svcplane/ingress/listen"
	"svcplane/ingress/pace"
)

// strictConn reads HTTP/1.1 from a client through a scanner, so that what two servers could understand differently
// never reaches the handler: the read fails before the head of such a request is complete, and net/http answers 400
// and closes. It also ends a request body that comes too slowly, which net/http has no setting for.
type strictConn struct {
	net.Conn
	under   *listen.Conn // Conn, or what its TLS is over
	at      *listener    // that it came by
	scan    http1.Scanner
	refused error // the client's mistake, for good
	raw     atomic.Bool

	bodies *pace.Limit
	in     listen.Inflow
	inBody bool // in measures one

	mu     sync.Mutex
	wanted time.Time // the read deadline that net/http asked for
	ours   bool      // another one is in force
}

// strictTLSConn is a strictConn over TLS; net/http asks it for the state that becomes Request.TLS.
type strictTLSConn struct {
	*strictConn
	tls *tls.Conn
}

func (c *strictConn) cameBy() *listener { return c.at }

func (c *strictTLSConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

func (c *strictConn) Read(p []byte) (int, error) {
	if c.raw.Load() {
		return c.Conn.Read(p)
	}
	if c.refused != nil {
		return 0, c.refused
	}
	n, err := c.read(p)
	good, bad := c.scan.Feed(p[:n])
	if bad == nil {
		return n, err
	}
	c.refused = bad
	if good > 0 {
		return good, nil
	}
	return 0, bad
}

// read reads what comes, within a body as long as it comes fast enough.
func (c *strictConn) read(p []byte) (n int, err error) {
	for {
		if err := c.arm(); err != nil {
			return 0, err
		}
		n, err = c.Conn.Read(p)
		if !c.inBody {
			return n, err
		}
		if c.in.Came(); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !c.isOurs() {
			return n, err
		}
		if c.in.Meter.Slow() {
			return 0, pace.ErrSlow
		}
	}
}

// passRaw ends the checks: the connection was taken over by another protocol.
func (c *strictConn) passRaw() {
	c.raw.Store(true)
	c.under.StopPacing()
}

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

// isOurs says whether the read deadline in force is ours.
func (c *strictConn) isOurs() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ours
}

// arm sets our own read deadline within a body and takes it back after it. The lock keeps a deadline that net/http
// sets meanwhile, to end a read, in force.
func (c *strictConn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.scan.InBody() {
		c.inBody = false
		if !c.ours {
			return nil
		}
		c.ours = false
		return c.Conn.SetReadDeadline(c.wanted)
	}
	if !c.inBody {
		c.inBody = true
		c.in.Start(c.under, c.bodies, c.scan.Came)
	}
	limit := c.in.Meter.Wait(time.Now())
	if !c.wanted.IsZero() && c.wanted.Before(limit) {
		return nil
	}
	c.ours = true
	return c.Conn.SetReadDeadline(limit)
}
