package ingress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"svcplane/metrics/metricstest"
)

// rawEndpoint answers each request on a connection with the next of answers, and closes after the last one.
func rawEndpoint(t *testing.T, connections *atomic.Int32, answers ...string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for _, a := range answers {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(c, a)
				}
			}()
		}
	}()
	return addrOf(l)
}

// TestFastAnswers: each kind of answer of an endpoint as the client gets it.
func TestFastAnswers(t *testing.T) {
	for name, row := range map[string]struct{ answer, want string }{
		"length":       {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: X-Hop\r\nX-Hop: a\r\nX-Kept: b\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Kept: b\r\nConnection: close\r\n\r\nabc"},
		"chunked":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		"until closed": {"HTTP/1.1 200 OK\r\n\r\nabc", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"},
		"no content":   {"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"},
		"early hints":  {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
		"both framed":  {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 502 "},
		"two lengths":  {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "HTTP/1.1 502 "},
		"no HTTP":      {"hello\r\n\r\n", "HTTP/1.1 502 "},
		"bare LF":      {"HTTP/1.1 200 OK\nX-A: b\nContent-Length: 3\n\nabc", "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"},
		"LF at times":  {"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		"bare CR":      {"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "HTTP/1.1 502 "},
		"NUL":          {"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", "HTTP/1.1 502 "},
		"folded":       {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "HTTP/1.1 502 "},
		"no trailers":  {"HTTP/1.1 200 OK\r\nTrailer: X-Late\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
		"unasked":      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 502 "},
	} {
		var n atomic.Int32
		w := newWorld(t, service("toad"), slice("toad", rawEndpoint(t, &n, row.answer)), toService("toad"))
		got := w.raw("GET / HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, row.want) || strings.HasPrefix(row.want, "HTTP/1.1 200") && got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
		w.stop()
	}
}

// TestFastReusesAndResends: one connection to the endpoint serves many requests; one that was closed meanwhile costs
// no request, not even one that may not be repeated.
func TestFastReusesAndResends(t *testing.T) {
	var n atomic.Int32
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	w := newWorld(t, service("toad"), slice("toad", rawEndpoint(t, &n, ok, ok, ok)), toService("toad"))
	get, post := "GET / HTTP/1.1\r\nHost: toad\r\n\r\n", "POST / HTTP/1.1\r\nHost: toad\r\nContent-Length: 2\r\n\r\nhi"
	c, err := net.Dial("tcp", w.plain)
	w.must(err)
	defer c.Close()
	in := bufio.NewReader(c)
	for i := range 12 {
		send := get
		if i%3 == 0 { // the first on a connection that the endpoint has closed
			send = post
			time.Sleep(20 * time.Millisecond) // so that the end of the connection has come
		}
		_, err := io.WriteString(c, send)
		w.must(err)
		resp, err := http.ReadResponse(in, nil)
		w.must(err)
		body, err := io.ReadAll(resp.Body)
		w.must(err)
		if resp.StatusCode != 200 || string(body) != "ok" {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, body)
		}
	}
	if got := n.Load(); got != 4 {
		t.Errorf("%d connections for 12 requests, 3 on each: want 4", got)
	}
}

// TestFastPipelining: requests that come at once, in pieces, with bodies, before and after ones for net/http.
func TestFastPipelining(t *testing.T) {
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "<%s %s %s>", r.Method, r.RequestURI, body)
	})
	big := strings.Repeat("x", 30<<10)
	all := "GET /1 HTTP/1.1\r\nHost: toad\r\n\r\n" + "POST /2 HTTP/1.1\r\nHost: toad\r\nContent-Length: 3\r\n\r\nabc" +
		"PUT /3 HTTP/1.1\r\nHost: toad\r\nContent-Length: " + fmt.Sprint(len(big)) + "\r\n\r\n" + big + "GET /4 HTTP/1.1\r\nHost: toad\r\n\r\n"
	unusual := "POST /5 HTTP/1.1\r\nHost: toad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n" + "GET /6 HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n"
	want := []string{"<GET /1 >", "<POST /2 abc>", "<PUT /3 " + big + ">", "<GET /4 >", "<POST /5 def>", "<GET /6 >"}
	check := func(got string) {
		t.Helper()
		at := 0
		for _, part := range want {
			i := strings.Index(got[at:], part)
			if i < 0 {
				t.Fatalf("no %.20q behind %d bytes of %.300q", part, at, got)
			}
			at += i
		}
	}
	check(w.raw(all + unusual))
	c, err := net.Dial("tcp", w.plain)
	w.must(err)
	defer c.Close()
	go func() {
		for text := all + unusual; text != ""; {
			n := min(len(text), 977)
			if _, err := io.WriteString(c, text[:n]); err != nil {
				return
			}
			text = text[n:]
		}
	}()
	w.must(c.SetReadDeadline(time.Now().Add(10 * time.Second)))
	got, err := io.ReadAll(c)
	w.must(err)
	check(string(got))
}

// TestFastClientGone: an endpoint that never answers is let go when the client has left.
func TestFastClientGone(t *testing.T) {
	var left atomic.Bool
	w := serving(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); left.Store(true) })
	c, err := net.Dial("tcp", w.plain)
	w.must(err)
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: toad\r\n\r\n")
	w.must(err)
	busy := func() float64 {
		return metricstest.Gather(t, w.ingress.Collector()).Value(t, "nginx_ingress_controller_nginx_process_connections", "state=writing")
	}
	w.eventually(func() error {
		if busy() != 1 {
			return fmt.Errorf("the request is not under way")
		}
		return nil
	})
	c.Close()
	w.eventually(func() error {
		if !left.Load() {
			return fmt.Errorf("the endpoint still works for nobody")
		}
		return nil
	})
}

// TestFastStops: an idle connection ends at once when the server stops, and one with a request after its answer.
func TestFastStops(t *testing.T) {
	hold := make(chan bool)
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			hold <- true
			<-hold
		}
		fmt.Fprint(w, "done")
	})
	dial := func(path string) net.Conn {
		c, err := net.Dial("tcp", w.plain)
		w.must(err)
		_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: toad\r\n\r\n")
		w.must(err)
		return c
	}
	idle, busy := dial("/"), dial("/slow")
	defer idle.Close()
	defer busy.Close()
	_, err := http.ReadResponse(bufio.NewReader(idle), nil)
	w.must(err)
	<-hold
	stopped := make(chan bool)
	go func() { w.stop(); close(stopped) }()
	w.must(idle.SetReadDeadline(time.Now().Add(3 * time.Second)))
	if _, err := io.Copy(io.Discard, idle); err != nil {
		t.Errorf("the idle connection: %v", err)
	}
	hold <- true
	got, err := io.ReadAll(busy)
	if err != nil || !strings.Contains(string(got), "Connection: close") || !strings.HasSuffix(string(got), "done") {
		t.Errorf("the busy connection: %q %v", got, err)
	}
	<-stopped
}
