package ingress

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
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
		{"//evil.test/a", "//evil.test/a"},
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

// TestAbuseDisturbsNobody: several attacks at once over TLS, each ended with the right word, while others are served and
// what it costs stays bounded. What is an attack, in detail, is held by the tests of package h2.
// abusedStreams is how many requests at a time a connection may have.
const abusedStreams = 250

func TestAbuseDisturbsNobody(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			_, _ = io.WriteString(w, big) // it is cut off; Fprint would copy it for as long as nobody takes it
			return
		}
		fmt.Fprint(w, "ok "+r.URL.Path)
	})
	w.answers("toad", "/", 200, "ok ")
	before := heap()
	var attackers sync.WaitGroup
	// windows that stay shut: what we hold for the answers is what the connection to the endpoint has buffered
	stalled := w.attack(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range uint32(abusedStreams) {
		w.must(stalled.get(2*i+1, "/big"))
	}
	for name, flood := range map[string]func(a *attacker, i uint32) error{
		"rapid reset": func(a *attacker, i uint32) error {
			if err := a.get(2*i+1, "/big"); err != nil {
				return err
			}
			return a.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"PING":     func(a *attacker, _ uint32) error { return a.WritePing(false, [8]byte{}) },
		"SETTINGS": func(a *attacker, _ uint32) error { return a.WriteSettings() },
		"CONTINUATION": func(a *attacker, i uint32) error {
			if i == 0 {
				return a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.block("/")})
			}
			return a.WriteContinuation(1, false, bytes.Repeat([]byte{0x88}, 8<<10))
		},
	} {
		a := w.attack()
		attackers.Go(func() {
			for i := uint32(0); flood(a, i) == nil && i < 1<<20; i++ {
			}
		})
		attackers.Go(func() {
			if got := a.end(); got != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("%s ended with %v", name, got)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		attackers.Wait()
		close(done)
	}()
	served := 0
	for over := false; !over || served < 50; served++ {
		if resp, body := w.get("toad", fmt.Sprint("/", served)); resp.StatusCode != 200 || body != fmt.Sprint("ok /", served) {
			t.Fatalf("under attack: %d %q", resp.StatusCode, body)
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
	if now := heap(); now > before+64<<20 {
		t.Errorf("the heap grew from %d to %d MiB with %d answers of 1 MiB that nobody takes", before>>20, now>>20, abusedStreams)
	}
	stalled.tcp.Close()
	w.eventually(func() error {
		if now := heap(); now > before+8<<20 {
			return fmt.Errorf("the heap grew from %d to %d MiB", before>>20, now>>20)
		}
		return nil
	})
}

// attacker is an HTTP/2 connection over TLS that follows no rules.
type attacker struct {
	*http2.Framer
	tcp net.Conn
}

func (w *world) attack(settings ...http2.Setting) *attacker {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.secure, &tls.Config{InsecureSkipVerify: true, ServerName: "toad", NextProtos: []string{"h2"}})
	w.must(err)
	w.t.Cleanup(func() { c.Close() })
	w.must(c.SetDeadline(time.Now().Add(30 * time.Second)))
	a := &attacker{Framer: http2.NewFramer(c, c), tcp: c}
	_, err = io.WriteString(c, http2.ClientPreface)
	w.must(err)
	w.must(a.WriteSettings(settings...))
	w.must(a.WriteSettingsAck())
	return a
}

func (a *attacker) block(path string) []byte {
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "toad"}, {":path", path}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}) // a buffer does not fail
	}
	return head.Bytes()
}

func (a *attacker) get(id uint32, path string) error {
	return a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block(path), EndStream: true, EndHeaders: true})
}

// end reads until the connection ends, and returns the code of its GOAWAY.
func (a *attacker) end() (code http2.ErrCode) {
	for {
		f, err := a.ReadFrame()
		if err != nil {
			return code
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code = g.ErrCode
		}
	}
}
