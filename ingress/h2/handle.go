package h2

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
)

// frame takes one in. The reader calls it.
func (c *Conn) frame(f *frame) error {
	if c.blockID != 0 && (f.kind != http2.FrameContinuation || f.id != c.blockID) {
		return connError{http2.ErrCodeProtocol, "another frame within a header block"}
	}
	switch f.kind {
	case http2.FrameData:
		return c.data(f)
	case http2.FrameHeaders:
		return c.headers(f)
	case http2.FrameContinuation:
		return c.continuation(f)
	case http2.FrameSettings:
		return c.settings(f)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(f)
	case http2.FrameRSTStream:
		return c.rstStream(f)
	case http2.FramePing:
		return c.ping(f)
	case http2.FramePriority:
		return c.priority(f)
	case http2.FramePushPromise:
		return connError{http2.ErrCodeProtocol, "a client promises nothing"}
	case http2.FrameGoAway:
		if f.id != 0 {
			return connError{http2.ErrCodeProtocol, "GOAWAY on a stream"}
		}
	}
	return c.calm()
}

// calm counts a frame that brings nothing.
func (c *Conn) calm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calmLocked()
}

func (c *Conn) calmLocked() error {
	if c.idle++; c.idle > maxIdleFrames {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many frames that bring nothing"}
	}
	return nil
}

// strain counts a stream that ended before its answer.
func (c *Conn) strain() error {
	now := time.Now()
	c.resets = max(0, c.resets-now.Sub(c.resetAt).Seconds()*resetsPerSecond) + 1
	c.resetAt = now
	if c.resets > maxResets {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many streams that end before their answer"}
	}
	return nil
}

// refuse resets a stream for a mistake of the peer.
func (c *Conn) refuse(e streamError) error {
	c.mu.Lock()
	if st := c.streams[e.id]; st != nil {
		c.drop(st, e)
	}
	c.out = appendReset(c.buffer(), e.id, e.code)
	c.remember(e.id)
	err := c.calmLocked()
	c.mu.Unlock()
	// What was sent before our SETTINGS came may well be too much at once.
	unaware := e.code == http2.ErrCodeRefusedStream && !c.acked && e.id <= 2*unawareStreams
	if err == nil && !unaware {
		err = c.strain()
	}
	return err
}

// remember notes a stream that we have reset: what the peer had sent before it learned that is no mistake.
func (c *Conn) remember(id uint32) {
	if c.reset == nil {
		c.reset = make([]uint32, c.cfg.MaxStreams)
	}
	c.reset[c.resetNext] = id
	c.resetNext = (c.resetNext + 1) % len(c.reset)
}

func (c *Conn) wasReset(id uint32) bool {
	for _, r := range c.reset {
		if r == id {
			return true
		}
	}
	return false
}

// unknown judges a frame on a stream that is not open; called with mu held. nil: the frame is to be ignored.
func (c *Conn) unknown(id uint32, what string) error {
	switch {
	case id == 0:
		return connError{http2.ErrCodeProtocol, what + " on no stream"}
	case id > c.maxID && id <= c.lastID || id%2 == 0:
		return connError{http2.ErrCodeProtocol, what + " on a stream that was never opened"}
	}
	return c.calmLocked()
}

// data takes a part of a request's body.
func (c *Conn) data(f *frame) error {
	body, err := f.unpad()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(f.payload) // padding counts, too
	if n > c.recv {
		return connError{http2.ErrCodeFlowControl, "more than the connection's window"}
	}
	c.recv -= n
	st := c.streams[f.id]
	if st == nil {
		if err := c.unknown(f.id, "DATA"); err != nil {
			return err
		}
		c.grant(n)
		if f.id <= c.lastID && !c.wasReset(f.id) {
			return connError{http2.ErrCodeStreamClosed, "DATA on a closed stream"}
		}
		return nil
	}
	if err := st.take(body, n, f.flags.Has(flagEndStream)); err != nil {
		c.grant(n)
		return err
	}
	c.grant(n - len(body))
	if len(body) > 0 || st.recvEnd {
		c.idle = 0
		return nil
	}
	return c.calmLocked()
}

// grant lets the peer send n bytes more on the connection, together with others; called with mu held.
func (c *Conn) grant(n int) {
	if c.owed += n; c.owed >= connWindow/4 && c.broken == nil {
		c.out = appendWindow(c.buffer(), 0, c.owed)
		c.recv += c.owed
		c.owed = 0
	}
}

