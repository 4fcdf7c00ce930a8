package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxConnections   = 16384 // of clients; more are closed at once, before they cost anything
	handshakeTimeout = 10 * time.Second
	bodyReadTimeout  = 60 * time.Second // for the next part of a request body
	writeTimeout     = 60 * time.Second // for the client to take what was written
)

// listen opens a TCP listener. what ("HTTP") and flag ("--ingress-http") are for the error, which says how to mend.
func listen(what, flag string, addr netip.AddrPort) (net.Listener, error) {
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false) // another kind of socket, which ss -t and socket hooks do not see, for no gain here
	l, err := cfg.Listen(context.Background(), "tcp", addr.String())
	if err == nil {
		return l, nil
	}
	remedy := "choose another address with " + flag
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = fmt.Sprintf("another process has the port (ss -ltnp 'sport = :%d' says which): stop it or choose another address with %s", addr.Port(), flag)
	case errors.Is(err, syscall.EACCES):
		remedy = "ports below 1024 need root or CAP_NET_BIND_SERVICE: grant it or choose another port with " + flag
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = "the machine does not have this address: choose another with " + flag
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("listening for %s on %s: %w; %s", what, addr, err, remedy)
}

// connSet holds the open connections of clients, those taken over by WebSocket included.
type connSet struct {
	mu    sync.Mutex
	conns map[*conn]struct{}
	empty chan struct{} // closed when the last one went after closeAll
	ended bool
}

func newConnSet() *connSet {
	return &connSet{conns: map[*conn]struct{}{}, empty: make(chan struct{})}
}

// add takes c in; false when there are too many or the end has come.
func (s *connSet) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.conns) >= maxConnections {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *connSet) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.checkEmpty()
}

// checkEmpty is called with mu held, at most once per connection after the end.
func (s *connSet) checkEmpty() {
	if s.ended && len(s.conns) == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// closeAll closes what is left and lets nothing new in.
func (s *connSet) closeAll() {
	s.mu.Lock()
	s.ended = true
	left := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		left = append(left, c)
	}
	s.checkEmpty()
	s.mu.Unlock()
	for _, c := range left {
		_ = c.Close() // it is going away: there is nothing to do about an error
	}
}

// conn is a client's TCP connection. Each write gets its own deadline: a client that takes nothing is cut off,
// however long the whole answer lasts.
type conn struct {
	*net.TCPConn
	set     *connSet
	once    sync.Once
	fixed   atomic.Bool  // somebody else set a write deadline
	renewed atomic.Int64 // when ours was set, unix nanoseconds
}

func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { c.set.remove(c) })
	return err
}

func (c *conn) Write(p []byte) (int, error) {
	now := time.Now()
	// Setting a deadline for every write would cost more than it is worth.
	if !c.fixed.Load() && now.UnixNano()-c.renewed.Load() > int64(writeTimeout/8) {
		c.renewed.Store(now.UnixNano())
		if err := c.TCPConn.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return 0, err
		}
	}
	return c.TCPConn.Write(p)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.fixed.Store(!t.IsZero())
	c.renewed.Store(0)
	return c.TCPConn.SetWriteDeadline(t)
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// trackingListener accepts into a connSet.
type trackingListener struct {
	net.Listener
	set *connSet
}

func (l *trackingListener) accept() (*conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tracked := &conn{TCPConn: c.(*net.TCPConn), set: l.set}
		if l.set.add(tracked) {
			return tracked, nil
		}
		_ = c.Close() // refused: nobody to tell
	}
}

// Accept makes it the net.Listener of plain HTTP.
func (l *trackingListener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	return &strictConn{Conn: c, bodyTimeout: bodyReadTimeout}, nil
}

// tlsListener does the handshakes itself, each in its own goroutine, because what follows depends on the protocol:
// HTTP/2 connections go on as *tls.Conn, HTTP/1.1 is read strictly.
type tlsListener struct {
	trackingListener
	config *tls.Config
	ready  chan net.Conn
	ctx    context.Context // ends at Close: the handshakes must end with the listener
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newTLSListener(l net.Listener, set *connSet, config *tls.Config) *tlsListener {
	t := &tlsListener{trackingListener: trackingListener{l, set}, config: config, ready: make(chan net.Conn)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// run accepts until the listener is closed and waits for its handshakes.
func (l *tlsListener) run() {
	defer l.wg.Wait()
	for {
		c, err := l.accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// out of file descriptors, most likely: some will be free again
			select {
			case <-time.After(50 * time.Millisecond):
			case <-l.ctx.Done():
				return
			}
		default:
			l.wg.Go(func() { l.handshake(c) })
		}
	}
}

func (l *tlsListener) handshake(c *conn) {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	secure := tls.Server(c, l.config)
	if err := secure.HandshakeContext(ctx); err != nil {
		quietLog.Printf("TLS handshake with %s: %v", c.RemoteAddr(), err)
		if header := (tls.RecordHeaderError{}); errors.As(err, &header) && header.Conn != nil {
			// A plain request on the TLS port deserves a word; it is closed whether or not that arrives.
			_, _ = c.Write([]byte("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nthis port speaks HTTPS\n"))
		}
		_ = c.Close()
		return
	}
	var ready net.Conn = secure
	if secure.ConnectionState().NegotiatedProtocol != "h2" {
		ready = &strictTLSConn{&strictConn{Conn: secure, bodyTimeout: bodyReadTimeout}, secure}
	}
	select {
	case l.ready <- ready:
	case <-l.ctx.Done():
		_ = ready.Close()
	}
}

// Accept returns connections whose handshake is done.
func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends Accept, run and the handshakes under way.
func (l *tlsListener) Close() error {
	l.cancel()
	return l.Listener.Close()
}
