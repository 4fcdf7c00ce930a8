package ingress

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// lean sends a request that an http.Handler got, because its route has a rare policy, to an endpoint that speaks
// HTTP/1.1 over the wires of the fast path: the handler's goroutine does it all. What it cannot do, ReverseProxy does.
type lean struct {
	sender
	w  http.ResponseWriter
	r  *http.Request
	in wireReader
}

var leans = sync.Pool{New: func() any { return &lean{sender: sender{out: make([]byte, 0, fastBuffer)}} }}

// suits says whether r is for lean: its body is small, it wants no other protocol and no times of its own.
func (c *call) suits(r *http.Request) bool {
	return slices.Contains(fastMethods[:], r.Method) && c.attempt.Policy.ReadTimeout == 0 && c.attempt.Policy.SendTimeout == 0 && c.group.plain() && r.ContentLength >= 0 && r.ContentLength <= maxFastBody &&
		len(r.TransferEncoding) == 0 && r.Header.Get("Upgrade") == "" && r.Header.Get("Expect") == "" && r.Header.Get("Trailer") == ""
}

// sendLean serves a request that suits.
func (s *server) sendLean(w http.ResponseWriter, r *http.Request, c *call) {
	l := leans.Get().(*lean)
	l.w, l.r = w, r
	defer func() {
		l.w, l.r, l.answer, l.in = nil, nil, answerHead{}, wireReader{}
		leans.Put(l)
	}()
	l.out = l.appendHead(l.out[:0], c)
	if err := l.appendBody(); err != nil {
		c.lag(err, slowBody)
		answerFailure(w, r, &clientError{err})
		return
	}
	l.again = repeatable(r)
	wire, e, err := l.connect(c, l)
	switch {
	case errors.Is(err, errClientGone):
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	case err != nil:
		answerFailure(w, r, err)
		return
	}
	defer e.requests.leave()
	l.deliver(wire, e, c)
}

// appendHead writes the head that the endpoint gets: what Rewrite of the ReverseProxy makes, without the map.
func (l *lean) appendHead(out []byte, c *call) []byte {
	plan := c.plan()
	out = append(out, l.r.Method...)
	out = append(out, ' ')
	out = append(out, l.r.URL.EscapedPath()...)
	if l.r.URL.RawQuery != "" || l.r.URL.ForceQuery {
		out = append(out, '?')
		out = append(out, CleanQuery(l.r.URL.RawQuery)...)
	}
	out = append(out, " HTTP/1.1\r\nHost: "...)
	out = append(out, c.decision.Host...)
	out = append(out, "\r\n"...)
	listed := l.r.Header.Get("Connection")
	for name, values := range l.r.Header {
		if endsHere(name, listed) || plan.Edits(name, c.decision) {
			continue
		}
		for _, v := range values {
			out = appendField(out, name, v)
		}
	}
	if plan != nil {
		for _, f := range plan.RequestHeaders {
			if f.Value != "" {
				out = appendField(out, f.Name, f.Value)
			}
		}
	}
	if l.r.ContentLength > 0 || l.r.Method[0] == 'P' {
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, l.r.ContentLength, 10)
		out = append(out, "\r\n"...)
	}
	return c.forwarded(l.r).AppendTo(out, []byte(l.r.Host))
}

func appendField(out []byte, name, value string) []byte {
	out = append(out, name...)
	out = append(out, ": "...)
	out = append(out, value...)
	return append(out, "\r\n"...)
}

// endsHere says whether a request's header is for this hop, or ours to say. listed is the Connection header.
func endsHere(name, listed string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Http2-Settings", "Content-Length", "Host", "Forwarded", "X-Real-Ip", "Expect", "Proxy":
		return true
	}
	if strings.HasPrefix(name, "X-Forwarded-") || strings.IndexByte(name, '_') >= 0 {
		return true
	}
	for listed != "" {
		var part string
		part, listed, _ = strings.Cut(listed, ",")
		if strings.EqualFold(strings.TrimSpace(part), name) {
			return true
		}
	}
	return false
}

// forwarded is what the endpoint is told about who asked.
func (c *call) forwarded(r *http.Request) *Forwarded {
	who := &Forwarded{Client: c.client, Chain: c.chain, Proto: c.proto, Port: localPort(r), Peer: c.peer.Addr().Unmap().WithZone("").String(), Node: nodeText(c.client)}
	who.Host = c.said.host
	if c.said.port != "" {
		who.Port = c.said.port
	}
	return who
}

