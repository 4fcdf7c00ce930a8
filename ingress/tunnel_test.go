package ingress

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestTunnel: what a WebSocket may count on, through TLS and without.
func TestTunnel(t *testing.T) {
	ended := make(chan error, 1)
	var log lockedBuffer
	w := servingWith(t, func(c *Config) { c.AccessLog = &log }, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "not for you", http.StatusForbidden)
			return
		}
		c, err := (&websocket.Upgrader{Subprotocols: []string{"frog"}}).Upgrade(w, r, http.Header{"X-Own": {"yes"}})
		if err != nil {
			return // it was answered
		}
		defer c.Close()
		for {
			kind, data, err := c.ReadMessage()
			if err != nil {
				ended <- err
				return
			}
			if string(data) == "leave" {
				return
			}
			if err := c.WriteMessage(kind, data); err != nil {
				t.Error(err)
			}
		}
	})
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{"frog"}}
	for _, base := range []string{"ws://" + w.plain, "wss://" + w.secure} {
		dial := func(path string) *websocket.Conn {
			c, resp, err := dialer.Dial(base+path, http.Header{"Host": {"toad"}})
			w.must(err)
			if c.Subprotocol() != "frog" || resp.Header.Get("X-Own") != "yes" {
				t.Errorf("%s: %v", base, resp.Header)
			}
			w.must(c.SetReadDeadline(time.Now().Add(20 * time.Second)))
			return c
		}
		c := dial("/chat?a=b")
		for _, size := range []int{0, 1, 5000, 1 << 20} {
			want := bytes.Repeat([]byte{byte(size)}, size)
			var writer sync.WaitGroup
			writer.Go(func() { _ = c.WriteMessage(websocket.BinaryMessage, want) }) // what comes back tells
			if _, got, err := c.ReadMessage(); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d bytes came back of %d: %v", base, len(got), size, err)
			}
			writer.Wait()
		}
		c.NetConn().Close()
		if err := <-ended; err == nil {
			t.Errorf("%s: the endpoint did not see the client go", base)
		}
		c = dial("/")
		w.must(c.WriteMessage(websocket.TextMessage, []byte("leave")))
		if _, _, err := c.ReadMessage(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the client did not see the endpoint go: %v", base, err)
		}
		c.Close()
		if _, resp, err := dialer.Dial(base+"/no", http.Header{"Host": {"toad"}}); !errors.Is(err, websocket.ErrBadHandshake) || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: a refusal: %v", base, err)
		}
	}
	w.eventually(func() error {
		if text := log.String(); strings.Count(text, `"code":101`) != 4 || strings.Count(text, `"path":"/chat","query":"a=b"`) != 2 {
			return fmt.Errorf("log %s", text)
		}
		return nil
	})
}

// TestTunnelEarly: what a client says before it has seen the answer comes after it, and a refused handshake leaves the
// connection for the next request.
func TestTunnelEarly(t *testing.T) {
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			fmt.Fprint(w, "plain ", r.URL.Path, " ", r.Header["Upgrade"])
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome ") // the client sees what came
		early := make([]byte, 5)
		_, _ = io.ReadFull(rw, early) // the same
		_, _ = c.Write(early)         // the same
	})
	ask := func(path string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: toad\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	}
	got := w.raw(ask("/other") + ask("/ws") + "early")
	for _, want := range []string{"plain /other [websocket]", "HTTP/1.1 101 Switching Protocols\r\n", "Upgrade: websocket\r\n\r\n", "welcome early"} {
		_, rest, found := strings.Cut(got, want)
		if !found {
			t.Fatalf("no %q in %q", want, got)
		}
		got = rest
	}
}

// TestDrainEndsTunnels: at the end, WebSockets are closed and nothing waits for them longer than for requests.
func TestDrainEndsTunnels(t *testing.T) {
	w := servingWith(t, func(c *Config) { c.DrainTimeout = 2 * time.Second }, echoWebSocket)
	var all []*websocket.Conn
	for range 20 {
		c, _, err := websocket.DefaultDialer.Dial("ws://"+w.plain, http.Header{"Host": {"toad"}})
		w.must(err)
		defer c.Close()
		all = append(all, c)
	}
	stopped := make(chan struct{})
	go func() {
		w.stop()
		close(stopped)
	}()
	for _, c := range all {
		w.must(c.SetReadDeadline(time.Now().Add(20 * time.Second)))
		_, _, err := c.ReadMessage()
		var timeout net.Error
		if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("a WebSocket goes on after the end: %v", err)
		}
	}
	<-stopped
}
