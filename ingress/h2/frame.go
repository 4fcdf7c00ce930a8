package h2

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2"
)

// frame is one as it came; payload is good until the next is read.
type frame struct {
	kind    http2.FrameType
	flags   http2.Flags
	id      uint32
	payload []byte
}

const (
	frameHead = 9
	maxFrame  = 16384 // what we take, and what a peer takes unless it says otherwise (RFC 9113 section 4.2)

	flagEndStream  = http2.FlagDataEndStream
	flagAck        = http2.FlagSettingsAck
	flagEndHeaders = http2.FlagHeadersEndHeaders
	flagPadded     = http2.FlagDataPadded
	flagPriority   = http2.FlagHeadersPriority

	maxWindow     = 1<<31 - 1
	defaultWindow = 65535
)

// connError ends a connection, streamError one stream (RFC 9113 section 5.4).
type connError struct {
	code http2.ErrCode
	why  string
}

func (e connError) Error() string { return fmt.Sprintf("%s: %v", e.why, e.code) }

type streamError struct {
	id   uint32
	code http2.ErrCode
	why  string
}

func (e streamError) Error() string { return fmt.Sprintf("stream %d: %s: %v", e.id, e.why, e.code) }

// appendFrame begins a frame whose payload of length bytes the caller appends.
func appendFrame(out []byte, kind http2.FrameType, flags http2.Flags, id uint32, length int) []byte {
	return append(out, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendReset(out []byte, id uint32, code http2.ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(out, http2.FrameRSTStream, 0, id, 4), uint32(code))
}

func appendWindow(out []byte, id uint32, grant int) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(out, http2.FrameWindowUpdate, 0, id, 4), uint32(grant))
}

func appendGoAway(out []byte, last uint32, code http2.ErrCode) []byte {
	out = binary.BigEndian.AppendUint32(appendFrame(out, http2.FrameGoAway, 0, 0, 8), last)
	return binary.BigEndian.AppendUint32(out, uint32(code))
}

func appendSettings(out []byte, settings ...http2.Setting) []byte {
	out = appendFrame(out, http2.FrameSettings, 0, 0, 6*len(settings))
	for _, s := range settings {
		out = binary.BigEndian.AppendUint16(out, uint16(s.ID))
		out = binary.BigEndian.AppendUint32(out, s.Val)
	}
	return out
}

// appendHeaders writes a header block, in CONTINUATION frames where it is larger than the peer takes at once.
func appendHeaders(out []byte, id uint32, block []byte, end bool, most int) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = flagEndStream
	}
	for len(block) > most {
		out = append(appendFrame(out, kind, flags, id, most), block[:most]...)
		block, kind, flags = block[most:], http2.FrameContinuation, 0
	}
	return append(appendFrame(out, kind, flags|flagEndHeaders, id, len(block)), block...)
}

// unpad takes the padding from the payload of DATA or HEADERS (RFC 9113 section 6.1).
func (f *frame) unpad() ([]byte, error) {
	if !f.flags.Has(flagPadded) {
		return f.payload, nil
	}
	if len(f.payload) == 0 {
		return nil, connError{http2.ErrCodeFrameSize, "padded frame without a length of its padding"}
	}
	pad := int(f.payload[0])
	if pad > len(f.payload)-1 {
		return nil, connError{http2.ErrCodeProtocol, "more padding than frame"}
	}
	return f.payload[1 : len(f.payload)-pad], nil
}
