package ingress

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	networkingv1 "k8s.io/api/networking/v1"

	"svcplane/ingress/source/ingress/annotations"
)

// wireWay is a way through the ingress for requests that no client library would send.
type wireWay struct {
	name   string
	http2  bool
	grpc   bool // the endpoint speaks HTTP/2
	fields []string
}

var wireWays = []wireWay{
	{name: "fast"},
	{name: "net/http", fields: []string{"Connection", "x-nothing"}},
	{name: "WebSocket", fields: []string{"Connection", "Upgrade", "Upgrade", "websocket"}},
	{name: "WebSocket by net/http", fields: []string{"Connection", "Upgrade, x-nothing", "Upgrade", "websocket"}},
	{name: "HTTP/2", http2: true},
	{name: "HTTP/2 through the handler", http2: true, fields: []string{"trailer", "x-nothing"}},
	{name: "gRPC", http2: true, grpc: true, fields: []string{"content-type", "application/grpc", "te", "trailers"}},
}

// send sends a request this way and returns the code and the body; 0: the stream or connection ended without an answer.
func (v wireWay) send(w *world, host, target string, fields ...string) (int, string) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.plain)
	w.must(err)
	defer c.Close()
	w.must(c.SetDeadline(time.Now().Add(15 * time.Second)))
	fields = append(fields, v.fields...)
	if v.http2 {
		return v.sendHTTP2(w, c, host, target, fields)
	}
	var head strings.Builder
	fmt.Fprintf(&head, "GET %s HTTP/1.1\r\nHost: %s\r\n", target, host)
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&head, "%s: %s\r\n", fields[i], fields[i+1])
	}
	_, err = io.WriteString(c, head.String()+"\r\n")
	w.must(err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	return resp.StatusCode, string(body)
}

func (v wireWay) sendHTTP2(w *world, c net.Conn, host, target string, fields []string) (code int, body string) {
	w.t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	all := append([]string{":method", "GET", ":scheme", "http", ":authority", host, ":path", target}, fields...)
	for i := 0; i < len(all); i += 2 {
		w.must(enc.WriteField(hpack.HeaderField{Name: strings.ToLower(all[i]), Value: all[i+1]}))
	}
	_, err := io.WriteString(c, http2.ClientPreface)
	w.must(err)
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = 1 << 20
	w.must(framer.WriteSettings())
	first := block.Next(16 << 10)
	w.must(framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndStream: true, EndHeaders: block.Len() == 0}))
	for block.Len() > 0 {
		part := block.Next(16 << 10)
		w.must(framer.WriteContinuation(1, block.Len() == 0, part))
	}
	for {
		f, err := framer.ReadFrame()
		w.must(err)
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if status := f.PseudoValue("status"); status != "" {
				_, err := fmt.Sscan(status, &code)
				w.must(err)
			}
		case *http2.DataFrame:
			body += string(f.Data())
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return 0, f.ErrCode.String()
			}
		}
		if f.Header().StreamID == 1 && f.Header().Flags.Has(http2.FlagDataEndStream) && f.Header().Type != http2.FrameWindowUpdate {
			return code, body
		}
	}
}

// host is the one that has endpoints for this way.
func (v wireWay) host(name string) string {
	if v.grpc {
		return "grpc-" + name
	}
	return name
}

// wireWorld has an endpoint that tells what it saw, for HTTP/1.1 and for HTTP/2: host "toad" is open but for /admin,
// host "inner" closed but for /public.
func wireWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if size, ok := strings.CutPrefix(r.URL.Path, "/answer/"); ok {
			kib, _ := strconv.Atoi(size) // it is a number
			w.Header().Set("X-Large", strings.Repeat("x", kib<<10))
		}
		for i := 0; r.URL.Path == "/fields" && i < 400; i++ {
			w.Header().Add("X-Field", "x")
		}
		fmt.Fprintf(w, "%s %s proxy=%q", r.RequestURI, r.Host, r.Header["Proxy"])
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	addr := addrOf(s.Listener)
	var open, closed []networkingv1.IngressRule
	for _, way := range []wireWay{{}, {grpc: true}} {
		to := way.host("toad")
		open = append(open, rule(to, path("/", networkingv1.PathTypePrefix, to)), rule(way.host("inner"), path("/public", networkingv1.PathTypePrefix, to)))
		closed = append(closed, rule(to, path("/admin", networkingv1.PathTypePrefix, to)), rule(way.host("inner"), path("/", networkingv1.PathTypePrefix, to)))
	}
	kept := anIngress("closed", closed...)
	kept.Annotations = map[string]string{annotations.OwnPrefix + "denylist-source-range": "127.0.0.0/8"}
	return newWorldWith(t, change, service("toad"), slice("toad", addr), serviceSpeaking("grpc-toad", "grpc"), slice("grpc-toad", addr), anIngress("open", open...), kept)
}

