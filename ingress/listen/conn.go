package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"svcplane/ingress/pace"
)

const (
	MaxConnections   = 16384 // of clients; more are closed at once, before they cost anything
	handshakeTimeout = 10 * time.Second
	// BodyReadTimeout and WriteTimeout are how long a client may do nothing within a body, however fast it was before, and
	// SlowGrace how long it may be slower than the minimum rate at first.
	BodyReadTimeout = 60 * time.Second
	WriteTimeout    = 60 * time.Second
	SlowGrace       = 5 * time.Second

	clientPrefixIPv6 = 64 // what one subscriber has
)

// Listen opens a TCP listener. what ("HTTP") and flag ("--ingress-http") are for the error, which says how to mend.
func Listen(what, flag string, addr netip.AddrPort) (net.Listener, error) {
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

// ConnSet holds the open connections of clients, those taken over by WebSocket included, and shares them out: one
// client may have perClient of them and, the fuller it gets, the less, so that one cannot keep the others out.
type ConnSet struct {
	max, perClient int
	answers        *pace.Limit // how slow a client may take what is written

	mu      sync.Mutex
	conns   map[*Conn]struct{}
	clients map[netip.Addr]int
	Empty   chan struct{} // closed when the last one went after CloseAll
	ended   bool
	Refused atomic.Uint64 // for being too many

	Accepted atomic.Uint64
}

// NewConnSet makes a set of at most most connections, perClient of one address (half of most if zero). answers is how slow a
// client may take what is written.
func NewConnSet(most, perClient int, answers *pace.Limit) *ConnSet {
	if perClient == 0 {
		perClient = most / 2
	}
	return &ConnSet{max: most, perClient: perClient, answers: answers, conns: map[*Conn]struct{}{}, clients: map[netip.Addr]int{}, Empty: make(chan struct{})}
}

// add takes c in; false when there are too many or the end has come. A trusted proxy speaks for many clients, so
// the limit of one is not for it.
func (s *ConnSet) add(c *Conn, trusted bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.conns) >= s.max || !trusted && s.clients[c.client] >= s.limit() {
		s.Refused.Add(1)
		return false
	}
	s.conns[c] = struct{}{}
	s.clients[c.client]++
	s.Accepted.Add(1)
	return true
}

// limit is what one client may have now; called with mu held.
func (s *ConnSet) limit() int { return min(s.perClient, max(1, (s.max-len(s.conns))*2)) }

// rename counts c for another client, the one that a proxy named; false when that one has too many.
func (s *ConnSet) rename(c *Conn, client netip.Addr) bool {
	client = Subscriber(client.WithZone(""))
	s.mu.Lock()
	defer s.mu.Unlock()
	if client == c.client {
		return true
	}
	if s.clients[client] >= s.limit() {
		s.Refused.Add(1)
		return false
	}
	if s.clients[c.client]--; s.clients[c.client] == 0 {
		delete(s.clients, c.client)
	}
	c.client = client
	s.clients[client]++
	return true
}

// remove lets c go; it does nothing for one that was not taken in.
func (s *ConnSet) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	if s.clients[c.client]--; s.clients[c.client] == 0 {
		delete(s.clients, c.client)
	}
	s.checkEmpty()
}

// Count is the number of open connections.
func (s *ConnSet) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// checkEmpty is called with mu held, at most once per connection after the end.
func (s *ConnSet) checkEmpty() {
	if s.ended && len(s.conns) == 0 {
		select {
		case <-s.Empty:
		default:
			close(s.Empty)
		}
	}
}

// CloseAll closes what is left and lets nothing new in.
func (s *ConnSet) CloseAll() {
	s.mu.Lock()
	s.ended = true
	left := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		left = append(left, c)
	}
	s.checkEmpty()
	s.mu.Unlock()
	for _, c := range left {
		go func() { _ = c.Close() }() // it waits for whoever uses the connection, and empty tells when all have gone
	}
}

// Conn is a client's TCP connection. A client that takes what is written too slowly is cut off (outflow), however long the
// whole answer lasts.
type Conn struct {
	*net.TCPConn
	set    *ConnSet
	client netip.Addr     // whom the connection counts for
	Remote netip.AddrPort // who the client is, as far as the connection tells: the peer, or whom PROXY names
	Prefix []byte         // read already, to be read again
	once   sync.Once
	fixed  atomic.Bool  // somebody else set a write deadline
	Got    atomic.Int64 // octets that Read has read
	out    outflow
}

// NewConn wraps a connection that was accepted; the set takes it in with add.
func NewConn(c *net.TCPConn, set *ConnSet) *Conn {
	remote := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	client := &Conn{TCPConn: c, set: set, Remote: remote, client: Subscriber(remote.Addr().WithZone(""))}
	client.out.meter.Start(set.answers)
	return client
}

// RemoteAddr is Remote.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.Remote) }

// Read gives Prefix first, and counts what it reads.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.Prefix) > 0 {
		n := copy(p, c.Prefix)
		c.Prefix = c.Prefix[n:]
		return n, nil
	}
	n, err := c.TCPConn.Read(p)
	c.Got.Add(int64(n))
	return n, err
}

// ReadFrom and WriteTo would go past Read and Write.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }

// WriteTo: see ReadFrom.
func (c *Conn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }

// Close also gives back the place in the set.
func (c *Conn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { c.set.remove(c) })
	return err
}

// SetWriteDeadline ends the measuring of how fast the client takes what is written, until it is set to zero.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.fixed.Store(!t.IsZero())
	c.out.until.Store(0)
	return c.TCPConn.SetWriteDeadline(t)
}

// SetDeadline sets both; see SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Subscriber is the address that a client counts as: IPv6 clients choose freely within their network.
func Subscriber(a netip.Addr) netip.Addr {
	if !a.Is6() || a.Is4In6() {
		return a.Unmap()
	}
	p, err := a.Prefix(clientPrefixIPv6)
	if err != nil {
		return a
	}
	return p.Addr()
}
