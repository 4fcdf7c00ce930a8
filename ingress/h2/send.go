package h2

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/net/http2"

	"svcplane/ingress/pace"
)

// Send sends the head of an answer (nil: it was sent already), a part of its body, and the end of the stream. It
// returns when all of it is on its way, which takes as long as the peer shuts its windows, within Config.Answers. An error
// means that the stream has ended.
func (st *Stream) Send(head *Block, body []byte, end bool) error {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > outMost && st.err == nil {
		c.space.Wait()
	}
	if st.err != nil {
		return st.err
	}
	if head != nil {
		c.out = appendHeaders(c.buffer(), st.id, head.b, end && len(body) == 0, maxFrame)
		st.began = true
	}
	for len(body) > 0 {
		n, err := st.window(len(body))
		if err != nil {
			return err
		}
		flags := http2.Flags(0)
		if end && n == len(body) {
			flags = flagEndStream
		}
		c.out = append(appendFrame(c.buffer(), http2.FrameData, flags, st.id, n), body[:n]...)
		body = body[n:]
		c.idle = 0
		if end && len(body) == 0 {
			c.sent(st)
			c.flushSoon()
			return nil
		}
	}
	if end {
		if head == nil {
			c.out = appendFrame(c.buffer(), http2.FrameData, flagEndStream, st.id, 0)
		}
		c.sent(st)
	}
	c.flushSoon()
	return nil
}

// Inform sends an interim answer.
func (st *Stream) Inform(head *Block) {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if st.err == nil && !st.began {
		st.c.out = appendHeaders(st.c.buffer(), st.id, head.b, false, maxFrame)
		st.c.flushSoon()
	}
}

// SendTrailers ends the stream with them.
func (st *Stream) SendTrailers(trailers *Block) error {
	if trailers.Empty() {
		return st.Send(nil, nil, true)
	}
	return st.Send(trailers, nil, true)
}

// Reset ends the stream when its answer cannot be completed.
func (st *Stream) Reset(code http2.ErrCode) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.err == nil {
		c.abandon(st, code, errClosed)
	}
}

// window waits until some of want bytes may be sent and takes that much from the windows; called with mu held.
func (st *Stream) window(want int) (int, error) {
	c := st.c
	for {
		n := min(want, st.send, c.send, maxFrame)
		switch {
		case st.err != nil:
			return 0, st.err
		case n > 0 && len(c.out) <= outRoom:
			st.send -= n
			c.send -= n
			st.sends.Add(int64(n))
			c.sends.Add(int64(n))
			return n, nil
		case len(c.out) > 0 && !c.writing:
			c.flush()
		case n > 0:
			c.space.Wait() // whoever writes has a limit for it
		default:
			if !st.waitWindow() && st.err == nil {
				err := fmt.Errorf("the client keeps its window shut: %w", pace.ErrSlow)
				c.abandon(st, http2.ErrCodeCancel, err)
				return 0, err
			}
		}
	}
}

// waitWindow waits for a window to open; false when that takes too long. What a stream's own window lets through is measured
// by the stream, what that of the connection does by all streams together: they take turns. It is called with mu held.
func (st *Stream) waitWindow() bool {
	c := st.c
	m := &st.sends
	if st.send > 0 {
		m = &c.sends
	}
	by := m.Wait(time.Now())
	c.waiting++
	ok := st.wait(by)
	c.waiting--
	m.Done(time.Now())
	return ok || !m.Slow()
}

// abandon resets a stream; called with mu held.
func (c *Conn) abandon(st *Stream, code http2.ErrCode, err error) {
	c.out = appendReset(c.buffer(), st.id, code)
	c.remember(st.id)
	c.drop(st, err)
	c.flushSoon()
}

// flushSoon writes what waits after the goroutines that are ready to run have had a chance to add to it: one write
// for many answers. It is called with mu held, which it gives up meanwhile.
func (c *Conn) flushSoon() {
	if c.writing || c.yielding {
		return
	}
	c.yielding = true
	c.mu.Unlock()
	runtime.Gosched()
	c.mu.Lock()
	c.yielding = false
	c.flush()
}
