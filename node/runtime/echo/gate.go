package echo

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// gate is a listener that can be emptied before it is closed. Closing a socket resets the connections that
// the kernel has established and nobody has accepted, and http.Server.Shutdown hangs up on those whose first
// request is just being read. Clients would see either as a lost request.
type gate struct {
	*net.TCPListener
	emptying atomic.Bool
	empty    chan struct{} // closed when nothing waits to be accepted
	closed   chan struct{}
	once     sync.Once
	guests   *guests
}

// speakUp is how long a client that is connected may take to send its request once the server is to end.
const speakUp = time.Second

func newGate(l *net.TCPListener, all *guests) *gate {
	return &gate{TCPListener: l, empty: make(chan struct{}), closed: make(chan struct{}), guests: all}
}

// Accept gives connections until the gate is emptied, then those that wait, and then waits for Close.
func (g *gate) Accept() (net.Conn, error) {
	conn, err := g.TCPListener.Accept()
	if g.emptying.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		conn, err = g.queued()
		if errors.Is(err, unix.EAGAIN) {
			close(g.empty)
			<-g.closed
			return nil, net.ErrClosed
		}
	}
	if err != nil {
		return nil, err
	}
	return g.guests.add(conn), nil
}

// queued accepts without waiting, past the deadline that ended the wait; EAGAIN if there is nothing.
func (g *gate) queued() (net.Conn, error) {
	raw, err := g.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var accepted error
	if err := raw.Control(func(listener uintptr) {
		fd, _, accepted = unix.Accept4(int(listener), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	}); err != nil {
		return nil, err
	}
	if accepted != nil {
		return nil, accepted
	}
	f := os.NewFile(uintptr(fd), "accepted")
	defer f.Close()
	return net.FileConn(f)
}

// Close ends Accept for good.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.TCPListener.Close()
}

// clear returns when every connection that was established has had its say, or ctx ends.
func (g *gate) clear(ctx context.Context) {
	g.emptying.Store(true)
	if g.SetDeadline(time.Unix(1, 0)) != nil {
		return // closed already
	}
	ctx, cancel := context.WithTimeout(ctx, speakUp)
	defer cancel()
	select {
	case <-g.empty:
	case <-g.closed:
	case <-ctx.Done():
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for g.guests.fresh.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
