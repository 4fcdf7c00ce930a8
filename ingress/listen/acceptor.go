package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// Acceptor accepts the connections of one listener and does what comes before the first request: limits, the PROXY
// header of a trusted peer, TLS. Each connection has its own goroutine, which serves it or hands it to net/http.
type Acceptor struct {
	net.Listener
	AcceptorConfig
	ctx    context.Context // ends with await
	cancel context.CancelFunc
	wg     sync.WaitGroup
	shake  sync.WaitGroup // handshakes
	idle   chan struct{}  // closed when no more connections come and no handshake is under way
	busy   chan struct{}  // slots for telling clients that there are too many
}

// AcceptorConfig is what a front needs.
type AcceptorConfig struct {
	TLS           *tls.Config    // nil: plain
	Trusted       []netip.Prefix // peers that may say who asked, by the PROXY protocol
	Conns         *ConnSet
	HeaderTimeout time.Duration // for the PROXY header
	Log           *log.Logger   // of clients that go away or that nobody understands
	// Serve serves a connection to its end, over TLS if secure is not nil.
	Serve func(c *Conn, secure *tls.Conn)
}

// NewAcceptor starts nothing; Run does.
func NewAcceptor(cfg AcceptorConfig, l net.Listener) *Acceptor {
	f := &Acceptor{Listener: l, AcceptorConfig: cfg, idle: make(chan struct{}), busy: make(chan struct{}, 64)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Run accepts until the listener is closed and waits for what it started.
func (f *Acceptor) Run() {
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
			f.take(NewConn(raw.(*net.TCPConn), f.Conns))
		}
	}
}

func trusts(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (f *Acceptor) take(c *Conn) {
	trusted := trusts(f.Trusted, c.Remote.Addr())
	if !f.Conns.add(c, trusted) {
		f.shed(c)
		return
	}
	f.shake.Add(1)
	f.wg.Go(func() { f.greet(c, trusted) })
}

// greet does what comes before the first request and then serves the connection.
func (f *Acceptor) greet(c *Conn, trusted bool) {
	defer func() {
		// as in net/http: a mistake of ours ends one connection, not the process
		if p := recover(); p != nil {
			klog.ErrorS(fmt.Errorf("%v", p), "Serving a connection failed; please report this", "client", c.Remote, "stack", string(debug.Stack()))
			_ = c.Close() // it is no use
		}
	}()
	secure, ok := f.prepare(c, trusted)
	f.shake.Done()
	if ok {
		f.Serve(c, secure)
	}
}

// prepare reads the PROXY header of a trusted peer and does the TLS handshake; false when the connection is no use.
func (f *Acceptor) prepare(c *Conn, trusted bool) (*tls.Conn, bool) {
	if trusted {
		if err := f.readProxyHeader(c); err != nil {
			f.Log.Printf("PROXY header of %s: %v", c.Remote, err)
			_ = c.Close() // it is no use
			return nil, false
		}
		if !f.Conns.rename(c, c.Remote.Addr()) {
			f.shed(c)
			return nil, false
		}
	}
	if f.TLS == nil {
		return nil, true
	}
	return f.handshake(c)
}

// tooMany is sent to a client that is one too many. A TLS client would not understand it.
const tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"

// shed closes a connection, with a word if there is somebody to say it.
func (f *Acceptor) shed(c *Conn) {
	select {
	case f.busy <- struct{}{}:
	default:
		_ = c.Close() // nobody to tell
		return
	}
	f.wg.Go(func() {
		defer func() { <-f.busy }()
		defer c.Close()
		if f.TLS == nil && c.SetDeadline(time.Now().Add(time.Second)) == nil {
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
func (f *Acceptor) handshake(c *Conn) (*tls.Conn, bool) {
	wire, err := newTLSConn(c)
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(handshakeTimeout))
	}
	if err != nil {
		_ = c.Close() // it is closed already
		return nil, false
	}
	secure := tls.Server(wire, f.TLS)
	if err := secure.Handshake(); err != nil {
		f.Log.Printf("TLS handshake with %s: %v", c.RemoteAddr(), err)
		if header := (tls.RecordHeaderError{}); errors.As(err, &header) && header.Conn != nil {
			// A plain request on the TLS port deserves a word; it is closed whether or not that arrives.
			_, _ = c.Write([]byte("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nthis port speaks HTTPS\n"))
		}
		_ = wire.Close() // with an alert that says why
		return nil, false
	}
	return secure, true // whoever serves it sets limits of its own
}

// Stop ends accepting. Connections that are here already are served.
func (f *Acceptor) Stop() {
	_ = f.Listener.Close() // it is going away: there is nothing to do about an error
}

// Await waits for the handshakes under way, until ctx ends.
func (f *Acceptor) Await(ctx context.Context) {
	select {
	case <-f.idle:
	case <-ctx.Done():
	}
	f.cancel()
}
