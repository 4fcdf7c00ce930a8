package ingress

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestNoInjectionFromHTTP2: in HTTP/2 a path may hold what would end a request line in HTTP/1.1. The endpoint,
// which speaks HTTP/1.1, must see one request with one path, or none.
func TestNoInjectionFromHTTP2(t *testing.T) {
	seen := make(chan string, 10)
	w := serving(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.RequestURI })
	for _, test := range []struct{ path, want string }{
		{"/plain?q=1", "/plain?q=1"},
		{"/a b", "/a%20b"},
		{"/a?x HTTP/1.1", "/a?x%20HTTP/1.1"},
		{"/a\r\nX: y", ""},
		{"/a?\r\n\r\nGET /b HTTP/1.1\r\nHost: toad\r\n\r\n", ""},
		{"/a#f", "/a%23f"},
		{"//evil.test/a", "/evil.test/a"},
		{"/../a", ""},
		{"a", ""},
	} {
		if err := w.sendHTTP2(test.path); err != nil {
			t.Fatalf("%q: %v", test.path, err)
		}
		got := ""
		select {
		case got = <-seen:
		default: // the answer has come, so no request is on its way
		}
		if got != test.want {
			t.Errorf("%q arrived as %q, want %q", test.path, got, test.want)
		}
	}
}

// sendHTTP2 sends one GET with exactly this :path and waits for the end of its stream, however it ends.
func (w *world) sendHTTP2(path string) error {
	c, err := net.Dial("tcp", w.plain)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "toad"}, {":path", path}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		return err
	}
	for {
		f, err := framer.ReadFrame()
		switch {
		case err != nil:
			return fmt.Errorf("waiting for the end of the stream: %w", err)
		case f.Header().StreamID != 1:
		case f.Header().Type == http2.FrameRSTStream, f.Header().Flags.Has(http2.FlagDataEndStream):
			return nil
		}
	}
}
