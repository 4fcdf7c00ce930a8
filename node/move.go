package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// SetAddrs follows the addresses of the machine, with a certificate for them: the kubelet's port moves there, the Node
// and the statuses of its pods say so. No container is touched: what it was told at its start stays in its environment.
func (n *Node) SetAddrs(addrs []netip.Addr, serving tls.Certificate) error {
	n.serving.Store(&serving)
	if before := *n.addrs.Swap(&addrs); !slices.Equal(before, addrs) {
		n.tellMoved()
	}
	return n.server.move(addrs[0])
}

// tellMoved has the Node and the statuses of pods written.
func (n *Node) tellMoved() {
	select {
	case n.moved <- struct{}{}:
	default:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.workers {
		w.poke()
	}
}

// Dial connects to the kubelet's port without the network: whatever the machine's addresses are, and however they change.
func (n *Node) Dial(ctx context.Context) (net.Conn, error) { return n.server.inside.dial(ctx) }

// insideListener accepts connections of this process. They are pairs of sockets, so that the kernel holds what is on its
// way.
type insideListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newInsideListener() *insideListener {
	return &insideListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *insideListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connecting to the node's own server: %w", err)
	}
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	ours.Close()
	theirs.Close()
	return nil, fmt.Errorf("connecting to the node's own server: %w", err)
}

func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	if a, err = connOf(fds[0]); err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	if b, err = connOf(fds[1]); err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// connOf takes the descriptor over.
func connOf(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "node")
	defer file.Close()
	return net.FileConn(file)
}

func (l *insideListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *insideListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *insideListener) Addr() net.Addr {
	return &net.UnixAddr{Net: "unix", Name: "the node's own server"}
}
