package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// serving is a world where host "toad" goes to one endpoint.
func serving(t *testing.T, handler http.HandlerFunc) *world {
	t.Helper()
	return servingWith(t, func(*Config) {}, handler)
}

func servingWith(t *testing.T, change func(*Config), handler http.HandlerFunc) *world {
	t.Helper()
	_, addr := endpointServer(t, handler)
	return newWorldWith(t, change, service("toad"), slice("toad", addr), toService("toad"))
}

func TestForwardsWhatWasAskedAndWhoAsked(t *testing.T) {
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RequestURI, r.Host)
		_ = r.Header.Write(w) // the client sees what is missing
	})
	req, err := http.NewRequest("PATCH", "http://"+w.plain+"/x/../y%2Fz?a=1;b=%zz", strings.NewReader("body"))
	w.must(err)
	req.Host = "toad:1234"
	for name, value := range map[string]string{
		"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil",
		"X-Real-Ip": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X_Forwarded_For": "6.6.6.6", "Connection": "X-Hop", "X-Hop": "gone", "X-Kept": "kept",
	} {
		req.Header.Set(name, value)
	}
	_, body := w.do(http.DefaultClient, req)
	_, port, _ := strings.Cut(w.plain, ":")
	for _, want := range []string{
		"PATCH /y%2Fz?a=1;b=%zz toad:1234", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: toad:1234", "X-Forwarded-Proto: http\r",
		"X-Forwarded-Port: " + port, "X-Real-Ip: 127.0.0.1", "X-Kept: kept",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	for _, never := range []string{"6.6.6.6", "evil", "X-Hop", "Forwarded: for=6"} {
		if strings.Contains(body, never) {
			t.Errorf("%q in\n%s", never, body)
		}
	}
}

func TestAnswersOfItsOwn(t *testing.T) {
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := http.NewResponseController(w).Hijack()
		c.Close()
	}
	_, broken := endpointServer(t, hangUp)
	dead, deadAddr := endpointServer(t, says("dead"))
	dead.Close()
	w := newWorld(t, toService("missing"), service("empty"), toService("empty"),
		service("broken"), toService("broken"), slice("broken", broken), service("dead"), toService("dead"), slice("dead", deadAddr))
	for host, code := range map[string]int{"unknown": 404, "missing": 503, "empty": 503, "broken": 502, "dead": 502} {
		resp, body := w.get(host, "/")
		if resp.StatusCode != code || len(body) < 10 || len(body) > 80 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %q %v, want %d and a short text", host, resp.StatusCode, body, resp.Header, code)
		}
	}
}

func TestRefusesWhatIsDangerous(t *testing.T) {
	w := serving(t, says("reached"))
	for send, status := range map[string]string{
		"POST / HTTP/1.1\r\nHost: toad\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "400",
		"GET / HTTP/1.1\r\nHost: toad\r\nHost: other\r\n\r\n":                                               "400",
		"GET / HTTP/1.1\r\n\r\n":                                                         "400",
		"GET / HTTP/1.1\nHost: toad\n\n":                                                 "400",
		"GET / HTTP/1.1\r\nHost: toad\r\nX: a\r\n b\r\n\r\n":                             "400",
		"GET /public/..%2fadmin HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n":     "400",
		"GET /../admin HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n":              "400",
		"CONNECT toad:80 HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n":            "405",
		"TRACE / HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n":                    "405",
		"OPTIONS * HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n":                  "400",
		"GET / HTTP/1.1\r\nHost: toad\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n": "431",
	} {
		got := w.raw(send)
		if !strings.HasPrefix(got, "HTTP/1.1 "+status) || strings.Contains(got, "reached") {
			t.Errorf("%.90q: %.90q, want %s", send, got, status)
		}
	}
	// what is refused is not what hides behind it
	got := w.raw("GET /a HTTP/1.1\r\nHost: toad\r\n\r\nPOST /b HTTP/1.1\r\nHost: toad\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /c HTTP/1.1\r\nHost: toad\r\n\r\n")
	if strings.Contains(got, "reached /b") || strings.Contains(got, "reached /c") {
		t.Errorf("a request got past: %q", got)
	}
}

func TestMalformedBodyIsTheClientsFault(t *testing.T) {
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the answer is what counts
		fmt.Fprint(w, "reached")
	})
	got := w.raw("POST / HTTP/1.1\r\nHost: toad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("%q", got)
	}
}

func TestHTTP2WithoutTLS(t *testing.T) {
	w := serving(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " ", r.RequestURI) })
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest("GET", "http://"+w.plain+"/two", nil)
	w.must(err)
	req.Host = "toad"
	resp, body := w.do(&http.Client{Transport: tr}, req)
	if resp.ProtoMajor != 2 || body != "HTTP/1.1 /two" {
		t.Errorf("%s %q", resp.Proto, body)
	}
}

