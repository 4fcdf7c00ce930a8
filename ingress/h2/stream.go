package h2

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"svcplane/ingress/pace"
)

// errReset is what a stream hears that the peer has reset.
var errReset = fmt.Errorf("the client has reset the stream: %w", context.Canceled)

// Stream is a request and the way for its answer. Its methods are for the goroutine that Config.Serve was called in,
// and one other may Read.
type Stream struct {
	Request
	c        *Conn
	id       uint32
	tooLarge bool // the head: nobody but us answers

	// guarded by c.mu
	cond     sync.Cond
	send     int // window
	recv     int // what the peer may still send
	owed     int // to be granted again
	body     []byte
	off      int // of body, read already
	got      int64
	trailers []Field
	recvEnd  bool
	sendEnd  bool
	began    bool // an answer's head was sent
	counted  bool // in c.open
	err      error
	sends    pace.Meter
	paced    bool // reads measures the body
	reads    pace.Meter
	seen     int64 // octets that reads knows of
	cancel   context.CancelCauseFunc
}

// run serves the stream and ends it, however its answer ended.
func (st *Stream) run() {
	defer st.leave()
	if st.tooLarge {
		var head Block
		head.Begin(431)
		_ = st.Send(&head, nil, true) // the peer may be gone
		return
	}
	st.c.cfg.Serve(st)
}

// leave is the end of the goroutine.
func (st *Stream) leave() {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.sendEnd && st.err == nil {
		c.abandon(st, http2.ErrCodeInternal, errClosed)
	}
	c.uncount(st)
}

// drop ends a stream at once, in both directions; called with mu held. It counts as open until its goroutine ends,
// so that resetting streams is no way to have more of them.
func (c *Conn) drop(st *Stream, err error) {
	if st.err == nil {
		st.err = err
	}
	delete(c.streams, st.id)
	c.grant(len(st.body) - st.off)
	st.body, st.off = nil, 0
	if st.cancel != nil {
		st.cancel(st.err)
	}
	st.cond.Broadcast()
}

// sent ends our side of a stream; called with mu held, behind END_STREAM. What the peer has still to say is of no
// interest then (RFC 9113 section 8.1).
func (c *Conn) sent(st *Stream) {
	st.sendEnd = true
	if !st.recvEnd {
		c.out = appendReset(c.buffer(), st.id, http2.ErrCodeNo)
		c.remember(st.id)
	}
	c.drop(st, errClosed)
	c.uncount(st)
}

// uncount lets another stream begin; called with mu held.
func (c *Conn) uncount(st *Stream) {
	if !st.counted {
		return
	}
	st.counted = false
	if c.open--; c.open > 0 {
		return
	}
	c.since = time.Now()
	if c.done() {
		c.flush()
		c.hangUp()
	}
}

// take appends to the body; n is what counts against the windows. It is called with mu held.
func (st *Stream) take(body []byte, n int, end bool) error {
	st.got += int64(len(body))
	switch {
	case st.recvEnd:
		return streamError{st.id, http2.ErrCodeStreamClosed, "DATA behind the end"}
	case n > st.recv:
		return streamError{st.id, http2.ErrCodeFlowControl, "more than the stream's window"}
	case st.Length >= 0 && (st.got > st.Length || end && st.got != st.Length):
		return streamError{st.id, http2.ErrCodeProtocol, "a body of another length than said"}
	}
	st.recv -= n
	st.owed += n - len(body)
	if st.off > 0 && len(st.body)+len(body) > cap(st.body) {
		st.body = st.body[:copy(st.body, st.body[st.off:])]
		st.off = 0
	}
	st.body = append(st.body, body...)
	st.recvEnd = end
	st.cond.Broadcast()
	return nil
}

// Read reads the request's body. After io.EOF, Trailers are there.
func (st *Stream) Read(p []byte) (int, error) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for st.off == len(st.body) {
		switch {
		case st.err != nil:
			return 0, st.err
		case st.recvEnd:
			return 0, io.EOF
		}
		if !st.waitBody() {
			return 0, pace.ErrSlow
		}
	}
	n := copy(p, st.body[st.off:])
	if st.off += n; st.off == len(st.body) {
		st.body, st.off = st.body[:0], 0
		if st.recvEnd {
			st.body = nil
		}
	}
	st.owed += n
	c.grant(n)
	if st.owed >= streamWindow/4 && !st.recvEnd && st.err == nil {
		c.out = appendWindow(c.buffer(), st.id, st.owed)
		st.recv += st.owed
		st.owed = 0
	}
	if len(c.out) > 0 {
		c.flushSoon()
	}
	return n, nil
}

// Pace has Read fail with pace.ErrSlow when the body comes slower than l allows, from now on. What has come of it counts.
func (st *Stream) Pace(l *pace.Limit) {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.paced, st.seen = true, st.received()
	st.reads.Start(l)
	st.reads.Add(st.got)
}

// received is how many octets have come that a body is measured by: all of the connection's, since a frame may take long, and
// the bodies of other streams may be in its way.
func (st *Stream) received() int64 {
	if st.c.cfg.Received == nil {
		return st.got
	}
	return st.c.cfg.Received()
}

// waitBody waits for more of the body; false when it comes too slowly. It is called with mu held.
func (st *Stream) waitBody() bool {
	if !st.paced {
		return st.wait(time.Time{})
	}
	now := time.Now()
	if st.c.recv < maxFrame {
		// Others have not read what fills the connection's window: that the peer is silent is our doing.
		return st.wait(now.Add(fullFor))
	}
	ok := st.wait(st.reads.Wait(now))
	st.reads.Done(time.Now())
	got := st.received()
	st.reads.Add(got - st.seen)
	st.seen = got
	return ok || !st.reads.Slow()
}

// fullFor is how often it is looked whether the connection's window is still full.
const fullFor = time.Second

// wait waits for a change, until by; false when that has passed. Zero: for ever. It is called with mu held.
func (st *Stream) wait(by time.Time) bool {
	if by.IsZero() {
		st.cond.Wait()
		return true
	}
	left := time.Until(by)
	if left <= 0 {
		return false
	}
	timer := time.AfterFunc(left, st.wake)
	st.cond.Wait()
	timer.Stop()
	return true
}

func (st *Stream) wake() {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.cond.Broadcast()
}

// HasBody says whether a body may follow or has come.
func (st *Stream) HasBody() bool { return st.Length != 0 }

// Trailers are the fields behind the body.
func (st *Stream) Trailers() []Field {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	return st.trailers
}

// Gone says whether nobody waits for the answer any longer.
func (st *Stream) Gone() bool {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	return st.err != nil && !st.sendEnd
}
