package serve

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"svcplane/ingress/listen"
	"svcplane/ingress/pace"
)

func TestSlowBodyIsCutOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	under := listen.NewConn(server.(*net.TCPConn), listen.NewConnSet(1, 0, &pace.Limit{Most: time.Minute}))
	c := &strictConn{Conn: under, under: under, bodies: &pace.Limit{Most: 20 * time.Millisecond}}
	defer c.Close()
	go func() { _, _ = io.WriteString(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc") }() // the read below sees it
	buf := make([]byte, 1024)
	n := 0
	for {
		k, err := c.Read(buf[n:])
		n += k
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, pace.ErrSlow) || !strings.HasSuffix(string(buf[:n]), "abc") {
			t.Errorf("%q, %v", buf[:n], err)
		}
		return
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{HTTP: netip.MustParseAddrPort("127.0.0.1:0"), HTTPS: l.Addr().(*net.TCPAddr).AddrPort(), DrainTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Listen()
	if err == nil {
		t.Fatal("listening on a taken port succeeded")
	}
	for _, want := range []string{"HTTPS", l.Addr().String(), "address already in use", "--ingress-https", "ss -ltnp"} {
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q says no %q in one line", err, want)
		}
	}
	if s.plain.socket != nil {
		t.Error("the other port is still held")
	}
}
