package inprocess

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestListen: both ways lead to one server, and both end with it.
func TestListen(t *testing.T) {
	network, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(network)
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
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){"inside": l.Dial, "network": (&net.Dialer{}).DialContext} {
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
	if _, err := l.Dial(t.Context(), "tcp", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("from inside, closed: %v", err)
	}
	if _, err := net.Dial("tcp", network.Addr().String()); err == nil {
		t.Error("over the network, closed: connected")
	}
}

// TestDialWaitsForAServer, as long as its context.
func TestDialWaitsForAServer(t *testing.T) {
	network, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(network)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Dial(ctx, "tcp", ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody accepts: %v", err)
	}
}

// TestWithoutANetwork: the way from inside alone is a listener like any other.
func TestWithoutANetwork(t *testing.T) {
	l := Listen(nil)
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.WriteString(conn, l.Addr().Network())
			conn.Close()
		}
		done <- err
	}()
	conn, err := l.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "tcp" {
		t.Errorf("read %q, %v", got, err)
	}
	conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
