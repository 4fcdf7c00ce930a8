package serve

import (
	"net"
	"testing"
)

// TestInheritedSocketsStayTheCallersList: whoever handed the sockets over closes them at the end, taken or not.
func TestInheritedSocketsStayTheCallersList(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	held := []net.Listener{l}
	s, err := New(Config{HTTP: addr, Inherited: held})
	if err != nil {
		t.Fatal(err)
	}
	if s.inherit(addr) != l {
		t.Error("the socket of the last run is not taken over")
	}
	if held[0] == nil {
		t.Error("the caller's list has lost its socket")
	}
}
