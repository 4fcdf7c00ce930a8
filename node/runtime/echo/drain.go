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

// drainListener is a listener that can be emptied before it is closed. Closing a socket resets the connections that
// the kernel has established and nobody has accepted, and http.Server.Shutdown hangs up on those whose first
// request is just being read. Clients would see either as a lost request.
type drainListener struct {
	*net.TCPListener
	emptying atomic.Bool
	empty    chan struct{} // closed when nothing waits to be accepted
	closed   chan struct{}
	once     sync.Once
	guests   *guests
}

// speakUp is how long a client that is connected may take to send its request once the server is to end.
const speakUp = time.Second

func newDrainListener(l *net.TCPListener, all *guests) *drainListener {
	return &drainListener{TCPListener: l, empty: make(chan struct{}), closed: make(chan struct{}), guests: all}
}

// Accept gives connections until the listener is emptied, then those that wait, and then waits for Close.
func (l *drainListener) Accept() (net.Conn, error) {
	conn, err := l.TCPListener.Accept()
	if l.emptying.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		conn, err = l.queued()
		if errors.Is(err, unix.EAGAIN) {
			close(l.empty)
			<-l.closed
			return nil, net.ErrClosed
		}
	}
	if err != nil {
		return nil, err
	}
	return l.guests.add(conn), nil
}

// queued accepts without waiting, past the deadline that ended the wait; EAGAIN if there is nothing.
func (l *drainListener) queued() (net.Conn, error) {
	raw, err := l.SyscallConn()
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
func (l *drainListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// clear returns when every connection that was established has had its say, or ctx ends.
func (l *drainListener) clear(ctx context.Context) {
	l.emptying.Store(true)
	if l.SetDeadline(time.Unix(1, 0)) != nil {
		return // closed already
	}
	ctx, cancel := context.WithTimeout(ctx, speakUp)
	defer cancel()
	select {
	case <-l.empty:
	case <-l.closed:
	case <-ctx.Done():
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.guests.fresh.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
