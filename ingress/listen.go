package ingress

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
	maxConnections   = 16384 // of clients; more are closed at once, before they cost anything
	handshakeTimeout = 10 * time.Second
	// bodyReadTimeout and writeTimeout are how long a client may do nothing within a body, however fast it was before, and
	// slowGrace how long it may be slower than the minimum rate at first.
	bodyReadTimeout = 60 * time.Second
	writeTimeout    = 60 * time.Second
	slowGrace       = 5 * time.Second
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

// connSet holds the open connections of clients, those taken over by WebSocket included, and shares them out: one
// client may have perClient of them and, the fuller it gets, the less, so that one cannot keep the others out.
type connSet struct {
	max, perClient int
	answers        *pace.Limit // how slow a client may take what is written

	mu      sync.Mutex
	conns   map[*conn]struct{}
	clients map[netip.Addr]int
	empty   chan struct{} // closed when the last one went after closeAll
	ended   bool
	refused atomic.Uint64 // for being too many

	accepted atomic.Uint64
}

func newConnSet(most, perClient int, answers *pace.Limit) *connSet {
	if perClient == 0 {
		perClient = most / 2
	}
	return &connSet{max: most, perClient: perClient, answers: answers, conns: map[*conn]struct{}{}, clients: map[netip.Addr]int{}, empty: make(chan struct{})}
}

// add takes c in; false when there are too many or the end has come. A trusted proxy speaks for many clients, so
// the limit of one is not for it.
func (s *connSet) add(c *conn, trusted bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.conns) >= s.max || !trusted && s.clients[c.client] >= s.limit() {
		s.refused.Add(1)
		return false
	}
	s.conns[c] = struct{}{}
	s.clients[c.client]++
	s.accepted.Add(1)
	return true
}

// limit is what one client may have now; called with mu held.
func (s *connSet) limit() int { return min(s.perClient, max(1, (s.max-len(s.conns))*2)) }

// rename counts c for another client, the one that a proxy named; false when that one has too many.
func (s *connSet) rename(c *conn, client netip.Addr) bool {
	client = subscriber(client.WithZone(""))
	s.mu.Lock()
	defer s.mu.Unlock()
	if client == c.client {
		return true
	}
	if s.clients[client] >= s.limit() {
		s.refused.Add(1)
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
func (s *connSet) remove(c *conn) {
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

// count is the number of open connections.
func (s *connSet) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
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
		go func() { _ = c.Close() }() // it waits for whoever uses the connection, and empty tells when all have gone
	}
}

// conn is a client's TCP connection. A client that takes what is written too slowly is cut off (outflow), however long the
// whole answer lasts.
type conn struct {
	*net.TCPConn
	set    *connSet
	client netip.Addr     // whom the connection counts for
	remote netip.AddrPort // who the client is, as far as the connection tells: the peer, or whom PROXY names
	prefix []byte         // read already, to be read again
	once   sync.Once
	fixed  atomic.Bool  // somebody else set a write deadline
	got    atomic.Int64 // octets that Read has read
	out    outflow
}

func newConn(c *net.TCPConn, set *connSet) *conn {
	remote := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	client := &conn{TCPConn: c, set: set, remote: remote, client: subscriber(remote.Addr().WithZone(""))}
	client.out.meter.Start(set.answers)
	return client
}

func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	n, err := c.TCPConn.Read(p)
	c.got.Add(int64(n))
	return n, err
}

// ReadFrom and WriteTo would go past Read and Write.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }

// WriteTo: see ReadFrom.
func (c *conn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }

func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { c.set.remove(c) })
	return err
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.fixed.Store(!t.IsZero())
	c.out.until.Store(0)
	return c.TCPConn.SetWriteDeadline(t)
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