func (c *Conn) settings(f *frame) error {
	switch {
	case f.id != 0:
		return connError{http2.ErrCodeProtocol, "SETTINGS on a stream"}
	case f.flags.Has(flagAck) && len(f.payload) > 0 || len(f.payload)%6 != 0:
		return connError{http2.ErrCodeFrameSize, "SETTINGS of a wrong length"}
	case f.flags.Has(flagAck):
		c.acked = true
		return c.calm()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := f.payload; len(p) > 0; p = p[6:] {
		if err := c.setting(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.out = appendFrame(c.buffer(), http2.FrameSettings, flagAck, 0, 0)
	return c.calmLocked()
}

// setting applies what the peer wants; called with mu held.
func (c *Conn) setting(id http2.SettingID, value uint32) error {
	switch id {
	case http2.SettingInitialWindowSize:
		if value > maxWindow {
			return connError{http2.ErrCodeFlowControl, "initial window too large"}
		}
		change := int(value) - c.sendFirst
		c.sendFirst = int(value)
		for _, st := range c.streams {
			if st.send += change; st.send > maxWindow {
				return connError{http2.ErrCodeFlowControl, "initial window makes a window too large"}
			}
			st.cond.Broadcast()
		}
	case http2.SettingMaxFrameSize:
		if value < 16384 || value > 1<<24-1 {
			return connError{http2.ErrCodeProtocol, "frame size out of range"}
		}
		// larger ones than we ever send are of no use
	case http2.SettingEnablePush:
		if value > 1 {
			return connError{http2.ErrCodeProtocol, "ENABLE_PUSH is neither 0 nor 1"}
		}
	}
	return nil
}

func (c *Conn) windowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return connError{http2.ErrCodeFrameSize, "WINDOW_UPDATE of a wrong length"}
	}
	n := int(binary.BigEndian.Uint32(f.payload) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.id == 0 {
		if c.send += n; n == 0 {
			return connError{http2.ErrCodeProtocol, "WINDOW_UPDATE by nothing"}
		} else if c.send > maxWindow {
			return connError{http2.ErrCodeFlowControl, "window too large"}
		}
		for _, st := range c.streams {
			if c.waiting == 0 {
				break
			}
			st.cond.Broadcast()
		}
		return c.calmLocked()
	}
	st := c.streams[f.id]
	if st == nil {
		return c.unknown(f.id, "WINDOW_UPDATE")
	}
	if st.send += n; n == 0 {
		return streamError{f.id, http2.ErrCodeProtocol, "WINDOW_UPDATE by nothing"}
	} else if st.send > maxWindow {
		return streamError{f.id, http2.ErrCodeFlowControl, "window too large"}
	}
	st.cond.Broadcast()
	return c.calmLocked()
}

func (c *Conn) rstStream(f *frame) error {
	if len(f.payload) != 4 {
		return connError{http2.ErrCodeFrameSize, "RST_STREAM of a wrong length"}
	}
	c.mu.Lock()
	st := c.streams[f.id]
	if st == nil {
		defer c.mu.Unlock()
		return c.unknown(f.id, "RST_STREAM")
	}
	c.drop(st, errReset)
	c.mu.Unlock()
	return c.strain()
}

func (c *Conn) ping(f *frame) error {
	switch {
	case f.id != 0:
		return connError{http2.ErrCodeProtocol, "PING on a stream"}
	case len(f.payload) != 8:
		return connError{http2.ErrCodeFrameSize, "PING of a wrong length"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.flags.Has(flagAck) {
		c.out = append(appendFrame(c.buffer(), http2.FramePing, flagAck, 0, 8), f.payload...)
	}
	return c.calmLocked()
}

// priority is checked and has no effect (RFC 9113 section 5.3.2).
func (c *Conn) priority(f *frame) error {
	switch {
	case f.id == 0:
		return connError{http2.ErrCodeProtocol, "PRIORITY on no stream"}
	case len(f.payload) != 5:
		return connError{http2.ErrCodeFrameSize, "PRIORITY of a wrong length"}
	case dependsOn(f.payload) == f.id:
		return connError{http2.ErrCodeProtocol, "a stream that depends on itself"}
	}
	return c.calm()
}

func dependsOn(p []byte) uint32 { return binary.BigEndian.Uint32(p) & maxWindow }
