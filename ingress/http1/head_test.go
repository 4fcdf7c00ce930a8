package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
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
		var h RequestHead
		if h.Parse(b) != HeadPlain {
			return
		}
		path, _, _ := strings.Cut(string(h.Target), "?")
		if _, err := url.ParseRequestURI(path); err != nil {
			return // refused when the path is looked at
		}
		var s Scanner
		if _, err := s.Feed(b[:h.Size]); err != nil {
			t.Fatalf("the scanner refuses what the fast path takes: %v", err)
		}
		if h.Length > 0 && (s.state != inLengthBody || s.left != int64(h.Length)) || h.Length == 0 && s.state != inRequestLine {
			t.Fatalf("the body: %d for the fast path, %v %d for the scanner", h.Length, s.state, s.left)
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:h.Size])))
		if err != nil {
			t.Fatalf("net/http refuses what the fast path takes: %v", err)
		}
		if req.Method != string(h.Method) || req.RequestURI != string(h.Target) || req.Host != string(h.Host) || req.ContentLength != int64(h.Length) || req.Close != h.Close {
			t.Fatalf("%+v is something else than %s %s %s %d %v", req, h.Method, h.Target, h.Host, h.Length, h.Close)
		}
	})
}

// FuzzAnswerHead: what is taken for the head of an answer is one for net/http, too, with the same frame.
func FuzzAnswerHead(f *testing.F) {
	for _, seed := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.0 404\r\nConnection: keep-alive, x\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200\r\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h ResponseHead
		if done, err := h.Parse(b); !done || err != nil {
			return
		}
		out := h.AppendTo(nil, false)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
		if err != nil {
			return // it checks more than we do: values, and what the code allows
		}
		if resp.StatusCode != h.Code || h.Chunked != (len(resp.TransferEncoding) == 1) || !h.Chunked && h.Length >= 0 && !h.Bodyless("GET") && resp.ContentLength != h.Length {
			t.Fatalf("%+v is something else than %d %d %v", resp, h.Code, h.Length, h.Chunked)
		}
	})
}

// FuzzChunks: the end of a chunked answer is where net/http sees it.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nHTTP", "a;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n", "\r\n", "3\nabc\n0\n\n"} {
		f.Add([]byte(seed), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var c Chunks
		at := 0
		for at < len(b) && c.State != ChunkDone {
			end := min(at+int(step)+1, len(b))
			n, err := c.Feed(b[at:end])
			if err != nil {
				return
			}
			at += n
			if n == 0 {
				break
			}
		}
		if c.State != ChunkDone {
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
	for head, want := range map[string]HeadState{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                               HeadPlain,
		"GET /?x HTTP/1.1\r\nhost:a:80\r\nConnection: Keep-Alive\r\n\r\n": HeadPlain,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n":         HeadPlain,
		"GET / HTTP/1.1\r\nHost: a\r\n":                                   HeadIncomplete,
		"":                                                                HeadIncomplete,
		"GET / HTTP/1.1\nHost: a\n\n":                                     HeadOther,
		"\nGET / HTTP/1.1\r\n":                                            HeadOther,
		"GET / HTTP/1.1\r\nX: y\r\n\n":                                    HeadOther, "GET / HTTP/1.1\r\nX: y\n": HeadOther, "GET / HTTP/1.1\r\n\rX": HeadOther, "GET / HTTP/1.1\r\nX: y\r\n\r": HeadIncomplete,
		"GET / HTTP/1.1\r\nHost: a:80y\r\n\r\n": HeadOther, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n": HeadOther, "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n": HeadPlain,
		"GET / HTTP/1.0\r\nHost: a\r\n\r\n":                                                                    HeadOther,
		"GET / HTTP/1.1\r\n\r\n":                                                                               HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n":                                                         HeadOther,
		"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n":                                                                  HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n":                                                      HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n":                                                           HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n":                                                         HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n":                                                       HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n":                                                      HeadOther,
		"GET  / HTTP/1.1\r\nHost: a\r\n\r\n":                                                                   HeadOther,
		"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n":                                                                 HeadOther,
		"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n":                                                                  HeadOther,
		"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n":                                                            HeadOther,
		"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n":                                                             HeadOther,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n":                         HeadOther,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n":                                             HeadOther,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n":                                          HeadOther,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n":                                     HeadOther,
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n":                                           HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                       HeadPlain,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n\r\n":           HeadPlain,
		"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                      HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nx": HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n":                             HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n": HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n":                HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n":                                             HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n":                                              HeadOther,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\n\r\n":                                               HeadOther,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                                     HeadOther,
		"GET / HTTP/1.1\r\r\n\r\n":                                                                             HeadOther,
		"GET / HTTP/1.1\rxHost: a\r\n\r\n":                                                                     HeadOther,
	} {
		var h RequestHead
		if got := h.Parse([]byte(head)); got != want {
			t.Errorf("%q: %d, want %d", head, got, want)
		}
	}
}

func TestFastHeadDoesNotAllocate(t *testing.T) {
	b := []byte("GET /some/path?x=y HTTP/1.1\r\nHost: h0.test\r\nUser-Agent: wrk\r\nAccept: */*\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
	var h RequestHead
	c := Forwarded{Client: netip.MustParseAddr("192.0.2.1"), Peer: "192.0.2.1", Proto: "http", Port: "80", Node: "192.0.2.1"}
	out := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if h.Parse(b) != HeadPlain {
			t.Fatal("not ordinary")
		}
		to := Target{Path: "/some/path", Query: "x=y", HasQuery: true, Host: Text(h.Host)}
		out = h.AppendRequest(out[:0], &to, &c)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if bytes.Contains(out, []byte("6.6.6.6")) || !bytes.HasPrefix(out, []byte("GET /some/path?x=y HTTP/1.1\r\nHost: h0.test\r\nUser-Agent: wrk\r\n")) {
		t.Errorf("%q", out)
	}
}
