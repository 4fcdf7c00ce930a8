package h2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"svcplane/ingress/pace"
)

// Config is the same for all connections of a server.
type Config struct {
	Serve          func(*Stream) // answers one request; called in a goroutine of its own
	MaxStreams     int           // at the same time
	MaxHeaderBytes int           // of a request's head, decoded (RFC 9113 section 6.5.2); more is answered 431
	HeaderTimeout  time.Duration // for the preface, and for a header block
	IdleTimeout    time.Duration // without a stream
	Answers        pace.Limit    // how slowly the peer may open its windows
	Received       func() int64  // octets that the connection has received; nil: only whole DATA frames of a stream count as its body
}

const (
	connWindow   = 1 << 20 // body bytes that a connection may have sent and nobody has read
	streamWindow = 256 << 10
	outRoom      = 16 << 10  // of DATA that wait to be written; then streams wait
	outMost      = 256 << 10 // of anything; then the reader waits, and with it the peer
	lingerFor    = time.Second

	// Frames that bring nothing between two that do, before we call it an attack. One DATA frame may well be
	// accompanied by a PING and two WINDOW_UPDATEs.
	maxIdleFrames = 4096
	// Streams that ended before their answer, by the peer's will or fault ("rapid reset", CVE-2023-44487, and "made you
	// reset", CVE-2025-8671): as many at once, then so many per second.
	maxResets, resetsPerSecond = 512, 128
	unawareStreams             = 1000 // that may be refused to a peer that does not know MaxStreams yet
	maxContinuations           = 32
)

// errClosed is what streams hear whose connection has ended, errSlow the same if that was because the peer read too slowly.
var (
	errClosed = errors.New("the connection has ended")
	errSlow   = fmt.Errorf("the connection has ended: %w (%w)", pace.ErrSlow, context.Canceled)
)

// Conn is one connection. Serve is called once; Shutdown at any time.
type Conn struct {
	cfg *Config
	rw  net.Conn

	// of the reader
	buf      []byte // what was read lies in buf[r:w]
	r, w     int
	dec      *hpack.Decoder
	head     block
	fields   int    // of the last request
	fragment []byte // of a header block that is not complete
	parts    int    // CONTINUATION frames of it
	blockID  uint32 // its stream; 0: none is under way
	blockEnd bool   // END_STREAM was on its HEADERS
	blockBy  time.Time
	deadline time.Time // that is set for reading
	acked    bool      // it knows our SETTINGS
	resets   float64   // a leaking bucket
	resetAt  time.Time

	mu        sync.Mutex
	out       []byte    // frames to be written
	writing   bool      // somebody is writing
	yielding  bool      // somebody is about to
	space     sync.Cond // out has become shorter
	broken    error     // for good
	send      int       // window of the connection
	sends     pace.Meter
	sendFirst int // window of a new stream
	recv      int // what the peer may still send
	owed      int // to be granted again
	streams   map[uint32]*Stream
	open      int // streams that count against MaxStreams
	waiting   int // streams that wait for a window
	idle      int // frames that brought nothing
	maxID     uint32
	lastID    uint32   // streams above are ignored; set by the second GOAWAY
	reset     []uint32 // the streams that we reset last, whose frames may still be on their way
	resetNext int
	since     time.Time // no stream is open
}

// NewConn makes a connection of rw, whose first bytes may have been read already: the preface is among them.
func NewConn(cfg *Config, rw net.Conn, read []byte) *Conn {
	c := &Conn{cfg: cfg, rw: rw, dec: hpack.NewDecoder(4096, nil), send: defaultWindow, sendFirst: defaultWindow, recv: connWindow,
		streams: map[uint32]*Stream{}, lastID: maxWindow, since: time.Now(), resetAt: time.Now()}
	c.space.L = &c.mu
	c.sends.Start(&cfg.Answers)
	c.buf = make([]byte, max(8<<10, len(read)))
	c.w = copy(c.buf, read)
	c.out = appendSettings(c.buffer(), http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.cfg.MaxStreams)},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.cfg.MaxHeaderBytes)})
	c.out = appendWindow(c.out, 0, connWindow-defaultWindow)
	return c
}

