package ingress

import (
	"errors"
	"io"
	"time"

	"k8s.io/klog/v2"
)

// errClientGone ends an exchange whose client does not wait for the answer.
var errClientGone = errors.New("the client went away")

// request serves the complete request at the beginning of the buffer. Whatever wants more than an endpoint is left
// to net/http, before anything was sent.
func (f *fast) request() outcome {
	h := &f.head
	target := text(h.target)
	path, query, hasQuery := target, "", false
	for i := 0; i < len(target); i++ {
		if target[i] == '?' {
			path, query, hasQuery = target[:i], target[i+1:], true
			break
		}
	}
	clean, err := cleanURLPath(path)
	if err != nil {
		return unusual
	}
	host := normalHost(text(h.host))
	if f.secure != nil && f.s.certs.Load().misdirected(f.secure.ConnectionState().ServerName, host) {
		return unusual
	}
	route := f.s.table.Load().Match(host, clean.match)
	if route == nil || len(route.canaries) > 0 || route.guard != nil && !route.guard.simple() || !route.Group.plain() {
		return unusual
	}
	if p := route.policy(); p.MaxBody > 0 && int64(h.length) > p.MaxBody {
		return unusual
	}
	if !route.Group.requests.enter() {
		return unusual // it was removed just now: a table without it is there already
	}
	defer route.Group.requests.leave()
	c := call{began: time.Now(), client: f.who.client, proto: f.who.proto, route: route, path: clean.sent, query: query, choice: choice{balance: route.policy().Balance}}
	who := f.who
	if len(f.s.trusted) > 0 && within(f.s.trusted, f.c.remote.Addr()) {
		f.believe(&who, &c)
	}
	f.out = h.appendRequest(f.out[:0], clean.sent, query, hasQuery, &who)
	f.out = append(f.out, f.buf[f.r+h.size:f.r+h.size+h.length]...)
	end, code, sent := f.exchange(&c)
	f.finish(&c, code, sent)
	f.r += h.size + h.length
	if f.r == f.w {
		f.r, f.w = 0, 0
	}
	return end
}

// believe takes over what a trusted proxy says.
func (f *fast) believe(who *fastCall, c *call) {
	chain, proto, host, port := trustedChain(f.buf[f.r : f.r+f.head.size])
	who.chain, who.host = chain, host
	if proto == "http" || proto == "https" {
		who.proto = proto
	}
	if port != "" {
		who.port = port
	}
	who.client = lastUntrusted(chain, f.s.trusted, f.c.remote.Addr().WithZone(""))
	who.node = nodeText(who.client)
	c.client, c.proto, c.chain = who.client, who.proto, chain
}

func (r *Route) policy() *Policy {
	if r.guard == nil {
		return &noPolicy
	}
	return r.guard.Policy
}

// plain says whether the endpoints speak what the fast path does, and there are any.
func (g *Group) plain() bool {
	endpoints := g.state.Load().endpoints
	return len(endpoints) > 0 && endpoints[0].protocol == protocolHTTP1
}

// exchange sends f.out to an endpoint and its answer to the client. sent is the number of bytes of the answer's
// body, code what is counted.
func (f *fast) exchange(c *call) (end outcome, code int, sent int64) {
	f.again = f.head.length == 0 && repeatableMethod(text(f.head.method))
	w, e, err := f.connect(c, f)
	if err != nil {
		return f.fail(c, err)
	}
	end, code, sent = f.deliver(w, e, c)
	e.requests.leave()
	return end, code, sent
}

// inform passes on an interim answer, such as 103 Early Hints; its failure shows when the real one is written.
func (f *fast) inform(a *answerHead) { _ = f.write(a.appendTo(nil, false)) }

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
	f.out = a.appendTo(f.out[:0], closing)
	w.r += a.size
	code, keep := a.code, !a.close
	sent, err := f.relay(body)
	switch {
	case err != nil:
		_ = w.Close() // the answer is cut off, and so must the client's be
		if !errors.Is(err, errClientGone) {
			klog.V(2).InfoS("endpoint stopped within an answer", "endpoint", e.host, "err", err)
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
				return sent, errClientGone
			}
		}
		b.w.r += n
		sent += int64(n)
		if done {
			return sent, nil
		}
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
	switch {
	case errors.Is(err, errClientGone):
		return finished, clientGone, 0
	case errors.Is(err, errNoEndpoint):
		f.say("HTTP/1.1 503 Service Unavailable", "no endpoint of the service is ready")
		return finished, 503, 0
	case isTimeout(err):
		klog.V(2).InfoS("endpoint did not answer in time", "host", string(f.head.host), "path", c.path, "err", err)
		f.say("HTTP/1.1 504 Gateway Timeout", "the service did not answer in time")
		return finished, 504, 0
	}
	klog.V(2).InfoS("endpoint failed", "host", string(f.head.host), "path", c.path, "err", err)
	f.say("HTTP/1.1 502 Bad Gateway", "the service failed to answer")
	return finished, 502, 0
}

// finish counts and logs the request, whose slices end here.
func (f *fast) finish(c *call, code int, sent int64) {
	took := time.Since(c.began)
	f.s.count(c, code, took)
	if f.s.log == nil || !f.s.log.wants() {
		return
	}
	h := &f.head
	e := logEntry{Time: c.began, Client: c.client.String(), Method: string(h.method), Host: string(h.host), Path: c.path, Query: c.query,
		Proto: "HTTP/1.1", Scheme: c.proto, Code: code, Bytes: sent, Seconds: took.Seconds(), Agent: string(h.agent), Referer: string(h.referer), Trace: traceID(string(h.trace))}
	e.place(c)
	f.s.log.write(e)
}
