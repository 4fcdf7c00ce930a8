package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"net"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// front accepts the connections of one listener and does what comes before the first request: limits, the PROXY
// header of a trusted peer, TLS. Each connection has its own goroutine, which serves it or hands it to net/http.
type front struct {
	net.Listener
	server *server
	config *tls.Config     // nil: plain
	ctx    context.Context // ends with settle
	cancel context.CancelFunc
	wg     sync.WaitGroup
	shake  sync.WaitGroup // handshakes
	idle   chan struct{}  // closed when no more connections come and no handshake is under way
	busy   chan struct{}  // slots for telling clients that there are too many
}

func newFront(l net.Listener, s *server, config *tls.Config) *front {
	f := &front{Listener: l, server: s, config: config, idle: make(chan struct{}), busy: make(chan struct{}, 64)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// run accepts until the listener is closed and waits for what it started.
func (f *front) run() {
	defer f.wg.Wait()
	for {
		raw, err := f.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			f.shake.Wait()
			close(f.idle)
			return
		case err != nil:
			// out of file descriptors, most likely: some will be free again
			select {
			case <-time.After(50 * time.Millisecond):
			case <-f.ctx.Done():
				return
			}
		default:
			f.take(newConn(raw.(*net.TCPConn), f.server.conns))
		}
	}
}

func (f *front) take(c *conn) {
	trusted := within(f.server.trusted, c.remote.Addr())
	if !f.server.conns.add(c, trusted) {
		f.shed(c)
		return
	}
	f.shake.Add(1)
	f.wg.Go(func() { f.greet(c, trusted) })
}

// greet does what comes before the first request and then serves the connection.
func (f *front) greet(c *conn, trusted bool) {
	defer func() {
		// as in net/http: a mistake of ours ends one connection, not the process
		if p := recover(); p != nil {
			klog.ErrorS(fmt.Errorf("%v", p), "Serving a connection failed; please report this", "client", c.remote, "stack", string(debug.Stack()))
			_ = c.Close() // it is no use
		}
	}()
	secure, ok := f.prepare(c, trusted)
	f.shake.Done()
	switch {
	case !ok:
	case secure != nil && secure.ConnectionState().NegotiatedProtocol == "h2":
		f.server.serveHTTP2(c, secure, nil)
	default:
		f.server.serveConn(c, secure)
	}
}

// prepare reads the PROXY header of a trusted peer and does the TLS handshake; false when the connection is no use.
func (f *front) prepare(c *conn, trusted bool) (*tls.Conn, bool) {
	if trusted {
		if err := f.readProxyHeader(c); err != nil {
			quietLog.Printf("PROXY header of %s: %v", c.remote, err)
			_ = c.Close() // it is no use
			return nil, false
		}
		if !f.server.conns.rename(c, c.remote.Addr()) {
			f.shed(c)
			return nil, false
		}
	}
	if f.config == nil {
		return nil, true
	}
	return f.handshake(c)
}

// tooMany is sent to a client that is one too many. A TLS client would not understand it.
const tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"

// shed closes a connection, with a word if there is somebody to say it.
func (f *front) shed(c *conn) {
	select {
	case f.busy <- struct{}{}:
	default:
		_ = c.Close() // nobody to tell
		return
	}
	f.wg.Go(func() {
		defer func() { <-f.busy }()
		defer c.Close()
		if f.config == nil && c.SetDeadline(time.Now().Add(time.Second)) == nil {
			var request [4096]byte
			// Closing on unread bytes would reset the connection and take the answer away.
			_, _ = c.TCPConn.Read(request[:])
			_, _ = c.TCPConn.Write([]byte(tooMany))
			_ = c.CloseWrite()
			_, _ = c.TCPConn.Read(request[:])
		}
	})
}

// handshake has a deadline for its limit: a context would cost a goroutine. At the end, closing ends it.
func (f *front) handshake(c *conn) (*tls.Conn, bool) {
	wire, err := newTLSWire(c)
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(handshakeTimeout))
	}
	if err != nil {
		_ = c.Close() // it is closed already
		return nil, false
	}
	secure := tls.Server(wire, f.config)
	if err := secure.Handshake(); err != nil {
		quietLog.Printf("TLS handshake with %s: %v", c.RemoteAddr(), err)
		if header := (tls.RecordHeaderError{}); errors.As(err, &header) && header.Conn != nil {
			// A plain request on the TLS port deserves a word; it is closed whether or not that arrives.
			_, _ = c.Write([]byte("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nthis port speaks HTTPS\n"))
		}
		_ = wire.Close() // with an alert that says why
		return nil, false
	}
	return secure, true // whoever serves it sets limits of its own
}

// stop ends accepting. Connections that are here already are served.
func (f *front) stop() {
	_ = f.Listener.Close() // it is going away: there is nothing to do about an error
}

// settle waits for the handshakes under way, until ctx ends.
func (f *front) settle(ctx context.Context) {
	select {
	case <-f.idle:
	case <-ctx.Done():
	}
	f.cancel()
}

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
func (s *server) handOver(c net.Conn) { s.toHTTP.give(c) }

// strict is c, or TLS over it, as net/http gets it for HTTP/1.1: what was read already comes first.
func (s *server) strict(c *conn, secure *tls.Conn, read []byte) net.Conn {
	if secure == nil {
		c.prefix = append(read, c.prefix...)
		return &strictConn{Conn: c, under: c, bodies: &s.bodies}
	}
	secure.NetConn().(*tlsWire).letGo()
	var under net.Conn = secure
	if len(read) > 0 {
		under = &replayConn{secure, read}
	}
	return &strictTLSConn{&strictConn{Conn: under, under: c, bodies: &s.bodies}, secure}
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
