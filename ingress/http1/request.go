package http1

import (
	"bytes"
	"strconv"
	"strings"
	"unsafe"
)

// RequestHead is the head of a plain request: slices of the connection's buffer, good until the request has been answered. It
// must not be copied once Reset or Parse was called.
type RequestHead struct {
	Method, Target []byte
	Verb           Verb
	Host           []byte // as it came
	FieldList             // those that are passed on
	space          [maxFields]field
	Size           int // bytes of the head, with the empty line
	Length         int // of the body
	Close          bool
	Upgrade        upgrade
	Agent, Referer []byte
	Trace          []byte
}

// upgrade is what a head says about switching to WebSocket; only both make a handshake (RFC 6455 section 4.1).
type upgrade uint8

const (
	namesWebSocket upgrade = 1 << iota // in Upgrade
	listsUpgrade                       // in Connection

	// IsHandshake: both.
	IsHandshake = namesWebSocket | listsUpgrade
)

const (
	maxFields = 48
	// MaxSmallBody is the length of the largest body that is read as a whole before the request is sent.
	MaxSmallBody = 64 << 10
)

// HeadState is what parse found.
type HeadState int

const (
	HeadIncomplete HeadState = iota // it is not complete
	HeadPlain                       // it can be served without net/http
	HeadOther                       // net/http decides
)

// Parse reads the head at the beginning of b. It accepts only what leaves no room for two opinions (RFC 9112): one
// Host, at most one Content-Length, nothing of the rest of the protocol. Whatever it has a doubt about is unusual
// and goes, unchanged, to the strict reader in front of net/http, which alone refuses requests.
func (h *RequestHead) Parse(b []byte) HeadState {
	end := bytes.Index(b, crlf2)
	if end < 0 {
		if bytes.HasPrefix(b, prefaceStart) || len(b) < len(prefaceStart) && bytes.HasPrefix(prefaceStart, b) && len(b) >= 3 {
			return HeadOther // HTTP/2, or soon
		}
		if endsLinesOddly(b) {
			return HeadOther // it would never end
		}
		return HeadIncomplete
	}
	h.Reset()
	h.Size = end + 4
	eol := bytes.IndexByte(b, '\r')
	if !h.requestLine(b[:eol]) {
		return HeadOther
	}
	for rest := b[eol : end+2]; len(rest) > 2; {
		if rest[1] != '\n' {
			return HeadOther
		}
		rest = rest[2:] // CR LF of the line before
		eol := bytes.IndexByte(rest, '\r')
		if rest[eol+1] != '\n' || !h.line(rest[:eol]) {
			return HeadOther
		}
		rest = rest[eol:]
	}
	if len(h.Host) == 0 || h.Length > MaxSmallBody {
		return HeadOther
	}
	h.Length = max(h.Length, 0)
	if h.Upgrade != 0 && (h.Upgrade != IsHandshake || h.Length > 0 || h.Close || string(h.Method) != "GET") {
		return HeadOther
	}
	return HeadPlain
}

// Reset makes it ready for another head.
func (h *RequestHead) Reset() {
	if h.Fields == nil {
		h.Fields = h.space[:]
	}
	h.N, h.Length, h.Close, h.Upgrade, h.Host, h.Size = 0, -1, false, 0, nil, 0
	h.Agent, h.Referer, h.Trace = nil, nil, nil
}

var (
	crlf2        = []byte("\r\n\r\n")
	prefaceStart = []byte("PRI * HTTP/2.0\r\n")
	// Methods are those that plain requests have.
	Methods = [...]string{"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"}
)

func (h *RequestHead) requestLine(line []byte) bool {
	const version = " HTTP/1.1"
	sp := bytes.IndexByte(line, ' ')
	if sp < 0 || len(line) < sp+1+1+len(version) || string(line[len(line)-len(version):]) != version {
		return false
	}
	return h.RequestLine(line[:sp], line[sp+1:len(line)-len(version)])
}