// Serve serves until the connection ends, waits for nothing that it started, and closes it.
func (c *Conn) Serve() {
	err := c.greet()
	for err == nil {
		var f frame
		if f, err = c.next(); err == nil {
			err = c.frame(&f)
		}
		var bad streamError
		if errors.As(err, &bad) {
			err = c.refuse(bad)
		}
	}
	c.end(err)
}

// greet reads the preface.
func (c *Conn) greet() error {
	c.blockBy = time.Now().Add(c.cfg.HeaderTimeout)
	if err := c.ensure(len(http2.ClientPreface)); err != nil {
		return err
	}
	if string(c.buf[c.r:c.r+len(http2.ClientPreface)]) != http2.ClientPreface {
		return connError{http2.ErrCodeProtocol, "no preface"}
	}
	c.r += len(http2.ClientPreface)
	f, err := c.next()
	if err != nil {
		return err
	}
	if f.kind != http2.FrameSettings || f.flags.Has(flagAck) {
		return connError{http2.ErrCodeProtocol, "no SETTINGS behind the preface"}
	}
	c.blockBy = time.Time{}
	return c.frame(&f)
}

// next reads a frame.
func (c *Conn) next() (f frame, err error) {
	if err := c.ensure(frameHead); err != nil {
		return f, err
	}
	h := c.buf[c.r : c.r+frameHead]
	n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	f = frame{kind: http2.FrameType(h[3]), flags: http2.Flags(h[4]), id: uint32(h[5]&0x7f)<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])}
	if n > maxFrame {
		return f, connError{http2.ErrCodeFrameSize, "frame larger than we take"}
	}
	if err := c.ensure(frameHead + n); err != nil {
		return f, err
	}
	f.payload = c.buf[c.r+frameHead : c.r+frameHead+n]
	c.r += frameHead + n
	return f, nil
}

