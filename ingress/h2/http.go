package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"svcplane/ingress/pace"
)

// Peer is what an http.Request says about its connection.
type Peer struct {
	Context    context.Context      // of the requests
	RemoteAddr string               // host:port
	TLS        *tls.ConnectionState // nil: plain
}

// ServeHTTP has h answer the stream, as net/http's server would: bodies both ways, trailers, interim answers,
// http.ResponseController, Expect. What it does not do is guess a Content-Type or add a Content-Length. A panic of h
// goes on to the caller, with the stream not ended.
func (st *Stream) ServeHTTP(h http.Handler, peer Peer) {
	ctx, cancel := context.WithCancelCause(peer.Context)
	defer cancel(nil)
	if !st.onCancel(cancel) {
		return
	}
	r, err := st.httpRequest(peer)
	if err != nil {
		st.Reset(http2.ErrCodeProtocol)
		return
	}
	w := &responseWriter{st: st, header: http.Header{}, isHead: r.Method == http.MethodHead}
	h.ServeHTTP(w, r.WithContext(ctx))
	w.finish()
}

// onCancel has cancel called when the stream ends; false when it has ended.
func (st *Stream) onCancel(cancel context.CancelCauseFunc) bool {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.cancel = cancel
	return st.err == nil
}

func (st *Stream) httpRequest(peer Peer) (*http.Request, error) {
	r := &http.Request{Method: st.Method, Proto: "HTTP/2.0", ProtoMajor: 2, Header: make(http.Header, len(st.Fields)), Host: st.Authority,
		RequestURI: st.Path, ContentLength: st.Length, RemoteAddr: peer.RemoteAddr, TLS: peer.TLS, Body: http.NoBody}
	if st.Method == http.MethodConnect {
		r.URL, r.RequestURI = &url.URL{Host: st.Authority}, st.Authority
	} else {
		var err error
		if r.URL, err = url.ParseRequestURI(st.Path); err != nil {
			return nil, err
		}
	}
	for _, f := range st.Fields {
		name := http.CanonicalHeaderKey(f.Name)
		r.Header[name] = append(r.Header[name], f.Value)
	}
	for _, list := range r.Header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" && !neverTrails(name) {
				if r.Trailer == nil {
					r.Trailer = http.Header{}
				}
				r.Trailer[name] = nil
			}
		}
	}
	delete(r.Header, "Trailer")
	if st.HasBody() {
		b := &requestBody{st: st, trailer: r.Trailer}
		b.expected = strings.EqualFold(r.Header.Get("Expect"), "100-continue")
		r.Body = b
	}
	delete(r.Header, "Expect")
	return r, nil
}

// neverTrails says whether a field, in canonical form, says how a message is read, so that it has no place behind one
// (RFC 9110 section 6.5.1).
func neverTrails(name string) bool {
	switch name {
	case "Content-Length", "Transfer-Encoding", "Trailer", "Host", "Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Te":
		return true
	}
	return false
}

// requestBody is an http.Request's Body.
type requestBody struct {
	st       *Stream
	trailer  http.Header // of the request, to be filled
	expected bool        // the client waits for 100 Continue
	closed   bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.expected {
		b.expected = false
		var head Block
		head.Begin(http.StatusContinue)
		b.st.Inform(&head)
	}
	n, err := b.st.Read(p)
	if errors.Is(err, io.EOF) {
		for _, f := range b.st.Trailers() {
			name := http.CanonicalHeaderKey(f.Name)
			if _, said := b.trailer[name]; said {
				b.trailer[name] = append(b.trailer[name], f.Value)
			}
		}
	}
	return n, err
}

// Pace: see Stream.
func (b *requestBody) Pace(l *pace.Limit) { b.st.Pace(l) }

func (b *requestBody) Close() error {
	b.closed = true
	return nil
}

// responseWriter is an http.ResponseWriter. Like every one, it is for one goroutine.
type responseWriter struct {
	st       *Stream
	header   http.Header
	head     Block
	code     int  // 0: WriteHeader was not called
	sent     bool // the head
	isHead   bool
	buf      []byte
	trailers []string // announced, in canonical form
}

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(code int) {
	if w.code != 0 {
		return
	}
	if code >= 100 && code < 200 {
		w.encode(code)
		w.st.Inform(&w.head)
		return
	}
	w.code = code
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			w.trailers = append(w.trailers, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	w.encode(code)
	if _, said := w.header["Date"]; !said {
		w.head.Add("date", time.Now().UTC().Format(http.TimeFormat))
	}
}

// encode writes the header as it is now.
func (w *responseWriter) encode(code int) {
	w.head.Begin(code)
	for name, values := range w.header {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			continue
		}
		if !strings.HasPrefix(name, http.TrailerPrefix) && !w.isTrailer(name) {
			addAll(&w.head, name, values)
		}
	}
}

func (w *responseWriter) isTrailer(name string) bool {
	for _, t := range w.trailers {
		if t == name {
			return true
		}
	}
	return false
}

func addAll(b *Block, name string, values []string) {
	for _, v := range values {
		b.Add(name, strings.Trim(v, " \t"))
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.isHead || w.code == http.StatusNoContent || w.code == http.StatusNotModified {
		return len(p), nil
	}
	if len(w.buf) > 0 && len(w.buf)+len(p) > maxFrame {
		if err := w.FlushError(); err != nil {
			return 0, err
		}
	}
	if len(p) >= maxFrame {
		return len(p), w.st.Send(w.takeHead(), p, false)
	}
	w.buf = append(w.buf, p...)
	return len(p), nil
}

func (w *responseWriter) Flush() { _ = w.FlushError() } // the next write says it again

// FlushError sends what was written so far.
func (w *responseWriter) FlushError() error {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.sent && len(w.buf) == 0 {
		return nil
	}
	err := w.st.Send(w.takeHead(), w.buf, false)
	w.buf = w.buf[:0]
	return err
}

// takeHead is the head, once.
func (w *responseWriter) takeHead() *Block {
	if w.sent {
		return nil
	}
	w.sent = true
	return &w.head
}

// finish ends the answer. An error means that nobody reads it.
func (w *responseWriter) finish() {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	var trailers Block
	for name, values := range w.header {
		if after, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			if neverTrails(after) {
				continue
			}
			addAll(&trailers, after, values)
		} else if w.isTrailer(name) && !neverTrails(name) {
			addAll(&trailers, name, values)
		}
	}
	if trailers.Empty() {
		_ = w.st.Send(w.takeHead(), w.buf, true)
		return
	}
	if !w.sent || len(w.buf) > 0 {
		if w.st.Send(w.takeHead(), w.buf, false) != nil {
			return
		}
	}
	_ = w.st.SendTrailers(&trailers)
}

// SetWriteDeadline and EnableFullDuplex are for http.ResponseController. It does nothing: Config.Answers bounds writes.
func (w *responseWriter) SetWriteDeadline(time.Time) error { return nil }

// EnableFullDuplex does nothing: HTTP/2 is.
func (w *responseWriter) EnableFullDuplex() error { return nil }
