package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"k8s.io/klog/v2"

	"svcplane/ingress/h2"
)

// http2Conn serves the requests of one HTTP/2 connection: ordinary ones as the fast path does, each in the goroutine of
// its stream, the others by the server's handler.
type http2Conn struct {
	*h2.Conn
	s       *server
	l       *listener
	who     Forwarded
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
func (s *server) serveHTTP2(l *listener, c *conn, secure *tls.Conn, read []byte) {
	p := &http2Conn{s: s, l: l, who: identify(c, secure != nil), trusted: Within(s.trusted, c.remote.Addr())}
	var rw net.Conn = c
	if secure != nil {
		rw = secure
		secure.NetConn().(*tlsWire).letGo()
		state := secure.ConnectionState()
		p.peer.TLS, p.sni = &state, state.ServerName
	}
	p.peer.RemoteAddr = c.remote.String()
	// ReverseProxy ends a cut off answer as such only if it finds a server here.
	ctx := context.WithValue(context.WithValue(context.Background(), listenerKey{}, l), http.ServerContextKey, s.hs)
	p.peer.Context = context.WithValue(ctx, http.LocalAddrContextKey, c.LocalAddr())
	p.Conn = h2.NewConn(&h2.Config{Serve: p.stream, MaxStreams: maxStreams, MaxHeaderBytes: maxHeaderBytes, HeaderTimeout: headerTimeout,
		IdleTimeout: clientIdleTimeout, Answers: s.answers, Received: c.got.Load}, rw, read)
	s.fasts.add(p)
	defer s.fasts.remove(p)
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
	q := quicks.Get().(*quick)
	q.p, q.st = p, st
	done := q.serve()
	q.p, q.st, q.answer, q.judged = nil, nil, answerHead{}, judged{}
	quicks.Put(q)
	if !done {
		st.ServeHTTP(p.s, p.peer)
	}
}

// quick serves an ordinary request of HTTP/2 over the wires of the fast path.
type quick struct {
	sender
	p     *http2Conn
	st    *h2.Stream
	head  fastHead
	block h2.Block
}

var quicks = sync.Pool{New: func() any { return &quick{sender: sender{out: make([]byte, 0, fastBuffer)}} }}

// serve answers the request; false when it is not ordinary, and nothing was done.
func (q *quick) serve() bool {
	if !q.read() {
		return false
	}
	who := q.p.who
	if q.p.trusted {
		var said claims
		for _, f := range q.st.Fields {
			said.add(textBytes(f.Name), textBytes(f.Value))
		}
		said.tell(&who, q.p.s.trusted, who.Client)
	}
	o, ok := q.p.s.fastpath(q.p.l, &q.head, q.p.sni, &who, &q.judged)
	if !ok {
		return false
	}
	defer o.group.requests.leave()
	q.out = q.head.appendRequest(q.out[:0], &o.Target, &who)
	o.asked = int64(len(q.out) + q.head.length)
	code, sent := q.exchange(&o.call)
	q.p.s.finishFast(&o.call, &q.head, "HTTP/2.0", code, sent)
	return true
}

// read makes a head of what the stream says; false when there is anything about it.
func (q *quick) read() bool {
	h, st := &q.head, q.st
	h.reset()
	if st.Length < 0 || st.Length > maxFastBody || !h.request(textBytes(st.Method), textBytes(st.Path)) {
		return false
	}
	if h.host = textBytes(st.Authority); !validHost(h.host) {
		return false
	}
	for i := range st.Fields {
		if !h.add(textBytes(st.Fields[i].Name), textBytes(st.Fields[i].Value)) {
			return false
		}
	}
	h.length = int(st.Length)
	return true
}

// exchange sends q.out, with the body behind it, to an endpoint and its answer to the client.
func (q *quick) exchange(c *call) (code int, sent int64) {
	if err := q.appendBody(); err != nil {
		c.lag(err, slowBody)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return clientGone, 0
		}
		return q.say(http.StatusRequestTimeout, "the request body did not come in time")
	}
	q.again = q.head.length == 0 && repeatableMethod(q.st.Method)
	w, e, err := q.connect(c, q)
	if err != nil {
		code, why := failure(err)
		if code == clientGone {
			return code, 0
		}
		if code != http.StatusServiceUnavailable {
			klog.V(2).InfoS("endpoint failed", "host", q.st.Authority, "path", c.path, "err", oneLine(err))
		}
		return q.say(code, why)
	}
	defer e.requests.leave()
	c.finishHeader(&q.answer)
	c.answered = int64(q.answer.size)
	sent, err = q.deliver(w)
	if err == nil && !q.answer.close && w.r == w.w {
		e.wires.put(w, time.Now())
		return q.answer.code, sent
	}
	_ = w.Close() // it is at its end, or the answer was cut off
	if err != nil {
		c.lag(err, slowReader)
		klog.V(4).InfoS("answer cut off", "endpoint", e.host, "err", oneLine(err))
	}
	return q.answer.code, sent
}

