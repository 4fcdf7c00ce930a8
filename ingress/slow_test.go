package ingress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	networkingv1 "k8s.io/api/networking/v1"

	"svcplane/ingress/source/ingress/annotations"
	"svcplane/metrics/metricstest"
)

// slowWorld is a world with a minimum rate that no drip reaches, and little patience. says waits for a line of the access
// log with this in it.
func slowWorld(t *testing.T, handler http.HandlerFunc) (w *world, says func(parts ...string)) {
	t.Helper()
	var log lockedBuffer
	w = servingWith(t, func(c *Config) {
		c.MinRate, c.slowGrace, c.AccessLog = 1<<20, 200*time.Millisecond, &log
		c.bodyTimeout, c.writeTimeout = 400*time.Millisecond, 400*time.Millisecond
	}, handler)
	return w, func(parts ...string) {
		t.Helper()
		w.eventually(func() error {
			for line := range strings.Lines(log.String()) {
				if containsAll(line, parts) {
					return nil
				}
			}
			return fmt.Errorf("no line with %q in the access log: %s", parts, log.String())
		})
	}
}

// dial connects to one of the ports; alpn is what TLS agrees on.
func (w *world) dial(secure bool, alpn string) net.Conn {
	w.t.Helper()
	at := w.plain
	if secure {
		at = w.secure
	}
	tcp, err := net.Dial("tcp", at)
	w.must(err)
	w.t.Cleanup(func() { tcp.Close() })
	w.must(tcp.SetDeadline(time.Now().Add(30 * time.Second)))
	w.must(tcp.(*net.TCPConn).SetReadBuffer(4 << 10))
	if !secure {
		return tcp
	}
	return tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, ServerName: "toad", NextProtos: []string{alpn}})
}

// drip is a body that comes an octet at a time, for long.
type drip struct{ every time.Duration }

func (d drip) Read(p []byte) (int, error) {
	time.Sleep(d.every)
	p[0] = 'x'
	return 1, nil
}

// TestSlowBodies: a body that comes an octet at a time is answered 408, whatever way it takes, and the endpoint that was given
// the beginning of it is let go.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	var asked, left atomic.Int64
	w, says := slowWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			left.Add(1)
		}
	})
	const sized = "Content-Length: 1000\r\n\r\n"
	for i, test := range []struct {
		head   string
		secure bool
	}{
		{sized, false}, {sized, true}, // the fast path
		{"Content-Length: 100000\r\n\r\n", false}, {"Content-Length: 100000\r\n\r\n", true},
		{"Transfer-Encoding: chunked\r\n\r\n1000\r\n", false}, {"Transfer-Encoding: chunked\r\n\r\n1000\r\n", true},
		{"Connection: x-nothing\r\n" + sized, false},
	} {
		c := w.dial(test.secure, "http/1.1")
		_, err := fmt.Fprintf(c, "POST /h1-%d HTTP/1.1\r\nHost: toad\r\n%s", i, test.head)
		w.must(err)
		go func() { _, _ = io.Copy(c, drip{5 * time.Millisecond}) }() // until it is closed
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
			t.Fatalf("%d: %v %v, want 408 and the end", i, resp, err)
		}
		says(fmt.Sprintf("/h1-%d", i), `"code":408`, `"ended":"slow body"`, `"route":"default/toad"`)
	}
	for i, v := range ways(t) {
		if !strings.HasPrefix(v.name, "HTTP/2") {
			continue
		}
		url := "http://" + w.plain
		if v.secure {
			url = "https://" + w.secure
		}
		for _, length := range []int64{1000, -1} {
			path := fmt.Sprintf("/h2-%d%d", i, length)
			req, err := http.NewRequest("POST", url+path, io.NopCloser(drip{5 * time.Millisecond}))
			w.must(err)
			req.Host, req.ContentLength = "toad", length
			v.change(req)
			if resp, _ := w.do(v.client, req); resp.StatusCode != http.StatusRequestTimeout {
				t.Errorf("%s, length %d: %d, want 408", v.name, length, resp.StatusCode)
			}
			says(path, `"code":408`, `"ended":"slow body"`)
		}
	}
	if n := metricstest.Gather(t, w.ingress.Collector()).Value(t, "svcplane_ingress_slow_clients_total", "ended=slow body"); n != 13 {
		t.Errorf("%v were counted", n)
	}
	w.eventually(func() error {
		if asked.Load() == 0 || asked.Load() != left.Load() {
			return fmt.Errorf("endpoints were given %d bodies, and heard the end of %d", asked.Load(), left.Load())
		}
		return nil
	})
}

// post sends a body this way, and returns an error if the answer is not this.
func (v way) post(w *world, path string, body io.Reader, length int64, contentType, want string) error {
	url := "http://" + w.plain
	if v.secure {
		url = "https://" + w.secure
	}
	req, err := http.NewRequest("POST", url+path, body)
	if err != nil {
		return err
	}
	req.Host, req.ContentLength = "toad", length
	req.Header.Set("Content-Type", contentType)
	v.change(req)
	resp, err := v.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s, %s of %d: %w", v.name, path, length, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.HasSuffix(string(got), want) {
		return fmt.Errorf("%s, %s of %d: %d %q %v, want %q", v.name, path, length, resp.StatusCode, got, err, want)
	}
	return nil
}

