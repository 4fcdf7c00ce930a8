package ingress

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"
)

// fastHead is the head of a request as the fast path understands it: slices of the connection's buffer, good until
// the request has been answered.
type fastHead struct {
	method, target []byte
	verb           verb
	host           []byte // as it came
	fields         [maxFastFields]field
	n              int
	size           int // bytes of the head, with the empty line
	length         int // of the body
	close          bool
	upgrade        upgrade
	agent, referer []byte
	trace          []byte
}

type field struct{ name, value []byte }

// upgrade is what a head says about switching to WebSocket; only both make a handshake (RFC 6455 section 4.1).
type upgrade uint8

const (
	namesWebSocket upgrade = 1 << iota // in Upgrade
	listsUpgrade                       // in Connection

	isHandshake = namesWebSocket | listsUpgrade
)

const (
	maxFastFields = 48
	maxFastBody   = 64 << 10
)

// headState is what parse found.
type headState int

const (
	headMore     headState = iota // it is not complete
	headOrdinary                  // the fast path can serve it
	headUnusual                   // net/http decides
)

// parse reads the head at the beginning of b. It accepts only what leaves no room for two opinions (RFC 9112): one
// Host, at most one Content-Length, nothing of the rest of the protocol. Whatever it has a doubt about is unusual
// and goes, unchanged, to the strict reader in front of net/http, which alone refuses requests.
func (h *fastHead) parse(b []byte) headState {
	end := bytes.Index(b, crlf2)
	if end < 0 {
		if bytes.HasPrefix(b, prefaceStart) || len(b) < len(prefaceStart) && bytes.HasPrefix(prefaceStart, b) && len(b) >= 3 {
			return headUnusual // HTTP/2, or soon
		}
		if endsLinesOddly(b) {
			return headUnusual // it would never end
		}
		return headMore
	}
	h.reset()
	h.size = end + 4
	eol := bytes.IndexByte(b, '\r')
	if !h.requestLine(b[:eol]) {
		return headUnusual
	}
	for rest := b[eol : end+2]; len(rest) > 2; {
		if rest[1] != '\n' {
			return headUnusual
		}
		rest = rest[2:] // CR LF of the line before
		eol := bytes.IndexByte(rest, '\r')
		if rest[eol+1] != '\n' || !h.line(rest[:eol]) {
			return headUnusual
		}
		rest = rest[eol:]
	}
	if len(h.host) == 0 || h.length > maxFastBody {
		return headUnusual
	}
	h.length = max(h.length, 0)
	if h.upgrade != 0 && (h.upgrade != isHandshake || h.length > 0 || h.close || string(h.method) != "GET") {
		return headUnusual
	}
	return headOrdinary
}

func (h *fastHead) reset() {
	h.n, h.length, h.close, h.upgrade, h.host, h.size = 0, -1, false, 0, nil, 0
	h.agent, h.referer, h.trace = nil, nil, nil
}

var (
	crlf2        = []byte("\r\n\r\n")
	prefaceStart = []byte("PRI * HTTP/2.0\r\n")
	fastMethods  = [...]string{"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"}
)

func (h *fastHead) requestLine(line []byte) bool {
	const version = " HTTP/1.1"
	sp := bytes.IndexByte(line, ' ')
	if sp < 0 || len(line) < sp+1+1+len(version) || string(line[len(line)-len(version):]) != version {
		return false
	}
	return h.request(line[:sp], line[sp+1:len(line)-len(version)])
}

