package h2

import (
	"net"
	"testing"
)

// TestRequestsBehindAFailedWrite: those that were read before it begin no stream, which would try to write for ever.
func TestRequestsBehindAFailedWrite(t *testing.T) {
	p := connect(t, limits(ok)) // makes the header block
	client, server := net.Pipe()
	client.Close()
	defer server.Close()
	c := NewConn(limits(func(st *Stream) {
		t.Error("a stream is served on a connection that is broken")
		var head Block
		head.Begin(200)
		_ = st.Send(&head, make([]byte, 1<<20), true)
	}), server, nil)
	c.flushNow() // the SETTINGS
	if err := c.endBlock(1, p.block()); err == nil || c.open != 0 {
		t.Errorf("error %v, %d streams are open", err, c.open)
	}
}
