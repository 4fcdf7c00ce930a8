package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"svcplane/metrics/metricstest"
)

// endless answers without end, and says on left when somebody has ended it.
func endless(left chan<- string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/endless") {
			fmt.Fprint(w, "short")
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.Copy(w, zeros{}) // it ends when nobody reads
		left <- r.URL.Path
	}
}

// reads takes what comes at rate octets a second until the connection ends, and returns why.
func (w *world) reads(c net.Conn, rate int) error {
	buf := make([]byte, max(1, rate/50))
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// http2Request is how a client begins a connection, and asks for a path: with windows of this size.
func http2Request(window uint32, id uint32, path string, first bool, fields ...string) []byte {
	var out, block bytes.Buffer
	framer := http2.NewFramer(&out, nil)
	if first {
		out.WriteString(http2.ClientPreface)
		_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}) // a buffer does not fail
		_ = framer.WriteWindowUpdate(0, 1<<30)                                                   // the same
	}
	enc := hpack.NewEncoder(&block)
	enc.SetMaxDynamicTableSize(0)
	all := append([]string{":method", "GET", ":scheme", "http", ":authority", "toad", ":path", path}, fields...)
	for i := 0; i < len(all); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}) // the same
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}) // the same
	return out.Bytes()
}

// TestSlowReaders: the connection of a client that reads an answer too slowly is reset, whatever way the answer takes, and the
// endpoint is let go.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	left := make(chan string, 10)
	w, says := slowWorld(t, endless(left))
	get := func(path, more string) []byte {
		return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: toad\r\n%s\r\n", path, more)
	}
	for i, test := range []struct {
		secure  bool
		alpn    string
		request func(path string) []byte
	}{
		{false, "", func(p string) []byte { return get(p, "") }},
		{false, "", func(p string) []byte { return get(p, "Connection: x-nothing\r\n") }},
		{false, "", func(p string) []byte { return http2Request(1<<30, 1, p, true) }},
		{false, "", func(p string) []byte { return http2Request(1<<30, 1, p, true, "trailer", "x-nothing") }},
		{true, "http/1.1", func(p string) []byte { return get(p, "") }},
		{true, "http/1.1", func(p string) []byte { return get(p, "Connection: x-nothing\r\n") }},
		{true, "h2", func(p string) []byte { return http2Request(1<<30, 1, p, true) }},
	} {
		path := fmt.Sprintf("/endless%d", i)
		c := w.dial(test.secure, test.alpn)
		_, err := c.Write(test.request(path))
		w.must(err)
		if err := w.reads(c, 50_000); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%d: the connection ended with %v, want a reset", i, err)
		}
		select {
		case <-left:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d: the endpoint still answers", i)
		}
		says(path, `"ended":"slow reader"`)
	}
	if n := metricstest.Gather(t, w.ingress.Collector()).Value(t, "svcplane_ingress_slow_clients_total", "ended=slow reader"); n != 7 {
		t.Errorf("%v were counted", n)
	}
}

// TestPaceOfReaders: a client that reads at a good pace is served, though it takes long until the kernel's buffer has room.
func TestPaceOfReaders(t *testing.T) {
	t.Parallel()
	left := make(chan string, 10)
	w := servingWith(t, func(c *Config) {
		c.MinRate, c.slowGrace, c.writeTimeout = 10_000, 1500*time.Millisecond, 1500*time.Millisecond
	}, endless(left))
	c := w.dial(false, "")
	_, err := io.WriteString(c, "GET /endless HTTP/1.1\r\nHost: toad\r\n\r\n")
	w.must(err)
	ended := make(chan error, 1)
	go func() { ended <- w.reads(c, 200_000) }()
	select {
	case err := <-ended:
		t.Errorf("it was cut off: %v", err)
	case <-time.After(3 * time.Second):
		c.Close()
		<-ended
	}
}

// TestSlowWindows: a stream whose window the client opens by an octet at a time is reset, and its endpoint let go; the other
// streams of the connection are served.
func TestSlowWindows(t *testing.T) {
	t.Parallel()
	left := make(chan string, 10)
	w, says := slowWorld(t, endless(left))
	for i, fields := range [][]string{nil, {"trailer", "x-nothing"}} {
		c := w.dial(false, "")
		path := fmt.Sprintf("/endless%d", i)
		_, err := c.Write(http2Request(1, 1, path, true, fields...))
		w.must(err)
		framer := http2.NewFramer(c, c)
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					_ = framer.WriteWindowUpdate(1, 1) // the reader below sees how it ends
				}
			}
		}()
		w.must(awaitFrame(framer, 1, http2.FrameRSTStream))
		close(stop)
		select {
		case <-left:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d: the endpoint still answers", i)
		}
		says(path, `"ended":"slow reader"`)
		_, err = c.Write(append(http2Request(0, 3, "/short", false, fields...), 0, 0, 4, 8, 0, 0, 0, 0, 3, 0, 0, 1, 0)) // WINDOW_UPDATE
		w.must(err)
		w.must(awaitFrame(framer, 3, http2.FrameData))
	}
}

// awaitFrame reads until there is a frame of this kind on a stream.
func awaitFrame(framer *http2.Framer, id uint32, kind http2.FrameType) error {
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch h := f.Header(); {
		case h.StreamID == id && h.Type == kind:
			return nil
		case h.Type == http2.FrameGoAway:
			return fmt.Errorf("the connection ends: %v", f)
		}
	}
}