// ensure reads until n bytes are there. What we have to say is written before waiting.
func (c *Conn) ensure(n int) error {
	for c.w-c.r < n {
		if c.r == c.w {
			c.r, c.w = 0, 0
		} else if c.r+n > len(c.buf) {
			to := c.buf
			if n > len(c.buf) {
				to = make([]byte, maxFrame+frameHead)
			}
			c.w = copy(to, c.buf[c.r:c.w])
			c.buf, c.r = to, 0
		}
		if err := c.arm(); err != nil {
			return err
		}
		if err := c.writeOut(); err != nil {
			return err
		}
		got, err := c.rw.Read(c.buf[c.w:])
		c.w += got
		if err != nil && got == 0 {
			if err = c.overdue(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeOut writes what waits, and waits itself if the peer takes nothing.
func (c *Conn) writeOut() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	for len(c.out) > outMost && c.broken == nil {
		c.space.Wait()
	}
	if c.done() {
		return errClosed
	}
	return c.broken
}

// done says whether all that was to be served before a shutdown is; called with mu held.
func (c *Conn) done() bool { return c.lastID != maxWindow && c.open == 0 }

// arm sets the limit for the next bytes, anew only when a part of it is over: that costs as much as a small frame.
func (c *Conn) arm() error {
	by := c.blockBy
	if by.IsZero() {
		now := time.Now()
		if left := c.deadline.Sub(now); left > c.cfg.IdleTimeout*3/4 && left <= c.cfg.IdleTimeout {
			return nil
		}
		by = now.Add(c.cfg.IdleTimeout)
	}
	if by.Equal(c.deadline) {
		return nil
	}
	c.deadline = by
	return c.rw.SetReadDeadline(by)
}

// overdue decides about a failed read: a limit that has passed while streams are open is none.
func (c *Conn) overdue(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if !c.blockBy.IsZero() {
		return connError{http2.ErrCodeEnhanceYourCalm, "the header block did not come in time"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil || c.done() {
		return errClosed
	}
	if c.open == 0 && time.Since(c.since) >= c.cfg.IdleTimeout*3/4 {
		return connError{http2.ErrCodeNo, "idle"}
	}
	c.deadline = time.Time{}
	return nil
}

// Shutdown tells the peer to go: requests that are on their way are served until grace is over, the others to
// their end. Then the connection ends.
func (c *Conn) Shutdown(grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = appendGoAway(c.buffer(), maxWindow, http2.ErrCodeNo)
	go c.flushNow() // the peer may be slow to take it, and there are others to be told
	time.AfterFunc(grace, func() {
		c.mu.Lock()
		c.lastID = c.maxID
		c.out = appendGoAway(c.buffer(), c.lastID, http2.ErrCodeNo)
		c.flush()
		if c.done() {
			c.hangUp()
		}
		c.mu.Unlock()
	})
}

func (c *Conn) flushNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

// hangUp makes the reader end.
func (c *Conn) hangUp() { _ = c.rw.SetReadDeadline(time.Unix(1, 0)) } // an error means that it is closed already

// end tells the peer why and closes the connection. Streams that are under way hear it.
func (c *Conn) end(err error) {
	var bad connError
	c.mu.Lock()
	if errors.As(err, &bad) && c.broken == nil {
		c.out = appendGoAway(c.buffer(), c.maxID, bad.code)
	}
	if bad.why != "" || c.done() {
		for c.flush(); c.writing && c.broken == nil; {
			c.space.Wait() // for at most the time that a write may take
		}
	}
	lost := c.broken != nil
	c.fail(errClosed)
	c.mu.Unlock()
	if bad.why != "" && !lost {
		c.linger()
	}
	_ = c.rw.Close() // it has ended
}

// linger reads what the peer still sends for a moment: closing on it would take our last words away.
func (c *Conn) linger() {
	if w, ok := c.rw.(interface{ CloseWrite() error }); !ok || w.CloseWrite() != nil || c.rw.SetReadDeadline(time.Now().Add(lingerFor)) != nil {
		return
	}
	for n := 0; n < connWindow; {
		got, err := c.rw.Read(c.buf)
		if n += got; err != nil {
			return
		}
	}
}

// fail ends all streams; called with mu held.
func (c *Conn) fail(err error) {
	if c.broken != nil {
		return
	}
	c.broken = err
	for _, st := range c.streams {
		c.drop(st, err)
	}
	c.space.Broadcast()
}

// flush writes what waits, unless somebody does already; called with mu held, which it gives up meanwhile.
func (c *Conn) flush() {
	if c.writing {
		return
	}
	c.writing = true
	for len(c.out) > 0 && c.broken == nil {
		out := c.out
		c.out = nil
		c.mu.Unlock()
		_, err := c.rw.Write(out)
		outBuffers.put(out)
		c.mu.Lock()
		if err != nil {
			reason := errClosed
			if errors.Is(err, pace.ErrSlow) {
				reason = errSlow
			}
			c.fail(reason)
			c.hangUp()
		}
		c.space.Broadcast()
	}
	c.writing = false
	c.space.Broadcast()
}

// buffer is where the next frame goes; called with mu held.
func (c *Conn) buffer() []byte {
	if c.out == nil {
		c.out = outBuffers.get()
	}
	return c.out
}

// outBuffers keeps what connections need only while they write.
var outBuffers bufferPool

type bufferPool struct{ pool sync.Pool }

// outBuffer holds what streams may leave waiting, and one frame more.
const outBuffer = outRoom + maxFrame + 8<<10

func (p *bufferPool) get() []byte {
	if b, ok := p.pool.Get().(*[outBuffer]byte); ok {
		return b[:0]
	}
	return make([]byte, 0, outBuffer)
}

func (p *bufferPool) put(b []byte) {
	if cap(b) == outBuffer {
		p.pool.Put((*[outBuffer]byte)(b[:outBuffer]))
	}
}
