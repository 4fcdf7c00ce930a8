package serve

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"k8s.io/klog/v2"

	"svcplane/ingress/http1"
	"svcplane/ingress/route"
	"svcplane/ingress/upstream"
)

// errClientGone ends an exchange whose client does not wait for the answer.
var errClientGone = errors.New("the client went away")

// request serves the complete request at the beginning of the buffer. Whatever wants more than an endpoint is left
// to net/http, before anything was sent.
func (f *http1Conn) request() outcome {
	h := &f.head
	who := f.asks()
	o, ok := f.s.fastpath(f.l, h, f.sni, &who, &f.judged)
	if !ok {
		return toHandler
	}
	defer o.group.Requests.Leave()
	f.out = h.AppendRequest(f.out[:0], &o.Target, &who)
	f.out = append(f.out, f.buf[f.r+h.Size:f.r+h.Size+h.Length]...)
	o.asked = int64(h.Size + h.Length)
	end, code, sent := f.exchange(&o.call)
	if f.r += h.Size + h.Length; f.r == f.w {
		f.r, f.w = 0, 0
	}
	if end == switched {
		o.verb = h.Verb
		f.s.count(&o.call, code, 0)
		return end
	}
	f.s.finishOwn(&o.call, h, "HTTP/1.1", code, sent)
	return end
}

// asks says who sent the request whose head is in f.head.
func (f *http1Conn) asks() http1.Forwarded {
	who := f.who
	if len(f.s.trusted) > 0 && route.Within(f.s.trusted, f.c.Remote.Addr()) {
		said := trustedChain(f.buf[f.r : f.r+f.head.Size])
		said.tell(&who, f.s.trusted, f.c.Remote.Addr().WithZone(""))
	}
	return who
}

// exchange sends f.out to an endpoint and its answer to the client. sent is the number of bytes of the answer's
// body, code what is counted.
func (f *http1Conn) exchange(c *call) (end outcome, code int, sent int64) {
	f.again = f.head.Length == 0 && upstream.RepeatableMethod(http1.Text(f.head.Method))
	f.shake = f.head.Upgrade == http1.IsHandshake
	w, e, err := f.connect(c, f)
	if err != nil {
		return f.fail(c, err)
	}
	defer e.Requests.Leave()
	if f.answer.Code != http.StatusSwitchingProtocols {
		return f.deliver(w, e, c)
	}
	if f.switchOver(w, c) != nil {
		_ = w.Close() // there is nobody to talk to
		return finished, clientGone, 0
	}
	return switched, http.StatusSwitchingProtocols, 0
}

// inform passes on an interim answer, such as 103 Early Hints; its failure shows when the real one is written.
func (f *http1Conn) inform(a *http1.ResponseHead) {
	if f.write(a.AppendTo(nil, false)) == nil {
		_ = f.flush()
	}
}

// deliver sends the answer whose head is in f.answer to the client.
func (f *http1Conn) deliver(w *upstream.Conn, e *upstream.Endpoint, c *call) (outcome, int, int64) {
	a := &f.answer
	none := a.Bodyless(http1.Text(f.head.Method))
	untilClose := !none && !a.Chunked && a.Length < 0
	closing := f.head.Close || untilClose || f.s.own.ending()
	body := &relay{w: w, left: a.Length}
	switch {
	case none:
		body.left = 0
	case a.Chunked:
		body.chunked = &http1.Chunks{}
	case untilClose:
		body.left = -1
	}
	c.finishHeader(a)
	f.out = a.AppendTo(f.out[:0], closing)
	c.answered = int64(len(f.out))
	w.R += a.Size
	code, keep := a.Code, !a.Close
	sent, err := f.relay(body)
	switch {
	case err != nil:
		_ = w.Close() // the answer is cut off, and so must the client's be
		c.lag(err, slowReader)
		if !errors.Is(err, errClientGone) {
			klog.V(2).InfoS("endpoint stopped within an answer", "endpoint", e.Host, "err", oneLine(err))
		}
		return finished, code, sent
	case keep && !untilClose && w.R == w.W:
		e.Conns.Put(w, time.Now())
	default:
		_ = w.Close() // it is at its end, or said more than it was asked
	}
	if closing {
		return finished, code, sent
	}
	return goOn, code, sent
}

