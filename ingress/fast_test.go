package ingress

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// FuzzFastHead: whatever the fast path takes for an ordinary request, the strict scanner and net/http understand in
// the same way, to the byte.
func FuzzFastHead(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nX-Y: z\r\n\r\nabcGET",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: u\r\nReferer: r\r\nTE: trailers\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h fastHead
		if h.parse(b) != headOrdinary {
			return
		}
		path, _, _ := strings.Cut(string(h.target), "?")
		if _, err := CleanPath(path); err != nil {
			return // left to net/http when the path is looked at
		}
		var s scanner
		if _, err := s.feed(b[:h.size]); err != nil {
			t.Fatalf("the scanner refuses what the fast path takes: %v", err)
		}
		if h.length > 0 && (s.state != inLengthBody || s.left != int64(h.length)) || h.length == 0 && s.state != inRequestLine {
			t.Fatalf("the body: %d for the fast path, %v %d for the scanner", h.length, s.state, s.left)
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:h.size])))
		if err != nil {
			t.Fatalf("net/http refuses what the fast path takes: %v", err)
		}
		if req.Method != string(h.method) || req.RequestURI != string(h.target) || req.Host != string(h.host) || req.ContentLength != int64(h.length) || req.Close != h.close {
			t.Fatalf("%+v is something else than %s %s %s %d %v", req, h.method, h.target, h.host, h.length, h.close)
		}
	})
}

// FuzzAnswerHead: what is taken for the head of an answer is one for net/http, too, with the same frame.
func FuzzAnswerHead(f *testing.F) {
	for _, seed := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.0 404\r\nConnection: keep-alive, x\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200\r\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h answerHead
		if done, err := h.parse(b); !done || err != nil {
			return
		}
		out := h.appendTo(nil, false)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
		if err != nil {
			return // it checks more than we do: values, and what the code allows
		}
		if resp.StatusCode != h.code || h.chunked != (len(resp.TransferEncoding) == 1) || !h.chunked && h.length >= 0 && !h.bodyless("GET") && resp.ContentLength != h.length {
			t.Fatalf("%+v is something else than %d %d %v", resp, h.code, h.length, h.chunked)
		}
	})
}

// FuzzChunks: the end of a chunked answer is where net/http sees it.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nHTTP", "a;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n", "\r\n", "3\nabc\n0\n\n"} {
		f.Add([]byte(seed), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var c chunks
		at := 0
		for at < len(b) && c.state != chunkDone {
			end := min(at+int(step)+1, len(b))
			n, err := c.feed(b[at:end])
			if err != nil {
				return
			}
			at += n
			if n == 0 {
				break
			}
		}
		if c.state != chunkDone {
			return
		}
		in := bufio.NewReader(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(b)))
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Skip()
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Skip() // net/http also checks what trailers say
		}
		if rest, _ := io.ReadAll(in); len(rest) != len(b)-at {
			t.Fatalf("%d bytes behind the body, net/http sees %d", len(b)-at, len(rest))
		}
	})
}

// TestFastHeads: what is ordinary, and what is left to the strict reader.
func TestFastHeads(t *testing.T) {
	for head, want := range map[string]headState{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                               headOrdinary,
		"GET /?x HTTP/1.1\r\nhost:a:80\r\nConnection: Keep-Alive\r\n\r\n": headOrdinary,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n":         headOrdinary,
		"GET / HTTP/1.1\r\nHost: a\r\n":                                   headMore,
		"":                                                                headMore,
		"GET / HTTP/1.1\nHost: a\n\n":                                     headUnusual,
		"\nGET / HTTP/1.1\r\n":                                            headUnusual,
		"GET / HTTP/1.1\r\nX: y\r\n\n":                                    headUnusual, "GET / HTTP/1.1\r\nX: y\n": headUnusual, "GET / HTTP/1.1\r\n\rX": headUnusual, "GET / HTTP/1.1\r\nX: y\r\n\r": headMore,
		"GET / HTTP/1.1\r\nHost: a:80y\r\n\r\n": headUnusual, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n": headUnusual, "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n": headOrdinary,
		"GET / HTTP/1.0\r\nHost: a\r\n\r\n":                                                                    headUnusual,
		"GET / HTTP/1.1\r\n\r\n":                                                                               headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n":                                                         headUnusual,
		"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n":                                                                  headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n":                                                      headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n":                                                           headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n":                                                         headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n":                                                       headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n":                                                      headUnusual,
		"GET  / HTTP/1.1\r\nHost: a\r\n\r\n":                                                                   headUnusual,
		"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n":                                                                 headUnusual,
		"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n":                                                                  headUnusual,
		"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n":                                                            headUnusual,
		"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n":                                                             headUnusual,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n":                         headUnusual,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n":                                             headUnusual,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n":                                          headUnusual,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n":                                     headUnusual,
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n":                                           headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                       headOrdinary,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n\r\n":           headOrdinary,
		"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                      headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nx": headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n":                             headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n": headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n":                headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n":                                             headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n":                                              headUnusual,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\n\r\n":                                               headUnusual,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                                     headUnusual,
		"GET / HTTP/1.1\r\r\n\r\n":                                                                             headUnusual,
		"GET / HTTP/1.1\rxHost: a\r\n\r\n":                                                                     headUnusual,
	} {
		var h fastHead
		if got := h.parse([]byte(head)); got != want {
			t.Errorf("%q: %d, want %d", head, got, want)
		}
	}
}

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
	g := w.ingress.server.plain.table.Load().Match("toad", "/", httpView{}).groups[0]
	w.eventually(func() error {
		if g.requests.inside.Load() != 1 {
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

func TestFastHeadDoesNotAllocate(t *testing.T) {
	b := []byte("GET /some/path?x=y HTTP/1.1\r\nHost: h0.test\r\nUser-Agent: wrk\r\nAccept: */*\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
	var h fastHead
	c := Forwarded{Client: netip.MustParseAddr("192.0.2.1"), Peer: "192.0.2.1", Proto: "http", Port: "80", Node: "192.0.2.1"}
	out := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if h.parse(b) != headOrdinary {
			t.Fatal("not ordinary")
		}
		to := Target{Path: "/some/path", Query: "x=y", HasQuery: true, Host: text(h.host)}
		out = h.appendRequest(out[:0], &to, &c)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if bytes.Contains(out, []byte("6.6.6.6")) || !bytes.HasPrefix(out, []byte("GET /some/path?x=y HTTP/1.1\r\nHost: h0.test\r\nUser-Agent: wrk\r\n")) {
		t.Errorf("%q", out)
	}
}
