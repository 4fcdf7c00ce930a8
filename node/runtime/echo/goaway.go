package echo

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/http2"
)

// preface is how a client of HTTP/2 begins (RFC 9113, 3.4).
var preface = []byte(http2.ClientPreface)

// farewell is the first of two GOAWAY frames (RFC 9113, 6.8). It asks the client to open no more streams, and names the
// highest stream there can be, so that those on their way are answered. The server library sends the second when it
// closes the connection.
var farewell = func() []byte {
	var frame bytes.Buffer
	if err := http2.NewFramer(&frame, nil).WriteGoAway(1<<31-1, http2.ErrCodeNo, nil); err != nil {
		panic(err) // a buffer takes everything
	}
	return frame.Bytes()
}()

const frameHeader = 9

// frames follows what the server writes, to know where a frame of another may be put in between.
type frames struct {
	header  []byte // of the next frame, as far as it was written
	left    int    // bytes of the frame under way
	begun   bool   // SETTINGS, which must be the first, was written
	heading bool   // a header block goes on in the next frame
}

// add takes what was written.
func (f *frames) add(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
			continue
		}
		n := min(frameHeader-len(f.header), len(p))
		f.header = append(f.header, p[:n]...)
		p = p[n:]
		if len(f.header) == frameHeader {
			f.begin()
		}
	}
}

func (f *frames) begin() {
	f.left = int(binary.BigEndian.Uint32(f.header) >> 8)
	kind, flags := http2.FrameType(f.header[3]), http2.Flags(f.header[4])
	switch kind {
	case http2.FrameHeaders, http2.FramePushPromise, http2.FrameContinuation:
		f.heading = !flags.Has(http2.FlagHeadersEndHeaders)
	}
	f.begun = true
	f.header = f.header[:0]
}

// between says whether a frame may be put here.
func (f *frames) between() bool {
	return f.begun && f.left == 0 && len(f.header) == 0 && !f.heading
}