func (q *quick) appendBody() error {
	if q.head.length == 0 {
		return nil
	}
	at := len(q.out)
	q.out = append(q.out, make([]byte, q.head.length)...)
	q.st.Pace(&q.p.s.bodies)
	_, err := io.ReadFull(q.st, q.out[at:])
	return err
}

// say answers for ourselves.
func (q *quick) say(code int, why string) (int, int64) {
	q.block.Begin(code)
	q.block.Add("content-type", "text/plain; charset=utf-8")
	q.block.Add("x-content-type-options", "nosniff")
	if code == http.StatusServiceUnavailable {
		q.block.Add("retry-after", "1")
	}
	text := append([]byte(why), '\n')
	if q.st.Method == http.MethodHead {
		text = nil
	}
	_ = q.st.Send(&q.block, text, true) // the client may be gone
	return code, int64(len(text))
}

func (q *quick) gone() bool { return q.st.Gone() }

// inform passes on an interim answer.
func (q *quick) inform(a *answerHead) {
	q.begin(a)
	q.st.Inform(&q.block)
}

func (q *quick) begin(a *answerHead) {
	q.block.Begin(a.code)
	for _, f := range a.fields[:a.n] {
		if a.listed == nil || !a.hop(f.name) {
			q.block.Add(text(f.name), text(f.value))
		}
	}
}

// deliver sends the answer whose head is in q.answer to the client: what comes goes on at once. An error means that
// the stream was not ended.
func (q *quick) deliver(w *wire) (sent int64, err error) {
	a := &q.answer
	q.begin(a)
	w.r += a.size
	if a.bodyless(q.st.Method) || a.length == 0 {
		return 0, q.st.Send(&q.block, nil, true)
	}
	body := relay{w: w, left: a.length}
	if a.chunked {
		body.chunked = &chunks{}
	} else if a.length < 0 {
		a.close = true // that is how the body ends
	}
	for head := &q.block; ; head = nil {
		part, done, err := q.part(&body)
		if err != nil {
			return sent, err
		}
		sent += int64(len(part))
		if done && body.chunked != nil && len(body.chunked.trailers) > len("\r\n") {
			return sent, q.endWithTrailers(head, part, body.chunked.trailers)
		}
		if head != nil || len(part) > 0 || done {
			if err := q.st.Send(head, part, done); err != nil || done {
				return sent, err
			}
		}
		if err := q.wait(w); err != nil {
			if !a.chunked && a.length < 0 && errors.Is(err, io.EOF) {
				return sent, q.st.Send(nil, nil, true)
			}
			return sent, err
		}
	}
}

// part is what is there of the body's content; done: it is the last.
func (q *quick) part(b *relay) (part []byte, done bool, err error) {
	if b.chunked == nil {
		n, done, err := b.take()
		part = b.w.buf[b.w.r : b.w.r+n]
		b.w.r += n
		return part, done, err
	}
	q.out = q.out[:0]
	for b.w.r < b.w.w && b.chunked.state != chunkDone {
		content, n, err := b.chunked.next(b.w.buf[b.w.r:b.w.w])
		if err != nil {
			return nil, false, err
		}
		q.out = append(q.out, content...)
		b.w.r += n
	}
	return q.out, b.chunked.state == chunkDone, nil
}

func (q *quick) endWithTrailers(head *h2.Block, part, lines []byte) error {
	if err := q.st.Send(head, part, false); err != nil {
		return err
	}
	q.block.BeginTrailers()
	for line := range bytes.SplitSeq(lines, []byte("\r\n")) {
		if name, value, found := bytes.Cut(line, []byte(":")); found && !neverTrails(name) {
			q.block.Add(text(name), text(trimSpace(value)))
		}
	}
	return q.st.SendTrailers(&q.block)
}

// wait waits for more of a body, as long as the client does: streams may be silent for hours.
func (q *quick) wait(w *wire) error {
	for {
		err := w.more()
		if err == nil || !isWatch(err) {
			return err
		}
		if q.gone() {
			return errClientGone
		}
	}
}