// relay is the body of an answer on its way.
type relay struct {
	w       *upstream.Conn
	left    int64         // -1: until the endpoint closes
	chunked *http1.Chunks // nil: not chunked
}

// take is how many of the bytes that were read belong to the body, and whether they end it.
func (b *relay) take() (n int, done bool, err error) {
	have := b.w.Buf[b.w.R:b.w.W]
	switch {
	case b.chunked != nil:
		n, err = b.chunked.Feed(have)
		return n, b.chunked.State == http1.ChunkDone, err
	case b.left < 0:
		return len(have), false, nil
	}
	n = int(min(b.left, int64(len(have))))
	b.left -= int64(n)
	return n, b.left == 0, nil
}

// relay writes f.out, which holds the head, and the body behind it: what comes goes on at once.
func (f *http1Conn) relay(b *relay) (sent int64, err error) {
	defer b.w.Narrow()
	for first := true; ; first = false {
		n, done, err := b.take()
		if err != nil {
			return sent, err
		}
		part := b.w.Buf[b.w.R : b.w.R+n]
		if first {
			f.out = append(f.out, part...)
			part = f.out
		}
		if len(part) > 0 {
			if err := f.write(part); err != nil {
				return sent, errors.Join(errClientGone, err)
			}
		}
		b.w.R += n
		sent += int64(n)
		if done {
			return sent, nil
		}
		b.w.Widen(b.left)
		if err := f.wait(b.w); err != nil {
			if errors.Is(err, io.EOF) && b.chunked == nil && b.left < 0 {
				return sent, nil
			}
			return sent, err
		}
	}
}

// wait waits for more of a body, as long as the client does: streams may be silent for hours.
func (f *http1Conn) wait(w *upstream.Conn) error {
	if err := f.flush(); err != nil {
		return errors.Join(errClientGone, err)
	}
	for {
		err := w.More()
		if err == nil || !upstream.IsWatch(err) {
			return err
		}
		if f.gone() {
			return errClientGone
		}
	}
}

// fail answers a request that got no answer from an endpoint.
func (f *http1Conn) fail(c *call, err error) (outcome, int, int64) {
	code, why := failure(err)
	if code == clientGone {
		return finished, code, 0
	}
	if code != http.StatusServiceUnavailable {
		klog.V(2).InfoS("endpoint failed", "host", string(f.head.Host), "path", c.path, "err", oneLine(err))
	}
	f.say("HTTP/1.1 "+strconv.Itoa(code)+" "+http.StatusText(code), why)
	c.answered = int64(len(f.out))
	return finished, code, 0
}

// failure is what a client is told when connect failed.
func failure(err error) (code int, why string) {
	switch {
	case errors.Is(err, errClientGone):
		return clientGone, ""
	case errors.Is(err, upstream.ErrNoEndpoint):
		return http.StatusServiceUnavailable, "no endpoint of the service is ready"
	case errors.Is(err, upstream.ErrTooManyConns):
		return http.StatusServiceUnavailable, "too many connections"
	case upstream.IsTimeout(err):
		return http.StatusGatewayTimeout, "the service did not answer in time"
	}
	return http.StatusBadGateway, "the service failed to answer"
}

// finishOwn counts and logs a request, whose slices end here.
func (s *Server) finishOwn(c *call, h *http1.RequestHead, proto string, code int, sent int64) {
	took := time.Since(c.began)
	c.verb, c.answered = h.Verb, c.answered+sent
	s.count(c, code, took)
	if s.log == nil || !s.log.wants() {
		return
	}
	e := entryOfHead(c, h, proto, code)
	e.Bytes, e.Seconds = sent, took.Seconds()
	s.log.write(e)
}

func entryOfHead(c *call, h *http1.RequestHead, proto string, code int) logEntry {
	e := logEntry{Time: c.began, Client: c.client.String(), Method: string(h.Method), Host: string(h.Host), Path: c.path, Query: c.query,
		Proto: proto, Scheme: c.proto, Code: code, Agent: string(h.Agent), Referer: string(h.Referer), Trace: traceID(string(h.Trace))}
	e.place(c)
	return e
}
