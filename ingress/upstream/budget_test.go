package upstream

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"svcplane/ingress/route"
)

// TestLines: connections to endpoints are counted on both ways, none is made over the limit, and one that ends makes room.
func TestLines(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, c)
		}
	}()
	l := &connBudget{most: 2}
	e := newEndpoint(listener.Addr().(*net.TCPAddr).AddrPort(), route.ProtocolHTTP1)
	e.lines = l
	first, err := e.Dial(0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := e.dialTransport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dial := range []func() error{
		func() error { _, err := e.Dial(0); return err },
		func() error { _, err := e.dialTransport(t.Context()); return err },
	} {
		if err := dial(); !errors.Is(err, ErrTooManyConns) {
			t.Errorf("a third connection: %v", err)
		}
	}
	if !l.scarce() {
		t.Error("none is left, and yet connections would be kept")
	}
	e.Conns.Put(first, time.Now()) // is closed, since they are scarce
	second.Close()
	second.Close()
	if n := l.open.Load(); n != 0 {
		t.Errorf("%d are counted, none is open", n)
	}
}
