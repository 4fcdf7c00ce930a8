package descriptors

import (
	"net"
	"net/netip"
	"sync"
)

// Bound gives a listener whose connections are never more than most at once: further ones wait in the kernel's backlog
// until one ends. Of these most, those from other machines may have all but kept.
func Bound(l net.Listener, most, kept int) net.Listener {
	b := &bounded{Listener: l, most: most, kept: kept}
	b.changed.L = &b.mu
	return b
}

type bounded struct {
	net.Listener
	most, kept int

	mu      sync.Mutex
	changed sync.Cond
	all     int
	far     int
	ended   bool
}

// Accept waits until there may be one more. One from elsewhere that is over their share is closed: in the backlog it
// would stand in front of those from this machine.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		if !b.await() {
			return nil, net.ErrClosed
		}
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		far := !near(c)
		if b.enter(far) {
			return &boundConn{Conn: c, leave: sync.OnceFunc(func() { b.leave(far) })}, nil
		}
		_ = c.Close() // there are too many
	}
}

func (b *bounded) await() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.all >= b.most && !b.ended {
		b.changed.Wait()
	}
	return !b.ended
}

func (b *bounded) enter(far bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if far && b.far >= b.most-b.kept {
		return false
	}
	b.all++
	if far {
		b.far++
	}
	return true
}

func (b *bounded) leave(far bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if far {
		b.far--
	}
	b.changed.Signal()
}

// Close also ends an Accept that waits.
func (b *bounded) Close() error {
	b.mu.Lock()
	b.ended = true
	b.changed.Broadcast()
	b.mu.Unlock()
	return b.Listener.Close()
}

// near says whether a connection comes from this machine: from one of its loopback addresses, or from the very address
// that it came to.
func near(c net.Conn) bool {
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return true // no network: a socket of ours
	}
	to, err := netip.ParseAddrPort(c.LocalAddr().String())
	return from.Addr().Unmap().IsLoopback() || err == nil && from.Addr() == to.Addr()
}

// boundConn leaves when it is closed.
type boundConn struct {
	net.Conn
	leave func()
}

func (c *boundConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
