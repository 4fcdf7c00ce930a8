package serve

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/net/http2"
	"k8s.io/klog/v2"

	"svcplane/ingress/h2"
	"svcplane/ingress/http1"
	"svcplane/ingress/listen"
	"svcplane/ingress/route"
)

// http2Conn serves the requests of one HTTP/2 connection: plain ones without net/http, each in the goroutine of
// its stream, the others by the server's handler.
type http2Conn struct {
	*h2.Conn
	s       *Server
	l       *listener
	who     http1.Forwarded
	trusted bool
	sni     string
	peer    h2.Peer
}

// startsHTTP2 says whether a connection begins as HTTP/2 by prior knowledge (RFC 9113 section 3.3), as far as it came.
func startsHTTP2(read []byte) bool {
	n := min(len(read), len(http2.ClientPreface))
	return n >= 3 && string(read[:n]) == http2.ClientPreface[:n]
}

// serveHTTP2 serves a client's connection, over TLS if secure is not nil, to its end.
func (s *Server) serveHTTP2(l *listener, c *listen.Conn, secure *tls.Conn, read []byte) {
	p := &http2Conn{s: s, l: l, who: identify(c, secure != nil), trusted: route.Within(s.trusted, c.Remote.Addr())}
	var rw net.Conn = c
	if secure != nil {
		rw = secure
		secure.NetConn().(*listen.TLSConn).Release()
		state := secure.ConnectionState()
		p.peer.TLS, p.sni = &state, state.ServerName
	}
	p.peer.RemoteAddr = c.Remote.String()
	// ReverseProxy ends a cut off answer as such only if it finds a server here.
	ctx := context.WithValue(context.WithValue(context.Background(), listenerKey{}, l), http.ServerContextKey, s.hs)
	p.peer.Context = context.WithValue(ctx, http.LocalAddrContextKey, c.LocalAddr())
	p.Conn = h2.NewConn(&h2.Config{Serve: p.stream, MaxStreams: maxStreams, MaxHeaderBytes: maxHeaderBytes, HeaderTimeout: headerTimeout,
		IdleTimeout: clientIdleTimeout, Answers: s.answers, Received: c.Got.Load}, rw, read)
	s.own.add(p)
	defer s.own.remove(p)
	p.Serve()
}

func (p *http2Conn) drain(until time.Time) { p.Shutdown(time.Until(until)) }

// stream answers one request.
func (p *http2Conn) stream(st *h2.Stream) {
	defer func() {
		if e := recover(); e != nil && e != http.ErrAbortHandler {
			klog.ErrorS(fmt.Errorf("%v", e), "Serving a request failed; please report this", "client", p.peer.RemoteAddr, "stack", string(debug.Stack()))
		}
	}()
	q := http2Streams.Get().(*http2Stream)
	q.p, q.st = p, st
	done := q.serve()
	q.p, q.st, q.answer, q.judged = nil, nil, http1.ResponseHead{}, judged{}
	http2Streams.Put(q)
	if !done {
		st.ServeHTTP(p.s, p.peer)
	}
}
