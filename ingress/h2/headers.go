package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// headers begins a header block: of a request, or of trailers.
func (c *Conn) headers(f *frame) error {
	if f.id%2 == 0 { // 0, too
		return connError{http2.ErrCodeProtocol, "HEADERS on a stream that no client opens"}
	}
	p, err := f.unpad()
	if err != nil {
		return err
	}
	c.blockEnd = f.flags.Has(flagEndStream)
	selfish := false
	if f.flags.Has(flagPriority) {
		if len(p) < 5 {
			return connError{http2.ErrCodeFrameSize, "HEADERS too short for their priority"}
		}
		selfish = dependsOn(p) == f.id
		p = p[5:]
	}
	if selfish {
		// The block is needed for the decoder's sake, and the mistake ends the stream: whoever makes it is no client.
		return connError{http2.ErrCodeProtocol, "a stream that depends on itself"}
	}
	if f.flags.Has(flagEndHeaders) {
		return c.endBlock(f.id, p)
	}
	c.blockID, c.parts, c.blockBy = f.id, 0, time.Now().Add(c.cfg.HeaderTimeout)
	c.fragment = append(c.fragment[:0], p...)
	return nil
}

func (c *Conn) continuation(f *frame) error {
	if c.blockID == 0 {
		return connError{http2.ErrCodeProtocol, "CONTINUATION of nothing"}
	}
	c.fragment = append(c.fragment, f.payload...)
	if c.parts++; c.parts > maxContinuations || len(c.fragment) > c.cfg.MaxHeaderBytes+maxFrame {
		return connError{http2.ErrCodeEnhanceYourCalm, "header block without end"}
	}
	if !f.flags.Has(flagEndHeaders) {
		return nil
	}
	fragment := c.fragment
	c.blockID, c.fragment, c.blockBy = 0, nil, time.Time{}
	return c.endBlock(f.id, fragment)
}

// endBlock acts on a complete header block.
func (c *Conn) endBlock(id uint32, fragment []byte) error {
	c.mu.Lock()
	st, isNew := c.streams[id], id > c.maxID
	ignored := id > c.lastID || !isNew && c.wasReset(id)
	c.mu.Unlock()
	b, err := c.decode(fragment, !isNew, c.blockEnd)
	switch {
	case err != nil:
		return err
	case ignored:
		return c.calm()
	case isNew:
		return c.request(id, b)
	case st == nil:
		return connError{http2.ErrCodeProtocol, "HEADERS on a closed stream"}
	}
	return c.trailers(st, b)
}

// request opens a stream.
func (c *Conn) request(id uint32, b *block) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maxID, c.idle = id, 0
	switch {
	case c.broken != nil: // a write has failed while requests waited to be read: a stream would wait for ever for the next one
		return c.broken
	case c.open >= c.cfg.MaxStreams:
		return streamError{id, http2.ErrCodeRefusedStream, "too many streams"}
	case b.bad != "":
		return streamError{id, http2.ErrCodeProtocol, b.bad}
	}
	st := &Stream{Request: b.req, c: c, id: id, send: c.sendFirst, recv: streamWindow, recvEnd: c.blockEnd, counted: true, tooLarge: b.tooLarge()}
	st.cond.L = &c.mu
	st.sends.Start(&c.cfg.Answers)
	c.streams[id] = st
	c.open++
	go st.run()
	return nil
}

// trailers end a request's body.
func (c *Conn) trailers(st *Stream, b *block) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case st.recvEnd:
		return streamError{st.id, http2.ErrCodeStreamClosed, "HEADERS behind the end"}
	case !c.blockEnd:
		return streamError{st.id, http2.ErrCodeProtocol, "trailers that do not end the stream"}
	case b.bad != "":
		return streamError{st.id, http2.ErrCodeProtocol, b.bad}
	case b.tooLarge():
		return streamError{st.id, http2.ErrCodeEnhanceYourCalm, "trailers too large"}
	}
	st.trailers = b.req.Fields
	c.idle = 0
	return st.take(nil, 0, true)
}
