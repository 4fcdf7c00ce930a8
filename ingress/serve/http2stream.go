package serve

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"svcplane/ingress/h2"
	"svcplane/ingress/http1"
	"svcplane/ingress/upstream"
)

// http2Stream serves a plain request of HTTP/2 over connections of HTTP/1.1 to endpoints.
type http2Stream struct {
	sender
	p     *http2Conn
	st    *h2.Stream
	head  http1.RequestHead
	block h2.Block
}

var http2Streams = sync.Pool{New: func() any { return &http2Stream{sender: sender{out: make([]byte, 0, connBuffer)}} }}

// serve answers the request; false when it is not plain, and nothing was done.
func (q *http2Stream) serve() bool {
	if !q.read() {
		return false
	}
	who := q.p.who
	if q.p.trusted {
		var said forwarding
		for _, f := range q.st.Fields {
			said.add(http1.Bytes(f.Name), http1.Bytes(f.Value))
		}
		said.tell(&who, q.p.s.trusted, who.Client)
	}
	o, ok := q.p.s.fastpath(q.p.l, &q.head, q.p.sni, &who, &q.judged)
	if !ok {
		return false
	}
	defer o.group.Requests.Leave()
	q.out = q.head.AppendRequest(q.out[:0], &o.Target, &who)
	o.asked = int64(len(q.out) + q.head.Length)
	code, sent := q.exchange(&o.call)
	q.p.s.finishOwn(&o.call, &q.head, "HTTP/2.0", code, sent)
	return true
}

// read makes a head of what the stream says; false when there is anything about it.
func (q *http2Stream) read() bool {
	h, st := &q.head, q.st
	h.Reset()
	if st.Length < 0 || st.Length > http1.MaxSmallBody || !h.RequestLine(http1.Bytes(st.Method), http1.Bytes(st.Path)) {
		return false
	}
	if h.Host = http1.Bytes(st.Authority); !http1.ValidHost(h.Host) {
		return false
	}
	for i := range st.Fields {
		if !h.AddField(http1.Bytes(st.Fields[i].Name), http1.Bytes(st.Fields[i].Value)) {
			return false
		}
	}
	h.Length = int(st.Length)
	return true
}

// exchange sends q.out, with the body behind it, to an endpoint and its answer to the client.
func (q *http2Stream) exchange(c *call) (code int, sent int64) {
	if err := q.appendBody(); err != nil {
		c.lag(err, slowBody)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return clientGone, 0
		}
		return q.say(http.StatusRequestTimeout, "the request body did not come in time")
	}
	q.again = q.head.Length == 0 && upstream.RepeatableMethod(q.st.Method)
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
	defer e.Requests.Leave()
	c.finishHeader(&q.answer)
	c.answered = int64(q.answer.Size)
	sent, err = q.deliver(w)
	if err == nil && !q.answer.Close && w.R == w.W {
		e.Conns.Put(w, time.Now())
		return q.answer.Code, sent
	}
	_ = w.Close() // it is at its end, or the answer was cut off
	if err != nil {
		c.lag(err, slowReader)
		klog.V(4).InfoS("answer cut off", "endpoint", e.Host, "err", oneLine(err))
	}
	return q.answer.Code, sent
}

func (q *http2Stream) appendBody() error {
	if q.head.Length == 0 {
		return nil
	}
	at := len(q.out)
	q.out = append(q.out, make([]byte, q.head.Length)...)
	q.st.Pace(&q.p.s.bodies)
	_, err := io.ReadFull(q.st, q.out[at:])
	return err
}

// say answers for ourselves.
func (q *http2Stream) say(code int, why string) (int, int64) {
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

func (q *http2Stream) gone() bool { return q.st.Gone() }

// inform passes on an interim answer.
func (q *http2Stream) inform(a *http1.ResponseHead) {
	q.begin(a)
	q.st.Inform(&q.block)
}

func (q *http2Stream) begin(a *http1.ResponseHead) {
	q.block.Begin(a.Code)
	for _, f := range a.Fields[:a.N] {
		if a.Listed == nil || !a.EndsHere(f.Name) {
			q.block.Add(http1.Text(f.Name), http1.Text(f.Value))
		}
	}
}

// deliver sends the answer whose head is in q.answer to the client: what comes goes on at once. An error means that
// the stream was not ended.
func (q *http2Stream) deliver(w *upstream.Conn) (sent int64, err error) {
	a := &q.answer
	q.begin(a)
	w.R += a.Size
	if a.Bodyless(q.st.Method) || a.Length == 0 {
		return 0, q.st.Send(&q.block, nil, true)
	}
	body := relay{w: w, left: a.Length}
	if a.Chunked {
		body.chunked = &http1.Chunks{}
	} else if a.Length < 0 {
		a.Close = true // that is how the body ends
	}
	for head := &q.block; ; head = nil {
		part, done, err := q.part(&body)
		if err != nil {
			return sent, err
		}
		sent += int64(len(part))
		if done && body.chunked != nil && len(body.chunked.Trailers) > len("\r\n") {
			return sent, q.endWithTrailers(head, part, body.chunked.Trailers)
		}
		if head != nil || len(part) > 0 || done {
			if err := q.st.Send(head, part, done); err != nil || done {
				return sent, err
			}
		}
		if err := q.wait(w); err != nil {
			if !a.Chunked && a.Length < 0 && errors.Is(err, io.EOF) {
				return sent, q.st.Send(nil, nil, true)
			}
			return sent, err
		}
	}
}

// part is what is there of the body's content; done: it is the last.
func (q *http2Stream) part(b *relay) (part []byte, done bool, err error) {
	if b.chunked == nil {
		n, done, err := b.take()
		part = b.w.Buf[b.w.R : b.w.R+n]
		b.w.R += n
		return part, done, err
	}
	q.out = q.out[:0]
	for b.w.R < b.w.W && b.chunked.State != http1.ChunkDone {
		content, n, err := b.chunked.Next(b.w.Buf[b.w.R:b.w.W])
		if err != nil {
			return nil, false, err
		}
		q.out = append(q.out, content...)
		b.w.R += n
	}
	return q.out, b.chunked.State == http1.ChunkDone, nil
}

func (q *http2Stream) endWithTrailers(head *h2.Block, part, lines []byte) error {
	if err := q.st.Send(head, part, false); err != nil {
		return err
	}
	q.block.BeginTrailers()
	for line := range bytes.SplitSeq(lines, []byte("\r\n")) {
		if name, value, found := bytes.Cut(line, []byte(":")); found && !http1.NeverTrails(name) {
			q.block.Add(http1.Text(name), http1.Text(http1.TrimSpace(value)))
		}
	}
	return q.st.SendTrailers(&q.block)
}

// wait waits for more of a body, as long as the client does: streams may be silent for hours.
func (q *http2Stream) wait(w *upstream.Conn) error {
	for {
		err := w.More()
		if err == nil || !upstream.IsWatch(err) {
			return err
		}
		if q.gone() {
			return errClientGone
		}
	}
}