func TestUpgradeToH2CIsNotPassedOn(t *testing.T) {
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "upgrade=%q settings=%q connection=%q", r.Header["Upgrade"], r.Header["Http2-Settings"], r.Header["Connection"])
	})
	got := w.raw("GET / HTTP/1.1\r\nHost: toad\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
	if !strings.Contains(got, "upgrade=[] settings=[] connection=[]") {
		t.Errorf("%q", got)
	}
}

func TestProtocolsOfEndpoints(t *testing.T) {
	proto := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " tls=", r.TLS != nil) }
	h2c := httptest.NewUnstartedServer(http.HandlerFunc(proto))
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	defer h2c.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(proto))
	defer secure.Close()
	_, plain := endpointServer(t, proto)
	w := newWorld(t,
		serviceSpeaking("h2c", "kubernetes.io/h2c"), slice("h2c", addrOf(h2c.Listener)), toService("h2c"),
		serviceSpeaking("secure", "https"), slice("secure", addrOf(secure.Listener)), toService("secure"),
		serviceSpeaking("ws", "kubernetes.io/ws"), slice("ws", plain), toService("ws"))
	w.answers("h2c", "/", 200, "HTTP/2.0 tls=false")
	w.answers("secure", "/", 200, "HTTP/1.1 tls=true")
	w.answers("ws", "/", 200, "HTTP/1.1 tls=false")
}

func echoWebSocket(w http.ResponseWriter, r *http.Request) {
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		kind, data, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, data) != nil {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	w := serving(t, echoWebSocket)
	for _, scheme := range []string{"ws", "wss"} {
		addr := map[string]string{"ws": w.plain, "wss": w.secure}[scheme]
		d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, HandshakeTimeout: 10 * time.Second}
		c, _, err := d.Dial(scheme+"://"+addr+"/chat", http.Header{"Host": {"toad"}})
		w.must(err)
		for _, text := range []string{"one", strings.Repeat("x", 200<<10)} {
			w.must(c.WriteMessage(websocket.TextMessage, []byte(text)))
			_, got, err := c.ReadMessage()
			if err != nil || string(got) != text {
				t.Errorf("%s: %d bytes back of %d, %v", scheme, len(got), len(text), err)
			}
		}
		c.Close()
	}
}

// TestServerSentEventsComeAtOnce: each event passes before the next one is made, also within a known length.
func TestServerSentEventsComeAtOnce(t *testing.T) {
	next := make(chan struct{})
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "27")
		}
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush() // the next one waits for the client to have read it
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	for _, path := range []string{"/", "/sized"} {
		w.readEvents(path, next)
	}
}

func (w *world) readEvents(path string, next chan struct{}) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+w.plain+path, nil)
	w.must(err)
	req.Host = "toad"
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) || !lines.Scan() {
			w.t.Fatalf("%s: event %d: %q, %v", path, i, lines.Text(), lines.Err())
		}
		next <- struct{}{}
	}
}

func TestExpectContinueEarlyHintsAndTrailers(t *testing.T) {
	w := serving(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		n, _ := io.Copy(io.Discard, r.Body) // the count tells
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprint(w, n)
		w.Header().Set("X-Sum", "42")
	})
	req, err := http.NewRequest("PUT", "http://"+w.plain, strings.NewReader(strings.Repeat("x", 1<<20)))
	w.must(err)
	req.Host = "toad"
	req.Header.Set("Expect", "100-continue")
	var continued, hinted bool
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got100Continue: func() { continued = true },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hinted = hinted || code == 103 && h.Get("Link") != ""
			return nil
		},
	})
	tr := &http.Transport{ExpectContinueTimeout: 10 * time.Second}
	defer tr.CloseIdleConnections()
	resp, body := w.do(&http.Client{Transport: tr}, req.WithContext(ctx))
	if body != "1048576" || !continued || !hinted || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("body %q, continued %v, hinted %v, trailer %v", body, continued, hinted, resp.Trailer)
	}
}

func TestStopDrains(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	_, addr := endpointServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			echoWebSocket(w, r)
			return
		}
		close(arrived)
		<-finish
		fmt.Fprint(w, "finished")
	})
	w := newWorld(t, service("toad"), slice("toad", addr), toService("toad"))
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+w.plain+"/ws", http.Header{"Host": {"toad"}})
	w.must(err)
	defer ws.Close()
	got := make(chan string, 1)
	go func() {
		req, _ := http.NewRequest("GET", "http://"+w.plain+"/slow", nil) // a constant URL parses
		req.Host = "toad"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body) // what came is compared
		got <- string(body)
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	w.eventually(func() error {
		c, err := net.Dial("tcp", w.plain)
		if err == nil {
			c.Close()
			return fmt.Errorf("still accepting")
		}
		return nil
	})
	close(finish)
	if text := <-got; text != "finished" {
		t.Errorf("the request under way got %q", text)
	}
	w.must(ws.SetReadDeadline(time.Now().Add(20 * time.Second)))
	if _, _, err := ws.ReadMessage(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the WebSocket is still open: %v", err)
	}
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Fatal("Run did not end")
	}
}
