package serve

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

	"svcplane/ingress/http1"
	"svcplane/ingress/route"
	"svcplane/ingress/upstream"
)

// handlerSend sends a request that an http.Handler got, because its route has a rare policy, to an endpoint that speaks
// HTTP/1.1, over the connections that plain requests use: the handler's goroutine does it all. What it cannot do, ReverseProxy does.
type handlerSend struct {
	sender
	w  http.ResponseWriter
	r  *http.Request
	in wireReader
}

var handlerSends = sync.Pool{New: func() any { return &handlerSend{sender: sender{out: make([]byte, 0, connBuffer)}} }}

// suits says whether r can be sent by handlerSend: its body is small, it wants no other protocol and no times of its own.
func (c *call) suits(r *http.Request) bool {
	return slices.Contains(http1.Methods[:], r.Method) && c.attempt.Policy.ReadTimeout == 0 && c.attempt.Policy.SendTimeout == 0 && c.group.Plain() && r.ContentLength >= 0 && r.ContentLength <= http1.MaxSmallBody &&
		len(r.TransferEncoding) == 0 && r.Header.Get("Upgrade") == "" && r.Header.Get("Expect") == "" && r.Header.Get("Trailer") == ""
}

// sendByHandler serves a request that suits.
func (s *Server) sendByHandler(w http.ResponseWriter, r *http.Request, c *call) {
	l := handlerSends.Get().(*handlerSend)
	l.w, l.r = w, r
	defer func() {
		l.w, l.r, l.answer, l.in = nil, nil, http1.ResponseHead{}, wireReader{}
		handlerSends.Put(l)
	}()
	l.out = l.appendHead(l.out[:0], c)
	if err := l.appendBody(); err != nil {
		c.lag(err, slowBody)
		answerFailure(w, r, &upstream.ClientError{Cause: err})
		return
	}
	l.again = upstream.Repeatable(r)
	wire, e, err := l.connect(c, l)
	switch {
	case errors.Is(err, errClientGone):
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	case err != nil:
		answerFailure(w, r, err)
		return
	}
	defer e.Requests.Leave()
	l.deliver(wire, e, c)
}

// appendHead writes the head that the endpoint gets: what Rewrite of the ReverseProxy makes, without the map.
func (l *handlerSend) appendHead(out []byte, c *call) []byte {
	plan := c.plan()
	out = append(out, l.r.Method...)
	out = append(out, ' ')
	out = append(out, l.r.URL.EscapedPath()...)
	if l.r.URL.RawQuery != "" || l.r.URL.ForceQuery {
		out = append(out, '?')
		out = append(out, route.CleanQuery(l.r.URL.RawQuery)...)
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
func (c *call) forwarded(r *http.Request) *http1.Forwarded {
	who := &http1.Forwarded{Client: c.client, Chain: c.chain, Proto: c.proto, Port: localPort(r), Peer: c.peer.Addr().Unmap().WithZone("").String(), Node: nodeText(c.client)}
	who.Host = c.said.host
	if c.said.port != "" {
		who.Port = c.said.port
	}
	return who
}

func (l *handlerSend) appendBody() error {
	n := int(l.r.ContentLength)
	if n == 0 {
		return nil
	}
	at := len(l.out)
	l.out = append(l.out, make([]byte, n)...)
	_, err := io.ReadFull(l.r.Body, l.out[at:])
	return err
}

func (l *handlerSend) gone() bool { return l.r.Context().Err() != nil }

// inform passes on an interim answer.
func (l *handlerSend) inform(a *http1.ResponseHead) {
	h := l.w.Header()
	before := h.Clone()
	l.copyHeader(a)
	l.w.WriteHeader(a.Code)
	clear(h)
	for name, values := range before {
		h[name] = values
	}
}

func (l *handlerSend) copyHeader(a *http1.ResponseHead) {
	h := l.w.Header()
	for _, f := range a.Fields[:a.N] {
		if a.Listed != nil && a.EndsHere(f.Name) || http1.IsName(f.Name, "trailer") {
			continue
		}
		name := http.CanonicalHeaderKey(string(f.Name))
		h[name] = append(h[name], string(f.Value))
	}
}

// deliver writes the answer to the client.
func (l *handlerSend) deliver(w *upstream.Conn, e *upstream.Endpoint, c *call) {
	a := &l.answer
	l.copyHeader(a)
	c.finishHeader(l.w.Header())
	l.w.WriteHeader(a.Code)
	w.R += a.Size
	keep := !a.Close
	var err error
	switch {
	case a.Bodyless(l.r.Method):
	case a.Chunked:
		err = l.copyChunked(w)
	case a.Length >= 0:
		err = l.copyBody(w, a.Length)
	default:
		keep = false
		if err = l.copyBody(w, -1); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err == nil && keep && w.R == w.W {
		e.Conns.Put(w, time.Now())
		return
	}
	_ = w.Close() // it is at its end, or the answer was cut off
	if err != nil {
		klog.V(4).InfoS("answer cut off", "endpoint", e.Host, "err", oneLine(err))
		panic(http.ErrAbortHandler) // the client must see that it is not complete
	}
}

// copyBody passes on length bytes, or all until the endpoint closes if it is negative. What has come goes on before
// waiting for more.
func (l *handlerSend) copyBody(w *upstream.Conn, length int64) error {
	control := http.NewResponseController(l.w)
	for {
		part := w.Buf[w.R:w.W]
		if length >= 0 {
			part = part[:min(length, int64(len(part)))]
			length -= int64(len(part))
		}
		if len(part) > 0 {
			if _, err := l.w.Write(part); err != nil {
				return err
			}
			w.R += len(part)
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

func (l *handlerSend) wait(w *upstream.Conn) error {
	for {
		err := w.More()
		if err == nil || !upstream.IsWatch(err) {
			return err
		}
		if l.gone() {
			return errClientGone
		}
	}
}

// copyChunked passes on a chunked body as what it holds, and its trailers.
func (l *handlerSend) copyChunked(w *upstream.Conn) error {
	l.in = wireReader{l, w}
	in := bufio.NewReaderSize(&l.in, upstream.ConnBuffer)
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
		if http1.NeverTrails([]byte(name)) {
			continue
		}
		for _, v := range values {
			l.w.Header().Add(http.TrailerPrefix+name, v)
		}
	}
	if in.Buffered() > 0 {
		w.R = w.W - in.Buffered() // it said more than it was asked: deliver closes it
	}
	return nil
}

// wireReader reads an answer's body.
type wireReader struct {
	l *handlerSend
	w *upstream.Conn
}

func (r *wireReader) Read(p []byte) (int, error) {
	if r.w.R == r.w.W {
		if err := r.l.wait(r.w); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	n := copy(p, r.w.Buf[r.w.R:r.w.W])
	r.w.R += n
	return n, nil
}
