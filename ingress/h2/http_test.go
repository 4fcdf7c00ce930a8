package h2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

// serving is a client of net/http's that speaks HTTP/2 with handler, and the URL.
func serving(t *testing.T, handler http.HandlerFunc) (*http.Client, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := Peer{Context: context.WithValue(context.Background(), http.ServerContextKey, &http.Server{}), RemoteAddr: "192.0.2.1:1"}
	cfg := limits(func(st *Stream) {
		defer func() { _ = recover() }() // http.ErrAbortHandler
		st.ServeHTTP(handler, peer)
	})
	cfg.MaxStreams = 100
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(NewConn(cfg, c, nil).Serve)
		}
	})
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() {
		l.Close()
		over := make(chan struct{})
		go func() { conns.Wait(); close(over) }()
		for { // a connection is idle only when the client has heard what became of a stream that it gave up
			tr.CloseIdleConnections()
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}, "http://" + l.Addr().String()
}

// TestBodies: many times the windows, both ways at once, byte for byte.
func TestBodies(t *testing.T) {
	client, url := serving(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		sum := sha256.New()
		if _, err := io.Copy(io.MultiWriter(w, sum), r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x %s", sum.Sum(nil), r.Trailer.Get("X-Said")))
	})
	var clients sync.WaitGroup
	for i := range 5 {
		clients.Go(func() {
			body := make([]byte, 3<<20+i)
			_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(body) // it does not fail
			req, err := http.NewRequest("POST", url+"/a?b", io.MultiReader(bytes.NewReader(body)))
			if err != nil {
				t.Error(err)
				return
			}
			req.Trailer = http.Header{"X-Said": {"well"}}
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes came back of %d: %v", len(got), len(body), err)
			}
			if want := fmt.Sprintf("%x well", sha256.Sum256(body)); resp.Trailer.Get("X-Sum") != want {
				t.Errorf("trailer %q, want %q", resp.Trailer.Get("X-Sum"), want)
			}
		})
	}
	clients.Wait()
}

// TestHandlers: what an http.Handler may count on.
func TestHandlers(t *testing.T) {
	client, url := serving(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			fmt.Fprint(w, "done")
		case "/abort":
			fmt.Fprint(w, "a part")
			_ = http.NewResponseController(w).Flush() // the client sees what came
			panic(http.ErrAbortHandler)
		case "/early answer":
			w.WriteHeader(413)
		case "/empty":
			w.WriteHeader(204)
		case "/late":
			w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
			fmt.Fprint(w, "body")
		default:
			fmt.Fprintf(w, "%s %s %s %q %s", r.Method, r.RequestURI, r.Host, r.Header["Cookie"], r.RemoteAddr)
		}
	})
	ask := func(method, path string, body io.Reader, change func(*http.Request)) (*http.Response, string, error) {
		req, err := http.NewRequest(method, url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(req)
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp, string(text), err
	}
	_, got, err := ask("GET", "/a%2Fb?c=d", nil, func(r *http.Request) {
		r.Host = "toad"
		r.AddCookie(&http.Cookie{Name: "a", Value: "1"})
		r.AddCookie(&http.Cookie{Name: "b", Value: "2"})
	})
	if want := `GET /a%2Fb?c=d toad ["a=1; b=2"] 192.0.2.1:1`; got != want || err != nil {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	var early string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		early = fmt.Sprint(code, h.Get("Link"))
		return nil
	}}
	resp, got, err := ask("GET", "/early", nil, func(r *http.Request) { *r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace)) })
	if err != nil || got != "done" || early != "103</a.css>" || resp.Header.Get("Link") != "" || resp.Header.Get("Date") == "" {
		t.Errorf("%q %q %v", got, early, err)
	}
	if _, got, err := ask("GET", "/abort", nil, nil); err == nil || got != "a part" {
		t.Errorf("a cut off answer looks complete: %q", got)
	}
	if resp, _, err := ask("POST", "/early%20answer", endless{}, nil); err != nil || resp.StatusCode != 413 {
		t.Errorf("an answer before the end of the body: %v", err)
	}
	if resp, got, err := ask("GET", "/empty", nil, nil); err != nil || resp.StatusCode != 204 || got != "" {
		t.Errorf("204: %q %v", got, err)
	}
	if resp, got, err := ask("HEAD", "/", nil, nil); err != nil || resp.StatusCode != 200 || got != "" {
		t.Errorf("HEAD: %q %v", got, err)
	}
	if resp, got, err := ask("GET", "/late", nil, nil); err != nil || got != "body" || resp.Trailer.Get("X-Late") != "yes" {
		t.Errorf("late trailer: %q %v", resp.Trailer, err)
	}
	if resp, got, err := ask("POST", "/", strings.NewReader("x"), func(r *http.Request) { r.Header.Set("Expect", "100-continue") }); err != nil || resp.StatusCode != 200 {
		t.Errorf("Expect: %q %v", got, err)
	}
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestClientGoesAway: the handler hears it, by its context and its reads.
func TestClientGoesAway(t *testing.T) {
	heard := make(chan error, 2)
	begun := make(chan struct{})
	client, url := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		_, err := io.Copy(io.Discard, r.Body)
		heard <- err
		<-r.Context().Done()
		heard <- context.Cause(r.Context())
	})
	ctx, cancel := context.WithCancel(context.Background())
	body, feed := io.Pipe()
	defer feed.Close()
	req, err := http.NewRequestWithContext(ctx, "POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := client.Do(req); err == nil {
			t.Error("a request that was given up is answered")
		}
	})
	<-begun
	cancel()
	for range 2 {
		if err := <-heard; !errors.Is(err, context.Canceled) {
			t.Errorf("heard %v", err)
		}
	}
	asking.Wait()
}