// TestPaceOfBodies: a body that comes at a good pace may last longer than the grace, whatever way it takes.
func TestPaceOfBodies(t *testing.T) {
	t.Parallel()
	w := servingWith(t, func(c *Config) { c.MinRate, c.slowGrace = 5, 700*time.Millisecond }, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	var all sync.WaitGroup
	defer all.Wait()
	for _, v := range ways(t) {
		for _, length := range []int64{100, -1} {
			all.Go(func() {
				if err := v.post(w, "/", io.LimitReader(drip{15 * time.Millisecond}, 100), length, "text/plain", "100 <nil>"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestBeginningsCount: what of a body comes with the head counts, too. A client that sends as much as it can and then has to
// wait, for a lost packet on a bad line, is not slow.
func TestBeginningsCount(t *testing.T) {
	t.Parallel()
	const grace, silence = 500 * time.Millisecond, 2 * time.Second
	w := servingWith(t, func(c *Config) { c.MinRate, c.slowGrace = 100, grace }, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	begun := strings.Repeat("x", 3000) // 30 s
	var all sync.WaitGroup
	defer all.Wait()
	for _, head := range []string{"Content-Length: 3001\r\n\r\n", "Content-Length: 3001\r\nConnection: x-nothing\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nbb9\r\n"} {
		for _, secure := range []bool{false, true} {
			all.Go(func() {
				c := w.dial(secure, "http/1.1")
				_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: toad\r\n"+head+begun)
				if time.Sleep(silence); err == nil {
					_, err = io.WriteString(c, "x\r\n0\r\n\r\n") // the end of a chunk is nothing to the others
				}
				if err != nil {
					t.Errorf("%q, TLS %v: %v", head, secure, err)
					return
				}
				if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
					t.Errorf("%q, TLS %v: %v, %v", head, secure, resp, err)
				}
			})
		}
	}
	for _, v := range ways(t) {
		if strings.HasPrefix(v.name, "HTTP/2") {
			all.Go(func() {
				body := io.MultiReader(strings.NewReader(begun), &pause{silence, false})
				if err := v.post(w, "/", body, 3001, "text/plain", "3001 <nil>"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestPatience: a client that waits for us, or for an endpoint that does not read what the client sends, is not slow;
// neither is one that is silent on a connection that was taken over, or on a stream of gRPC.
func TestPatience(t *testing.T) {
	t.Parallel()
	const most, silence = 2 * time.Second, 2600 * time.Millisecond
	_, addr := endpointServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/socket":
			echoWebSocket(w, r)
			return
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: a\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		if r.URL.Path != "/grpc" {
			time.Sleep(silence)
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "late ", n, err)
	})
	limited := toService("toad")
	limited.Annotations = map[string]string{annotations.OwnPrefix + "limit-rps": "1000"} // nothing takes the fast path
	var all sync.WaitGroup
	defer all.Wait()
	for _, ing := range []*networkingv1.Ingress{toService("toad"), limited} {
		w := newWorldWith(t, func(c *Config) { c.MinRate, c.slowGrace, c.bodyTimeout, c.writeTimeout = 1<<10, most, most, most },
			service("toad"), slice("toad", addr), ing)
		alone := ways(t) // what others send on its connection counts for a stream, too
		for i, v := range ways(t) {
			for _, test := range []struct {
				path   string
				body   io.Reader
				length int64
			}{{"/events", nil, 0}, {"/poll", nil, 0}, {"/small", io.LimitReader(zeros{}, 1000), 1000}, {"/large", io.LimitReader(zeros{}, 4<<20), 4 << 20},
				{"/unsized", io.LimitReader(zeros{}, 4<<20), -1}, {"/grpc", &pause{silence, false}, -1}} {
				v, want, contentType := v, max(test.length, 0), "text/plain"
				switch {
				case test.path == "/grpc" && !strings.HasPrefix(v.name, "HTTP/2"):
					continue // there is none over HTTP/1.1
				case test.path == "/grpc":
					v, want, contentType = alone[i], 1, "application/grpc+proto"
				case test.length < 0:
					want = 4 << 20
				}
				all.Go(func() {
					if err := v.post(w, test.path, test.body, test.length, contentType, fmt.Sprint("late ", want, nil)); err != nil {
						t.Error(err)
					}
				})
			}
		}
		for _, base := range []string{"ws://" + w.plain, "wss://" + w.secure} {
			all.Go(func() {
				if err := silentSocket(base, silence); err != nil {
					t.Errorf("%s: %v", base, err)
				}
			})
		}
	}
}

// pause is a body of one octet, and nothing for a while.
type pause struct {
	silence time.Duration
	begun   bool
}

func (p *pause) Read(b []byte) (int, error) {
	if p.begun {
		time.Sleep(p.silence)
		return 0, io.EOF
	}
	p.begun = true
	return 1, nil
}

// silentSocket opens a WebSocket and uses it after a silence.
func silentSocket(base string, silence time.Duration) error {
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	c, _, err := dialer.Dial(base+"/socket", http.Header{"Host": {"toad"}})
	if err != nil {
		return err
	}
	defer c.Close()
	time.Sleep(silence)
	if err := c.WriteMessage(websocket.TextMessage, []byte("still")); err != nil {
		return err
	}
	_, got, err := c.ReadMessage()
	if err != nil || !strings.Contains(string(got), "still") {
		return fmt.Errorf("%q %v", got, err)
	}
	return nil
}
