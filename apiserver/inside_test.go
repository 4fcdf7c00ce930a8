package apiserver

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestListenInside: both ways lead to one server, and both end with it.
func TestListenInside(t *testing.T) {
	network, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listenInside(network)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("accepting: %v", err)
				}
				return
			}
			wg.Go(func() { defer conn.Close(); io.Copy(conn, conn) })
		}
	})
	for name, dial := range map[string]dialer{"inside": l.dial, "network": (&net.Dialer{}).DialContext} {
		conn, err := dial(t.Context(), "tcp", network.Addr().String())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, name)
		got := make([]byte, len(name))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != name {
			t.Errorf("%s: read %q, %v", name, got, err)
		}
		if _, ok := conn.RemoteAddr().(*net.TCPAddr); !ok {
			t.Errorf("%s: the peer's address is %v: what logs clients takes it apart as host and port", name, conn.RemoteAddr())
		}
		conn.Close()
	}
	l.Close()
	wg.Wait()
	if _, err := l.dial(t.Context(), "tcp", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("from inside, closed: %v", err)
	}
	if _, err := net.Dial("tcp", network.Addr().String()); err == nil {
		t.Error("over the network, closed: connected")
	}
}

// TestDialInsideWaitsForAServer, as long as its context.
func TestDialInsideWaitsForAServer(t *testing.T) {
	network, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listenInside(network)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.dial(ctx, "tcp", ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody accepts: %v", err)
	}
}