// request takes method and target; false when there is anything about them.
func (h *fastHead) request(method, target []byte) bool {
	h.method, h.target = method, target
	known := false
	for i, m := range fastMethods {
		if string(h.method) == m {
			known, h.verb = true, verb(i)
			break
		}
	}
	if !known || len(h.target) == 0 || h.target[0] != '/' {
		return false
	}
	for _, c := range h.target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// line takes a header line; false when there is anything about it.
func (h *fastHead) line(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	name, value := line[:colon], trimSpace(line[colon+1:])
	for _, c := range name {
		if !token(c) {
			return false
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return h.add(name, value)
}

// add takes a well-formed field; false when there is anything about it.
func (h *fastHead) add(name, value []byte) bool {
	if h.n == len(h.fields) {
		return false
	}
	switch h.kind(name, value) {
	case fieldBad:
		return false
	case fieldOurs:
		return true
	}
	if bytes.IndexByte(name, '_') < 0 {
		h.fields[h.n] = field{name, value}
		h.n++
	}
	return true
}

type fieldKind int

const (
	fieldPlain fieldKind = iota
	fieldOurs            // not passed on: it is for us, or ours to say
	fieldBad             // the fast path does not know it
)

// kind sorts the headers that mean something to a proxy by their length first, because most mean nothing.
func (h *fastHead) kind(name, value []byte) fieldKind {
	switch len(name) {
	case 2:
		if isName(name, "te") {
			return fieldOurs
		}
	case 4:
		if isName(name, "host") {
			if h.host != nil || !validHost(value) {
				return fieldBad
			}
			h.host = value
			return fieldOurs
		}
	case 5:
		if isName(name, "proxy") {
			return fieldOurs // a CGI program would take it for its own HTTP_PROXY ("httpoxy")
		}
	case 6, 7, 17, 19:
		if isName(name, "upgrade") && isName(value, "websocket") && h.upgrade&namesWebSocket == 0 {
			h.upgrade |= namesWebSocket
			return fieldOurs
		}
		if isName(name, "expect") || isName(name, "upgrade") || isName(name, "trailer") || isName(name, "transfer-encoding") {
			return fieldBad
		}
		if isName(name, "referer") {
			h.referer = value
		}
		if isName(name, "proxy-authorization") {
			return fieldOurs
		}
	case 9:
		if isName(name, "forwarded") || isName(name, "x-real-ip") {
			return fieldOurs
		}
	case 10:
		if isName(name, "connection") {
			return h.connection(value)
		}
		if isName(name, "keep-alive") {
			return fieldOurs
		}
		if isName(name, "user-agent") {
			h.agent = value
		}
	case 11:
		if isName(name, "traceparent") {
			h.trace = value
		}
	case 14:
		if isName(name, "content-length") {
			n, err := strconv.Atoi(text(value))
			if h.length >= 0 || !digits(value) || err != nil {
				return fieldBad
			}
			h.length = n
			return fieldOurs
		}
		if isName(name, "http2-settings") {
			return fieldOurs
		}
	case 16:
		if isName(name, "proxy-connection") {
			return fieldOurs
		}
	}
	if len(name) > len(forwardedPrefix) && isName(name[:len(forwardedPrefix)], forwardedPrefix) {
		return fieldOurs
	}
	return fieldPlain
}

const forwardedPrefix = "x-forwarded-"

// hides says whether a head, however it came, keeps nothing of a header of that name: add takes it for itself.
func hides(name string) bool {
	var h fastHead
	h.length = -1
	kind := h.kind(textBytes(name), []byte("0"))
	return kind != fieldPlain || strings.IndexByte(name, '_') >= 0
}

func (h *fastHead) connection(value []byte) fieldKind {
	for rest, more := value, true; more; {
		var part []byte
		part, rest, more = bytes.Cut(rest, []byte{','})
		switch part = trimSpace(part); {
		case isName(part, "keep-alive"):
		case isName(part, "close"):
			h.close = true
		case isName(part, "upgrade"):
			h.upgrade |= listsUpgrade
		default:
			return fieldBad
		}
	}
	return fieldOurs
}

// isName compares without regard to case; name is in lower case.
func isName(b []byte, name string) bool {
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

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// text is b as a string without a copy: it must not outlive the request whose buffer b lies in.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// textBytes is s without a copy: it must not be written to.
func textBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// Target is what an endpoint is asked for.
type Target struct {
	Path     string
	Query    string // without "?"
	HasQuery bool   // there is a "?"
	Host     string
}

// appendRequest writes the head that the endpoint gets.
func (h *fastHead) appendRequest(out []byte, to *Target, c *Forwarded) []byte {
	out = append(out, h.method...)
	out = append(out, ' ')
	out = append(out, to.Path...)
	if to.HasQuery {
		out = append(out, '?')
		out = append(out, to.Query...)
	}
	out = append(out, " HTTP/1.1\r\nHost: "...)
	out = append(out, to.Host...)
	out = append(out, "\r\n"...)
	for _, f := range h.fields[:h.n] {
		out = append(out, f.name...)
		out = append(out, ": "...)
		out = append(out, f.value...)
		out = append(out, "\r\n"...)
	}
	if h.length > 0 || len(h.method) > 2 && (h.method[0] == 'P') {
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, int64(h.length), 10)
		out = append(out, "\r\n"...)
	}
	if h.upgrade == isHandshake {
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	return c.AppendTo(out, h.host)
}

// Forwarded is what the endpoint is told about who asked. It is the same for a connection unless the peer is a trusted
// proxy.
type Forwarded struct {
	Client                   netip.Addr
	Chain, Proto, Host, Port string // Chain: X-Forwarded-For of proxies before the peer; Host: empty for that of the request
	Peer                     string
	Node                     string // Client as the header Forwarded writes it
}

// AppendTo writes the fields, and the end of the head.
func (c *Forwarded) AppendTo(out, host []byte) []byte {
	out = append(out, "X-Forwarded-For: "...)
	if c.Chain != "" {
		out = append(out, c.Chain...)
		out = append(out, ", "...)
	}
	out = append(out, c.Peer...)
	out = append(out, "\r\nX-Real-Ip: "...)
	out = c.Client.AppendTo(out)
	out = append(out, "\r\nX-Forwarded-Proto: "...)
	out = append(out, c.Proto...)
	out = append(out, "\r\nX-Forwarded-Host: "...)
	if c.Host != "" {
		out = append(out, c.Host...)
	} else {
		out = append(out, host...)
	}
	out = append(out, "\r\nX-Forwarded-Port: "...)
	out = append(out, c.Port...)
	out = append(out, "\r\nForwarded: for="...)
	out = append(out, c.Node...)
	out = append(out, ";proto="...)
	out = append(out, c.Proto...)
	out = append(out, `;host="`...)
	out = append(out, host...)
	return append(out, "\"\r\n\r\n"...)
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