// RequestLine takes method and target; false when there is anything about them.
func (h *RequestHead) RequestLine(method, target []byte) bool {
	h.Method, h.Target = method, target
	known := false
	for i, m := range Methods {
		if string(h.Method) == m {
			known, h.Verb = true, Verb(i)
			break
		}
	}
	if !known || len(h.Target) == 0 || h.Target[0] != '/' {
		return false
	}
	for _, c := range h.Target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// line takes a header line; false when there is anything about it.
func (h *RequestHead) line(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	name, value := line[:colon], TrimSpace(line[colon+1:])
	for _, c := range name {
		if !Token(c) {
			return false
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return h.AddField(name, value)
}

// AddField takes a well-formed field; false when there is anything about it.
func (h *RequestHead) AddField(name, value []byte) bool {
	if h.N == len(h.Fields) {
		return false
	}
	switch h.kind(name, value) {
	case fieldBad:
		return false
	case fieldOurs:
		return true
	}
	if bytes.IndexByte(name, '_') < 0 {
		h.Fields[h.N] = field{name, value}
		h.N++
	}
	return true
}

type fieldKind int

const (
	fieldPlain fieldKind = iota
	fieldOurs            // not passed on: it is for us, or ours to say
	fieldBad             // the head is not plain
)

// kind sorts the headers that mean something to a proxy by their length first, because most mean nothing.
func (h *RequestHead) kind(name, value []byte) fieldKind {
	switch len(name) {
	case 2:
		if IsName(name, "te") {
			return fieldOurs
		}
	case 4:
		if IsName(name, "host") {
			if h.Host != nil || !ValidHost(value) {
				return fieldBad
			}
			h.Host = value
			return fieldOurs
		}
	case 5:
		if IsName(name, "proxy") {
			return fieldOurs // a CGI program would take it for its own HTTP_PROXY ("httpoxy")
		}
	case 6, 7, 17, 19:
		if IsName(name, "upgrade") && IsName(value, "websocket") && h.Upgrade&namesWebSocket == 0 {
			h.Upgrade |= namesWebSocket
			return fieldOurs
		}
		if IsName(name, "expect") || IsName(name, "upgrade") || IsName(name, "trailer") || IsName(name, "transfer-encoding") {
			return fieldBad
		}
		if IsName(name, "referer") {
			h.Referer = value
		}
		if IsName(name, "proxy-authorization") {
			return fieldOurs
		}
	case 9:
		if IsName(name, "forwarded") || IsName(name, "x-real-ip") {
			return fieldOurs
		}
	case 10:
		if IsName(name, "connection") {
			return h.connection(value)
		}
		if IsName(name, "keep-alive") {
			return fieldOurs
		}
		if IsName(name, "user-agent") {
			h.Agent = value
		}
	case 11:
		if IsName(name, "traceparent") {
			h.Trace = value
		}
	case 14:
		if IsName(name, "content-length") {
			n, err := strconv.Atoi(Text(value))
			if h.Length >= 0 || !digits(value) || err != nil {
				return fieldBad
			}
			h.Length = n
			return fieldOurs
		}
		if IsName(name, "http2-settings") {
			return fieldOurs
		}
	case 16:
		if IsName(name, "proxy-connection") {
			return fieldOurs
		}
	}
	if len(name) > len(forwardedPrefix) && IsName(name[:len(forwardedPrefix)], forwardedPrefix) {
		return fieldOurs
	}
	return fieldPlain
}

const forwardedPrefix = "x-forwarded-"

// Hides says whether a head, however it came, keeps nothing of a header of that name: add takes it for itself.
func Hides(name string) bool {
	var h RequestHead
	h.Length = -1
	kind := h.kind(Bytes(name), []byte("0"))
	return kind != fieldPlain || strings.IndexByte(name, '_') >= 0
}

func (h *RequestHead) connection(value []byte) fieldKind {
	for rest, more := value, true; more; {
		var part []byte
		part, rest, more = bytes.Cut(rest, []byte{','})
		switch part = TrimSpace(part); {
		case IsName(part, "keep-alive"):
		case IsName(part, "close"):
			h.Close = true
		case IsName(part, "upgrade"):
			h.Upgrade |= listsUpgrade
		default:
			return fieldBad
		}
	}
	return fieldOurs
}

// IsName compares without regard to case; name is in lower case.
func IsName(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if c|0x20 != name[i] && c != name[i] {
			return false
		}
	}
	return true
}

// endsLinesOddly says whether a line of an incomplete head ends, or is broken, by anything but CR LF.
func endsLinesOddly(b []byte) bool {
	for rest := b; ; {
		i := bytes.IndexAny(rest, "\r\n")
		switch {
		case i < 0 || i == len(rest)-1 && rest[i] == '\r':
			return false
		case rest[i] == '\n' || rest[i+1] != '\n':
			return true
		}
		rest = rest[i+2:]
	}
}

// TrimSpace removes spaces and tabs from both ends.
func TrimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// Text is b as a string without a copy: it must not outlive the request whose buffer b lies in.
func Text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Bytes is s without a copy: it must not be written to.
func Bytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
