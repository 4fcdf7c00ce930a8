package echo

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// ended is what Run gave, and when.
type ended struct {
	code int
	at   time.Time
}

// end begins to end the server, and returns when it is told so.
func (r *running) end(t *testing.T, grace time.Duration) <-chan ended {
	t.Helper()
	over := make(chan ended, 1)
	go func() { code := r.stop(grace); over <- ended{code, time.Now()} }()
	select {
	case <-r.closing.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not begin to end")
	}
	return over
}

// dialed is a connection of HTTP/1.1.
type dialed struct {
	net.Conn
	from *bufio.Reader
}

func (r *running) dial(t *testing.T) *dialed {
	t.Helper()
	conn, err := net.Dial("tcp4", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &dialed{conn, bufio.NewReader(conn)}
}

// get asks for path and gives whether the answer is the connection's last.
func (c *dialed) get(t *testing.T, path string) (last bool) {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(c.from, nil)
	if err != nil {
		t.Fatalf("%s is lost: %v", path, err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.Close
}

func (c *dialed) isOver(t *testing.T) {
	t.Helper()
	if _, err := c.from.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection ends with %v, want %v", err, io.EOF)
	}
}

// A request that enters an idle connection after SIGTERM is answered, and the answer says that it is the last.
func TestIdleConnectionsAreAnsweredAtTheEnd(t *testing.T) {
	r := start(t)
	var idle []*dialed
	for range 3 {
		conn := r.dial(t)
		if conn.get(t, "/hostname") {
			t.Fatal("a connection ends with its first answer")
		}
		idle = append(idle, conn)
	}
	begin := time.Now()
	over := r.end(t, 20*time.Second)
	paths := []string{"/hostname", "/", "/bytes/100000"}
	for i, conn := range append(idle, r.dial(t)) { // who comes now is answered, too
		if !conn.get(t, paths[i%len(paths)]) {
			t.Errorf("connection %d: the last answer does not say that it is the last", i)
		}
		conn.isOver(t)
		conn.Close()
	}
	if got := <-over; got.code != 0 || got.at.Sub(begin) >= lameDuck {
		t.Errorf("it ended with %d after %s, want 0 as soon as the last connection had its answer", got.code, got.at.Sub(begin))
	}
}

// The connection of a client that says nothing ends in time, in order.
func TestIdleConnectionsDoNotHoldTheEndUp(t *testing.T) {
	r := start(t)
	conn := r.dial(t)
	conn.get(t, "/hostname")
	over := r.end(t, 600*time.Millisecond)
	conn.isOver(t)
	if got := <-over; got.code != 0 {
		t.Errorf("it ended with %d, want 0", got.code)
	}
}

// HTTP/2 is ended by two GOAWAY frames: between them, streams that the client had opened before it knew are answered.
func TestHTTP2EndsInTwoSteps(t *testing.T) {
	r := start(t)
	conn := r.dial(t)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn.from)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	ask := func(stream uint32) {
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/bytes/20000"}, {":authority", "x"}} {
			encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
	}
	var last []uint32 // of each GOAWAY
	reads := func(want string, until func(http2.Frame) bool) {
		t.Helper()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("no %s: %v", want, err)
			}
			if away, ok := frame.(*http2.GoAwayFrame); ok {
				last = append(last, away.LastStreamID)
			}
			if until(frame) {
				return
			}
		}
	}
	answered := func(stream uint32) func(http2.Frame) bool {
		return func(frame http2.Frame) bool {
			data, ok := frame.(*http2.DataFrame)
			return ok && data.StreamID == stream && data.StreamEnded()
		}
	}
	away := func(frame http2.Frame) bool { return frame.Header().Type == http2.FrameGoAway }
	ask(1)
	reads("answer", answered(1))
	over := r.end(t, 20*time.Second)
	reads("GOAWAY", away)
	ask(3)
	reads("answer to a stream that was on its way", answered(3))
	reads("second GOAWAY", away)
	if len(last) != 2 || last[0] != 1<<31-1 || last[1] != 3 {
		t.Errorf("the last streams are %v, want the highest there is, then 3", last)
	}
	conn.isOver(t)
	if got := <-over; got.code != 0 {
		t.Errorf("it ended with %d, want 0", got.code)
	}
}

// A frame is put between others only, not into one, not into a header block.
func TestFramesKnowWhereTheyEnd(t *testing.T) {
	var wire bytes.Buffer
	framer := http2.NewFramer(&wire, nil)
	ends := map[int]bool{}
	mark := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
		ends[wire.Len()] = true
	}
	mark(framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20}))
	mark(framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("abc"), EndHeaders: true}))
	mark(framer.WriteData(1, true, bytes.Repeat([]byte("x"), 300)))
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte("abc")}); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteContinuation(3, false, []byte("def")); err != nil {
		t.Fatal(err)
	}
	mark(framer.WriteContinuation(3, true, []byte("ghi")))
	mark(framer.WriteData(3, true, nil))
	for _, step := range []int{1, 4, 9, 10, 1000} {
		var f frames
		for at := 0; at < wire.Len(); {
			next := min(at+step, wire.Len())
			f.add(wire.Bytes()[at:next])
			if at = next; f.between() != ends[at] {
				t.Errorf("in steps of %d, after %d bytes: between frames %v, want %v", step, at, f.between(), ends[at])
			}
		}
	}
}
