package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// doors is a listener that is reached from this process alone: a connection is a pair of sockets without a name, and no
// rule of netfilter and no program of a cgroup sees it. What arrives at a listener on the network is accepted, too.
type doors struct {
	net.Listener // on the network
	accepted     chan accepted
	once         sync.Once
	closed       chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// listenInside adds the way from inside to a listener, which Close closes.
func listenInside(network net.Listener) *doors {
	l := &doors{Listener: network, accepted: make(chan accepted), closed: make(chan struct{})}
	go l.acceptNetwork()
	return l
}

// acceptNetwork hands on what comes from outside until the listener is closed.
func (l *doors) acceptNetwork() {
	for {
		conn, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if !l.hand(accepted{conn, err}) && conn != nil {
			conn.Close()
		}
	}
}

// hand gives what came to who accepts next; false when nobody will.
func (l *doors) hand(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.closed:
		return false
	}
}

// Accept waits for a connection from either side.
func (l *doors) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends listening on both sides.
func (l *doors) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// dial connects from inside; it is a dialer.
func (l *doors) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("reaching the API from inside: %w", err)
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
	return nil, fmt.Errorf("reaching the API from inside: %w", err)
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

// shared makes of a configuration one whose clients have their connections in common, as those of the network have. A
// dialer would keep them apart.
func shared(config *rest.Config, dial dialer) (*rest.Config, error) {
	secured, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for the api server: %w", err)
	}
	config = rest.CopyConfig(config)
	config.Dial, config.TLSClientConfig = nil, rest.TLSClientConfig{}
	config.Transport = utilnet.SetTransportDefaults(&http.Transport{
		DialContext: dial, TLSClientConfig: secured, TLSHandshakeTimeout: handshakeTimeout, DisableCompression: config.DisableCompression,
	})
	return config, nil
}

const handshakeTimeout = 10 * time.Second
