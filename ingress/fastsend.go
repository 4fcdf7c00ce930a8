package ingress

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"k8s.io/klog/v2"
)

// errClientGone ends an exchange whose client does not wait for the answer.
var errClientGone = errors.New("the client went away")

// request serves the complete request at the beginning of the buffer. Whatever wants more than an endpoint is left
// to net/http, before anything was sent.
func (f *fast) request() outcome {
	h := &f.head
	who := f.asks()
	o, ok := f.s.fastpath(f.l, h, f.sni, &who, &f.judged)
	if !ok {
		return unusual
	}
	defer o.group.requests.leave()
	f.out = h.appendRequest(f.out[:0], &o.Target, &who)
	f.out = append(f.out, f.buf[f.r+h.size:f.r+h.size+h.length]...)
	o.asked = int64(h.size + h.length)
	end, code, sent := f.exchange(&o.call)
	if f.r += h.size + h.length; f.r == f.w {
		f.r, f.w = 0, 0
	}
	if end == switched {
		o.verb = h.verb
		f.s.count(&o.call, code, 0)
		return end
	}
	f.s.finishFast(&o.call, h, "HTTP/1.1", code, sent)
	return end
}

// asks says who sent the request whose head is in f.head.
func (f *fast) asks() Forwarded {
	who := f.who
	if len(f.s.trusted) > 0 && Within(f.s.trusted, f.c.remote.Addr()) {
		said := trustedChain(f.buf[f.r : f.r+f.head.size])
		said.tell(&who, f.s.trusted, f.c.remote.Addr().WithZone(""))
	}
	return who
}

// exchange sends f.out to an endpoint and its answer to the client. sent is the number of bytes of the answer's
// body, code what is counted.
func (f *fast) exchange(c *call) (end outcome, code int, sent int64) {
	f.again = f.head.length == 0 && repeatableMethod(text(f.head.method))
	f.shake = f.head.upgrade == isHandshake
	w, e, err := f.connect(c, f)
	if err != nil {
		return f.fail(c, err)
	}
	defer e.requests.leave()
	if f.answer.code != http.StatusSwitchingProtocols {
		return f.deliver(w, e, c)
	}
	if f.switchOver(w, c) != nil {
		_ = w.Close() // there is nobody to talk to
		return finished, clientGone, 0
	}
	return switched, http.StatusSwitchingProtocols, 0
}

// inform passes on an interim answer, such as 103 Early Hints; its failure shows when the real one is written.
func (f *fast) inform(a *answerHead) {
	if f.write(a.appendTo(nil, false)) == nil {
		_ = f.flush()
	}
}

// deliver sends the answer whose head is in f.answer to the client.
func (f *fast) deliver(w *wire, e *endpoint, c *call) (outcome, int, int64) {
	a := &f.answer
	none := a.bodyless(text(f.head.method))
	untilClose := !none && !a.chunked && a.length < 0
	closing := f.head.close || untilClose || f.s.fasts.ending()
	body := &relay{w: w, left: a.length}
	switch {
	case none:
		body.left = 0
	case a.chunked:
		body.chunked = &chunks{}
	case untilClose:
		body.left = -1
	}
	c.finishHeader(a)
	f.out = a.appendTo(f.out[:0], closing)
	c.answered = int64(len(f.out))
	w.r += a.size
	code, keep := a.code, !a.close
	sent, err := f.relay(body)
	switch {
	case err != nil:
		_ = w.Close() // the answer is cut off, and so must the client's be
		c.lag(err, slowReader)
		if !errors.Is(err, errClientGone) {
			klog.V(2).InfoS("endpoint stopped within an answer", "endpoint", e.host, "err", oneLine(err))
		}
		return finished, code, sent
	case keep && !untilClose && w.r == w.w:
		e.wires.put(w, time.Now())
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
	w       *wire
	left    int64   // -1: until the endpoint closes
	chunked *chunks // nil: not chunked
}

// take is how many of the bytes that were read belong to the body, and whether they end it.
func (b *relay) take() (n int, done bool, err error) {
	have := b.w.buf[b.w.r:b.w.w]
	switch {
	case b.chunked != nil:
		n, err = b.chunked.feed(have)
		return n, b.chunked.state == chunkDone, err
	case b.left < 0:
		return len(have), false, nil
	}
	n = int(min(b.left, int64(len(have))))
	b.left -= int64(n)
	return n, b.left == 0, nil
}

// relay writes f.out, which holds the head, and the body behind it: what comes goes on at once.
func (f *fast) relay(b *relay) (sent int64, err error) {
	defer b.w.narrowed()
	for first := true; ; first = false {
		n, done, err := b.take()
		if err != nil {
			return sent, err
		}
		part := b.w.buf[b.w.r : b.w.r+n]
		if first {
			f.out = append(f.out, part...)
			part = f.out
		}
		if len(part) > 0 {
			if err := f.write(part); err != nil {
				return sent, errors.Join(errClientGone, err)
			}
		}
		b.w.r += n
		sent += int64(n)
		if done {
			return sent, nil
		}
		b.w.widen(b.left)
		if err := f.wait(b.w); err != nil {
			if errors.Is(err, io.EOF) && b.chunked == nil && b.left < 0 {
				return sent, nil
			}
			return sent, err
		}
	}
}

// wait waits for more of a body, as long as the client does: streams may be silent for hours.
func (f *fast) wait(w *wire) error {
	if err := f.flush(); err != nil {
		return errors.Join(errClientGone, err)
	}
	for {
		err := w.more()
		if err == nil || !isWatch(err) {
			return err
		}
		if f.gone() {
			return errClientGone
		}
	}
}

// fail answers a request that got no answer from an endpoint.
func (f *fast) fail(c *call, err error) (outcome, int, int64) {
	code, why := failure(err)
	if code == clientGone {
		return finished, code, 0
	}
	if code != http.StatusServiceUnavailable {
		klog.V(2).InfoS("endpoint failed", "host", string(f.head.host), "path", c.path, "err", oneLine(err))
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
	case errors.Is(err, errNoEndpoint):
		return http.StatusServiceUnavailable, "no endpoint of the service is ready"
	case errors.Is(err, errNoLine):
		return http.StatusServiceUnavailable, "too many connections"
	case isTimeout(err):
		return http.StatusGatewayTimeout, "the service did not answer in time"
	}
	return http.StatusBadGateway, "the service failed to answer"
}

// finishFast counts and logs a request, whose slices end here.
func (s *server) finishFast(c *call, h *fastHead, proto string, code int, sent int64) {
	took := time.Since(c.began)
	c.verb, c.answered = h.verb, c.answered+sent
	s.count(c, code, took)
	if s.log == nil || !s.log.wants() {
		return
	}
	e := fastEntry(c, h, proto, code)
	e.Bytes, e.Seconds = sent, took.Seconds()
	s.log.write(e)
}

func fastEntry(c *call, h *fastHead, proto string, code int) logEntry {
	e := logEntry{Time: c.began, Client: c.client.String(), Method: string(h.method), Host: string(h.host), Path: c.path, Query: c.query,
		Proto: proto, Scheme: c.proto, Code: code, Agent: string(h.agent), Referer: string(h.referer), Trace: traceID(string(h.trace))}
	e.place(c)
	return e
}