// TestPathsOnTheWire: a path arrives as it came, and no way of writing it passes a rule. A code below is the answer; none
// means that the endpoint sees the text behind the arrow, or else the path itself.
func TestPathsOnTheWire(t *testing.T) {
	w := wireWorld(t, func(*Config) {})
	for row, want := range map[string]string{
		// as they came
		"toad /a//b": "", "toad //a": "", "toad /a//": "", "toad /%7Euser": "", "toad /%61b": "", "toad /a%2fb": "", "toad /a%2Fb%3d?c=%2f//": "",
		"toad /get/https://x.test//y": "", "toad /a;v=1/b": "", "toad /a%5Cb": "", "toad /a%3Fb%23c": "", "toad /100%25": "", "toad /a%252Fb": "", "toad /a[1]": "",
		"toad /caf%c3%a9": "", "toad //admins": "", "toad /a/admin//x": "",
		"toad /a/./b/../c%7e": "/a/c%7e", "toad /a//../b": "/a/b", "toad /a/%2e%2e/b%7E": "/b%7E",
		// what everybody reads as /admin
		"toad /admin": "403", "toad //admin": "403", "toad ///admin//x": "403", "toad /%61dmin": "403", "toad /%61%64min/%7E": "403", "toad /x/../admin": "403",
		"toad /./admin": "403", "toad /x/%2E%2e/admin": "403", "toad /admin/": "403", "toad /admin//": "403",
		// what some read as /admin
		"toad /admin%2Fx": "400", "toad /admin%2fx": "400", "toad /%2Fadmin": "400", "toad /%5cadmin": "400", "toad /admin%5Cx": "400", "toad /admin;x": "400",
		"toad /admin;x=1/y": "400", "toad /;x/admin": "400", "toad /admin%3Bx": "400", "toad /admin%3Fx": "400", "toad /admin%23": "400", "toad /%2561dmin": "400",
		"toad /admin%252Fx": "400", "toad //%2561dmin;x%2F": "400", "toad /x;/..%2Fadmin": "400",
		// what nobody should read at all
		"toad /x/..%2fadmin": "400", "toad /x/..;/admin": "400", "toad /x/%2e%2e%5Cadmin": "400", "toad /x/%252e%252e/admin": "400", "toad /admin%00": "400",
		"toad /../admin": "400", "toad /a%zz": "400", "toad /a%2": "400", "toad /..": "400",
		// the other way about: what only we would read as /public
		"inner /public/x%7E": "", "inner /public": "", "inner /public//x": "", "inner /x/../public/y": "/public/y",
		"inner //public": "400", "inner /public/../x": "403", "inner /public%2Fx": "403", "inner /publi%63;x": "403", "inner /public;/x": "403", "inner /x//public": "403",
		"inner /public/..//x": "403", "inner /public/x;/y": "",
	} {
		host, target, _ := strings.Cut(row, " ")
		for _, v := range wireWays {
			code, body := v.send(w, v.host(host), target)
			saw, _, _ := strings.Cut(body, " ")
			switch {
			case len(want) == 3:
				if fmt.Sprint(code) != want && (want != "400" || code != 0 || !v.http2) { // a malformed :path ends a stream
					t.Errorf("%s, %s: %d %q, want %s", row, v.name, code, body, want)
				}
			case code != 200 || want == "" && saw != target || want != "" && saw != want:
				t.Errorf("%s, %s: %d, arrived as %q, want %q", row, v.name, code, saw, want)
			}
		}
	}
}

