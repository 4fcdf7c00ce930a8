package inprocess

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Listener is reached by Dial, from this process alone. What arrives at a listener on the network is accepted, too.
type Listener struct {
	network  net.Listener // nil: none
	accepted chan accepted
	once     sync.Once
	closed   chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// Listen adds the way from inside to a listener on the network, which Close closes; nil for the way from inside alone.
func Listen(network net.Listener) *Listener {
	l := &Listener{network: network, accepted: make(chan accepted), closed: make(chan struct{})}
	if network != nil {
		go l.acceptNetwork()
	}
	return l
}

// acceptNetwork hands on what comes from outside until the listener is closed.
func (l *Listener) acceptNetwork() {
	for {
		conn, err := l.network.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if !l.hand(accepted{conn, err}) && conn != nil {
			conn.Close()
		}
	}
}

// hand passes a connection to the next Accept; false when there will be none.
func (l *Listener) hand(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.closed:
		return false
	}
}

// Accept waits for a connection from either side.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends listening on both sides.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	if l.network == nil {
		return nil
	}
	return l.network.Close()
}

// Addr is that of the network, or of this machine where there is none.
func (l *Listener) Addr() net.Addr {
	if l.network == nil {
		return insideConn{}.LocalAddr()
	}
	return l.network.Addr()
}

// Dial connects from inside: whatever network and address are asked for, and without either.
func (l *Listener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connecting within this process: %w", err)
	}
	select {
	case l.accepted <- accepted{conn: theirs}:
		return ours, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	ours.Close()
	theirs.Close()
	return nil, fmt.Errorf("connecting within this process: %w", err)
}

func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "inside")
		conn, problem := net.FileConn(f) // with a descriptor of its own
		f.Close()
		ends[i], err = conn, errors.Join(err, problem)
	}
	if err != nil {
		for _, c := range ends {
			if c != nil {
				c.Close()
			}
		}
		return nil, nil, err
	}
	return insideConn{ends[0]}, insideConn{ends[1]}, nil
}

// insideConn has the addresses of a client on this machine, as they stand in audit logs: sockets without a name have none.
type insideConn struct{ net.Conn }

func (insideConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (insideConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
