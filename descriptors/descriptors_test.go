package descriptors

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestShare(t *testing.T) {
	for _, limit := range []int{512, 1024, 4096, 20000, 1 << 20} {
		s, err := Share(limit)
		if err != nil {
			t.Fatal(err)
		}
		if sum := s.Plane + s.API + s.DNS + s.Ingress; sum != limit {
			t.Errorf("of %d, %d are shared out: %v", limit, sum, s)
		}
		if n := s.DNSClients() + 2*s.DNSQuestions(); n > s.DNS {
			t.Errorf("of %d, DNS takes %d of its %d", limit, n, s.DNS)
		}
		if n := s.IngressClients() + s.IngressEndpoints(); n >= s.Ingress {
			t.Errorf("of %d, the ingress takes %d of its %d", limit, n, s.Ingress)
		}
		for _, least := range []struct{ have, want int }{{s.Plane, 128}, {s.API, 96}, {s.IngressClients(), 80}, {s.DNSClients(), 32}} {
			if least.have < least.want {
				t.Errorf("of %d, a part gets %d, want %d: %v", limit, least.have, least.want, s)
			}
		}
	}
	if _, err := Share(256); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("got %v", err)
	}
}

// TestBoundListener fills a listener up: one more waits until another ends, and is served then.
func TestBoundListener(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Bound(raw, 2, 1)
	accepted := make(chan net.Conn, 8)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	var served []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range 2 {
		served = append(served, <-accepted)
	}
	select {
	case <-accepted:
		t.Fatal("a third was accepted")
	case <-time.After(50 * time.Millisecond):
	}
	served[0].Close()
	served[0].Close() // counts once
	select {
	case served[0] = <-accepted:
	case <-time.After(10 * time.Second):
		t.Fatal("the third is not served when the first has ended")
	}
	l.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Accept waits after Close")
	}
}

// TestOthersLeaveRoomForThisMachine: however many come from elsewhere, one from here gets in.
func TestOthersLeaveRoomForThisMachine(t *testing.T) {
	b := Bound(nil, 3, 1).(*bounded)
	for range 2 {
		if !b.enter(true) {
			t.Fatal("others do not get their share")
		}
	}
	if b.enter(true) {
		t.Error("others get what is kept for this machine")
	}
	if !b.enter(false) {
		t.Error("this machine does not get what is kept for it")
	}
	b.leave(true)
	if !b.enter(true) {
		t.Error("what was given back cannot be had")
	}
}