// TestHostsOnTheWire: a Host that is none is refused on each way, by name or by number, and a Proxy header ends here.
func TestHostsOnTheWire(t *testing.T) {
	w := wireWorld(t, func(*Config) {})
	for _, v := range wireWays {
		for _, suffix := range []string{":x", ":80y", ":65536", ":-1", ":80:80", "/x", "@toad", "?x", ":80 ", "\\x", ",toad"} {
			if suffix == ":80 " && !v.http2 {
				continue // a blank around a value is no part of it
			}
			if code, body := v.send(w, v.host("toad")+suffix, "/"); code != 400 && (code != 0 || !v.http2) {
				t.Errorf("%s%s, %s: %d %q, want 400", v.host("toad"), suffix, v.name, code, body)
			}
		}
		for _, host := range []string{"[::1", "[toad]", "x@" + v.host("toad"), ":80"} {
			if code, body := v.send(w, host, "/"); code != 400 {
				t.Errorf("%s, %s: %d %q, want 400", host, v.name, code, body)
			}
		}
		for _, suffix := range []string{"", ":80", ":", ".", ".:65535"} {
			want := v.host("toad") + suffix + " proxy=[]"
			if code, body := v.send(w, v.host("toad")+suffix, "/", "Proxy", "evil:3128"); code != 200 || body != "/ "+want {
				t.Errorf("%s, %s: %d %q, want %q", suffix, v.name, code, body, want)
			}
		}
		if code, _ := v.send(w, "[::1]:80", "/"); code != 404 {
			t.Errorf("[::1]:80, %s: %d, want 404: nobody's host", v.name, code)
		}
	}
}

// TestHeadsOnTheWire: heads of requests and of answers may have 32 KiB on each way; more is answered 431 and 502.
func TestHeadsOnTheWire(t *testing.T) {
	w := wireWorld(t, func(*Config) {})
	for _, v := range wireWays {
		if code, body := v.send(w, v.host("toad"), "/", "X-Large", strings.Repeat("x", 31<<10)); code != 200 {
			t.Errorf("a request with 31 KiB, %s: %d %q", v.name, code, body)
		}
		if code, body := v.send(w, v.host("toad"), "/", "X-Large", strings.Repeat("x", 40<<10)); code != 431 {
			t.Errorf("a request with 40 KiB, %s: %d %q, want 431", v.name, code, body)
		}
		for size, want := range map[string]int{"17": 200, "31": 200, "34": 502} {
			if code, _ := v.send(w, v.host("toad"), "/answer/"+size); code != want {
				t.Errorf("an answer with %s KiB, %s: %d, want %d", size, v.name, code, want)
			}
		}
		if code, _ := v.send(w, v.host("toad"), "/fields"); code != 200 {
			t.Errorf("an answer with 400 fields, %s: %d", v.name, code)
		}
	}
}

// TestNoWait: what can never become a request is refused at once, not when the time for a head is over.
func TestNoWait(t *testing.T) {
	w := wireWorld(t, func(*Config) {})
	for _, before := range []string{"", "GET /a HTTP/1.1\r\nHost: toad\r\n\r\n", "GET /a HTTP/1.1\r\nHost: toad\r\nConnection: x-nothing\r\n\r\n"} {
		for _, head := range []string{"X: y\r\n\n", "X: y\n\r\n", "X: y\n", "\n", "X: y\rz", "\rX"} {
			began := time.Now()
			got := w.raw(before + "GET / HTTP/1.1\r\nHost: toad\r\n" + head)
			if took := time.Since(began); !strings.Contains(got, "HTTP/1.1 400 ") || took > 4*time.Second {
				t.Errorf("%q behind %q: %q after %v", head, before, got, took)
			}
		}
	}
}

// TestForbiddenTrailers: what an HTTP/2 client announces and may not is dropped, and its request served.
func TestForbiddenTrailers(t *testing.T) {
	w := wireWorld(t, func(*Config) {})
	for _, v := range wireWays {
		for _, name := range []string{"transfer-encoding", "content-length", "trailer", "host, x-late"} {
			if v.http2 {
				if code, body := v.send(w, v.host("toad"), "/", "trailer", name); code != 200 {
					t.Errorf("trailer: %s, %s: %d %q", name, v.name, code, body)
				}
			}
		}
	}
}