func (l *lean) appendBody() error {
	n := int(l.r.ContentLength)
	if n == 0 {
		return nil
	}
	at := len(l.out)
	l.out = append(l.out, make([]byte, n)...)
	_, err := io.ReadFull(l.r.Body, l.out[at:])
	return err
}

func (l *lean) gone() bool { return l.r.Context().Err() != nil }

// inform passes on an interim answer.
func (l *lean) inform(a *answerHead) {
	h := l.w.Header()
	before := h.Clone()
	l.copyHeader(a)
	l.w.WriteHeader(a.code)
	clear(h)
	for name, values := range before {
		h[name] = values
	}
}

func (l *lean) copyHeader(a *answerHead) {
	h := l.w.Header()
	for _, f := range a.fields[:a.n] {
		if a.listed != nil && a.hop(f.name) || isName(f.name, "trailer") {
			continue
		}
		name := http.CanonicalHeaderKey(string(f.name))
		h[name] = append(h[name], string(f.value))
	}
}

// deliver writes the answer to the client.
func (l *lean) deliver(w *wire, e *endpoint, c *call) {
	a := &l.answer
	l.copyHeader(a)
	c.finishHeader(l.w.Header())
	l.w.WriteHeader(a.code)
	w.r += a.size
	keep := !a.close
	var err error
	switch {
	case a.bodyless(l.r.Method):
	case a.chunked:
		err = l.copyChunked(w)
	case a.length >= 0:
		err = l.copyBody(w, a.length)
	default:
		keep = false
		if err = l.copyBody(w, -1); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err == nil && keep && w.r == w.w {
		e.wires.put(w, time.Now())
		return
	}
	_ = w.Close() // it is at its end, or the answer was cut off
	if err != nil {
		klog.V(4).InfoS("answer cut off", "endpoint", e.host, "err", oneLine(err))
		panic(http.ErrAbortHandler) // the client must see that it is not complete
	}
}

// copyBody passes on length bytes, or all until the endpoint closes if it is negative. What has come goes on before
// waiting for more.
func (l *lean) copyBody(w *wire, length int64) error {
	control := http.NewResponseController(l.w)
	for {
		part := w.buf[w.r:w.w]
		if length >= 0 {
			part = part[:min(length, int64(len(part)))]
			length -= int64(len(part))
		}
		if len(part) > 0 {
			if _, err := l.w.Write(part); err != nil {
				return err
			}
			w.r += len(part)
		}
		if length == 0 {
			return nil
		}
		if err := control.Flush(); err != nil {
			return err
		}
		if err := l.wait(w); err != nil {
			return err
		}
	}
}

func (l *lean) wait(w *wire) error {
	for {
		err := w.more()
		if err == nil || !isWatch(err) {
			return err
		}
		if l.gone() {
			return errClientGone
		}
	}
}

// copyChunked passes on a chunked body as what it holds, and its trailers.
func (l *lean) copyChunked(w *wire) error {
	l.in = wireReader{l, w}
	in := bufio.NewReaderSize(&l.in, wireBuffer)
	buf := copyBuffers.Get()
	defer copyBuffers.Put(buf)
	body := httputil.NewChunkedReader(in)
	control := http.NewResponseController(l.w)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := l.w.Write(buf[:n]); err != nil {
				return err
			}
			if in.Buffered() == 0 {
				if err := control.Flush(); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	trailers, err := textproto.NewReader(in).ReadMIMEHeader()
	if err != nil {
		return err
	}
	if len(trailers) > 0 {
		// else net/http would find the body complete, say its length, and leave them out
		if err := control.Flush(); err != nil {
			return err
		}
	}
	for name, values := range trailers {
		if neverTrails([]byte(name)) {
			continue
		}
		for _, v := range values {
			l.w.Header().Add(http.TrailerPrefix+name, v)
		}
	}
	if in.Buffered() > 0 {
		w.r = w.w - in.Buffered() // it said more than it was asked: deliver closes it
	}
	return nil
}

// wireReader reads an answer's body.
type wireReader struct {
	l *lean
	w *wire
}

func (r *wireReader) Read(p []byte) (int, error) {
	if r.w.r == r.w.w {
		if err := r.l.wait(r.w); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	n := copy(p, r.w.buf[r.w.r:r.w.w])
	r.w.r += n
	return n, nil
}
