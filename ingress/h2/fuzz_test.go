package h2

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// memory is a connection whose peer has said everything already.
type memory struct {
	net.Conn
	in  bytes.Reader
	out bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error)      { return m.in.Read(p) }
func (m *memory) Write(p []byte) (int, error)     { return m.out.Write(p) }
func (m *memory) Close() error                    { return nil }
func (m *memory) SetReadDeadline(time.Time) error { return nil }

// FuzzFrames: whatever a peer sends, the connection ends, with all that it began, and what it says are frames.
func FuzzFrames(f *testing.F) {
	var seed bytes.Buffer
	framer := http2.NewFramer(&seed, nil)
	framer.AllowIllegalWrites = true
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "toad"}, {":path", "/a"}, {"cookie", "a"}, {"cookie", "b"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // a buffer does not fail
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true})
	_ = framer.WriteDataPadded(1, false, []byte("body"), []byte{0, 0})
	_ = framer.WriteWindowUpdate(1, 7)
	_ = framer.WriteContinuation(1, true, nil)
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = framer.WritePing(false, [8]byte{})
	_ = framer.WritePriority(3, http2.PriorityParam{StreamDep: 1})
	_ = framer.WriteGoAway(1, http2.ErrCodeNo, nil)
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		serve := func(st *Stream) {
			body, _ := io.ReadAll(st) // it may be cut off
			var head Block
			head.Begin(200)
			for _, f := range st.Fields {
				head.Add(f.Name, f.Value)
			}
			_ = st.Send(&head, body, true) // the same
		}
		m := &memory{}
		m.in.Reset(append([]byte(http2.ClientPreface), b...))
		c := NewConn(limits(serve), m, nil)
		c.Serve()
		c.mu.Lock()
		open := c.open
		c.mu.Unlock()
		for deadline := time.Now().Add(10 * time.Second); open > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d streams have not ended", open)
			}
			c.mu.Lock()
			open = c.open
			c.mu.Unlock()
		}
		said := http2.NewFramer(nil, &m.out)
		for {
			if _, err := said.ReadFrame(); err == io.EOF {
				return
			} else if err != nil {
				t.Fatalf("what we said is no frame: %v", err)
			}
		}
	})
}

// FuzzRequest: a header block that we take for a request is one for golang.org/x/net/http2, too, and nothing in it can
// end a line of HTTP/1.1.
func FuzzRequest(f *testing.F) {
	for _, fields := range []string{":method\nGET\n:scheme\nhttp\n:authority\na\n:path\n/", ":method\nPOST\n:scheme\nhttps\n:path\n/?x\nhost\na\ncontent-length\n3\nx-y\nz",
		":method\nCONNECT\n:authority\na:1", ":method\nOPTIONS\n:scheme\nhttp\n:authority\na\n:path\n*\ncookie\na=b\ncookie\nc=d\nte\ntrailers"} {
		f.Add(fields)
	}
	f.Fuzz(func(t *testing.T, fields string) {
		parts := strings.Split(fields, "\n")
		b := &block{most: 32 << 10}
		b.req.Length = -1
		var wire bytes.Buffer
		enc := hpack.NewEncoder(&wire)
		for i := 0; i+1 < len(parts); i += 2 {
			h := hpack.HeaderField{Name: parts[i], Value: strings.ReplaceAll(parts[i+1], "\x01", "\n")}
			b.emit(h)
			_ = enc.WriteField(h) // a buffer does not fail
		}
		b.finish(false)
		if b.bad != "" || wire.Len() > maxFrame {
			return
		}
		var frames bytes.Buffer
		framer := http2.NewFramer(&frames, &frames)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: wire.Bytes(), EndHeaders: true}) // the same
		if _, err := framer.ReadFrame(); err != nil {
			t.Fatalf("%+v: %v", b.req, err)
		}
		r := b.req
		if r.Method == http.MethodConnect || r.Path == "*" {
			return
		}
		if _, err := url.ParseRequestURI(r.Path); err != nil {
			return // Stream.ServeHTTP refuses it
		}
		for _, f := range append(r.Fields, Field{Name: "x", Value: r.Path}, Field{Name: "x", Value: r.Authority}) {
			if strings.ContainsAny(f.Name+f.Value, "\r\n\x00") {
				t.Fatalf("a line ends within %q", f)
			}
		}
	})
}
