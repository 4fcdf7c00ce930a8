package echo

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// lameDuck is how long connections that are idle are kept, and answered, once the server is to end. A server that hangs up
// on an idle connection loses the request that is just entering it.
const lameDuck = 3 * time.Second

// closing is left of the grace period for what comes then: speakUp, and the second that HTTP/2 waits after its last GOAWAY.
const closing = 2 * time.Second

// guests are the connections of all listeners.
type guests struct {
	fresh   atomic.Int64   // whose first request no handler has seen
	leaving atomic.Bool    // the answer to the next request is the last one
	telling sync.WaitGroup // clients of HTTP/2 of that
	mu      sync.Mutex
	open    map[*guest]bool
}

// add takes a connection in.
func (all *guests) add(conn net.Conn) *guest {
	g := &guest{Conn: conn, all: all}
	all.fresh.Add(1)
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.open == nil {
		all.open = map[*guest]bool{}
	}
	all.open[g] = true
	return g
}

// leave returns when no connection is left, after at most the time given. Leaving is set.
func (all *guests) leave(ctx context.Context, wait time.Duration) {
	for _, g := range all.list() {
		if g.http2.Load() {
			all.telling.Go(g.goAway)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(all.list()) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (all *guests) list() []*guest {
	all.mu.Lock()
	defer all.mu.Unlock()
	list := make([]*guest, 0, len(all.open))
	for g := range all.open {
		list = append(list, g)
	}
	return list
}

// guest is a connection that counts as fresh until a handler has a request of it, or it ends.
type guest struct {
	net.Conn
	all   *guests
	known atomic.Bool
	begun []byte      // what the client began with, as long as it may be HTTP/2
	http2 atomic.Bool // the client speaks it

	writing sync.Mutex // held while something is written, and for what follows
	frames  frames
	parted  bool // farewell was written
}

func (g *guest) greet() {
	if g.known.CompareAndSwap(false, true) {
		g.all.fresh.Add(-1)
	}
}

// Read looks at how the client begins.
func (g *guest) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if len(g.begun) < len(preface) && bytes.HasPrefix(preface, g.begun) {
		g.begun = append(g.begun, p[:min(n, len(preface)-len(g.begun))]...)
		if bytes.Equal(g.begun, preface) {
			g.http2.Store(true)
		}
	}
	return n, err
}

// Write follows the frames of HTTP/2.
func (g *guest) Write(p []byte) (int, error) {
	if !g.http2.Load() {
		return g.Conn.Write(p)
	}
	g.writing.Lock()
	defer g.writing.Unlock()
	n, err := g.Conn.Write(p)
	g.frames.add(p[:n])
	if err == nil && g.all.leaving.Load() {
		err = g.sayFarewell()
	}
	return n, err
}

// goAway tells a client of HTTP/2 to open no more streams; in the midst of a frame, the next Write does.
func (g *guest) goAway() {
	g.writing.Lock()
	defer g.writing.Unlock()
	_ = g.sayFarewell() // a client that is gone needs none
}

func (g *guest) sayFarewell() error {
	if g.parted || !g.frames.between() {
		return nil
	}
	g.parted = true
	_, err := g.Conn.Write(farewell)
	return err
}

// Close ends the connection.
func (g *guest) Close() error {
	g.greet()
	g.all.mu.Lock()
	delete(g.all.open, g)
	g.all.mu.Unlock()
	return g.Conn.Close()
}

type guestKey struct{}

// withGuest is an http.Server.ConnContext.
func withGuest(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, guestKey{}, conn)
}

// greeting tells of each request that has reached a handler.
func greeting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g, ok := r.Context().Value(guestKey{}).(*guest); ok {
			g.greet()
		}
		next.ServeHTTP(w, r)
	})
}
