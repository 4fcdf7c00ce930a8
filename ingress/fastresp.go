package ingress

import (
	"bytes"
	"errors"
	"strconv"
)

// answerHead is the head of an endpoint's answer, slices of its connection's buffer.
type answerHead struct {
	status  []byte // "200 OK"
	code    int
	fields  []field // space, or larger if there are more; fields[:n] are there
	space   [usualAnswerFields + spareFields]field
	n       int
	size    int   // bytes, with the empty line
	length  int64 // -1: not said
	chunked bool
	close   bool // the connection is not to be used again
	listed  []byte
	upgrade []byte // the protocol it switches to
}

const (
	usualAnswerFields, maxAnswerFields = 96, 2048
	spareFields                        = 16 // for what a policy adds
)

var errBadAnswer = errors.New("the endpoint's answer is malformed")

// parse reads the head at the beginning of b; done is false if it is not complete. Its lines may end with LF alone, as
// net/http's client has it (RFC 9112 section 2.2).
func (h *answerHead) parse(b []byte) (done bool, err error) {
	h.reset()
	line, rest, found := cutLine(b)
	if !found {
		return false, nil
	}
	if !h.statusLine(line) {
		return false, errBadAnswer
	}
	for {
		if line, rest, found = cutLine(rest); !found {
			return false, nil
		}
		if len(line) == 0 {
			break
		}
		if !h.line(line) {
			return false, errBadAnswer
		}
	}
	h.size = len(b) - len(rest)
	if h.chunked && h.length >= 0 {
		return false, errBadAnswer
	}
	if h.code < 200 || h.code == 204 || h.code == 304 {
		h.noBody()
	}
	if !h.chunked {
		h.n = without(h.fields[:h.n], "Trailer") // none can come
	}
	return true, nil
}

// noBody removes what announces a body where none can come (RFC 9110 section 8.6, RFC 9112 section 6.1): there are clients
// that wait for its chunks. An endpoint that announces one may send it, too, so its connection ends with this answer.
func (h *answerHead) noBody() {
	h.close = h.close || h.chunked
	h.chunked = false
	if h.code != 304 { // that one says how long the body would be
		h.close = h.close || h.length > 0
		h.n = without(h.fields[:h.n], "Content-Length")
	}
}

func (h *answerHead) reset() {
	if h.fields == nil {
		h.fields = h.space[:]
	}
	h.status, h.n, h.size, h.length, h.chunked, h.listed, h.upgrade = nil, 0, 0, -1, false, nil, nil
}

func (h *answerHead) statusLine(line []byte) bool {
	const start = len("HTTP/1.1 200")
	if len(line) < start || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || line[9] < '1' || !digits(line[9:start]) ||
		len(line) > start && line[start] != ' ' || !validText(line) {
		return false
	}
	h.status, h.close = line[9:], line[7] == '0'
	h.code = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	return true
}

// cutLine is what stands before the first line feed, without the CR before it, and what stands behind.
func cutLine(b []byte) (line, rest []byte, found bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil, false
	}
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest, true
}

// validText says whether a value holds no control character but TAB.
func validText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func (h *answerHead) line(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || h.n == maxAnswerFields || !validText(line) {
		return false
	}
	if h.n+spareFields == len(h.fields) {
		h.fields = append(h.fields, make([]field, len(h.fields))...)
	}
	name, value := line[:colon], trimSpace(line[colon+1:])
	for _, c := range name {
		if !token(c) {
			return false
		}
	}
	switch len(name) {
	case 7:
		if isName(name, "upgrade") {
			h.upgrade = value
			return true
		}
	case 10:
		if isName(name, "connection") {
			h.connection(value)
			return true
		}
		if isName(name, "keep-alive") {
			return true
		}
	case 14:
		if isName(name, "content-length") {
			n, err := strconv.ParseInt(text(value), 10, 63)
			if h.length >= 0 || !digits(value) || err != nil {
				return false
			}
			h.length = n
		}
	case 16, 18:
		if isName(name, "proxy-connection") || isName(name, "proxy-authenticate") {
			return true
		}
	case 17:
		if isName(name, "transfer-encoding") {
			if h.chunked || h.close || !isName(value, "chunked") {
				return false
			}
			h.chunked = true
			return true
		}
	}
	h.fields[h.n] = field{name, value}
	h.n++
	return true
}

func (h *answerHead) connection(value []byte) {
	for part := range bytes.SplitSeq(value, []byte{','}) {
		switch part = trimSpace(part); {
		case isName(part, "close"):
			h.close = true
		case isName(part, "keep-alive"), isName(part, "upgrade"):
		default:
			h.listed = value // names headers that end here
		}
	}
}

// hop says whether a header is named by Connection.
func (h *answerHead) hop(name []byte) bool {
	for part := range bytes.SplitSeq(h.listed, []byte{','}) {
		if bytes.EqualFold(trimSpace(part), name) {
			return true
		}
	}
	return false
}

// bodyless says whether an answer to method ends with its head (RFC 9112 section 6.3).
func (h *answerHead) bodyless(method string) bool {
	return h.code < 200 || h.code == 204 || h.code == 304 || method == "HEAD"
}

// appendTo writes the head that the client gets.
func (h *answerHead) appendTo(out []byte, closing bool) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = append(out, h.status...)
	out = append(out, "\r\n"...)
	for _, f := range h.fields[:h.n] {
		if h.listed != nil && h.hop(f.name) {
			continue
		}
		out = append(out, f.name...)
		out = append(out, ": "...)
		out = append(out, f.value...)
		out = append(out, "\r\n"...)
	}
	if h.chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	if closing {
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, "\r\n"...)
}

// chunks follows a chunked body (RFC 9112 section 7.1) to its end, without changing it.
type chunks struct {
	state chunkState
	left  int64
	line  int // bytes of the line so far
	cr    bool

	trailers []byte // that next has seen
}

type chunkState int

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkData
	chunkEnd
	chunkTrailer
	chunkDone
)

const (
	maxChunkLine = 8 << 10
	maxTrailers  = 16 << 10
)

// feed looks at the next bytes and returns how many of them belong to the body; state is chunkDone at its end.
func (c *chunks) feed(b []byte) (int, error) {
	for i := 0; i < len(b); {
		if c.state == chunkDone {
			return i, nil
		}
		if c.state == chunkData {
			n := min(c.left, int64(len(b)-i))
			c.left -= n
			i += int(n)
			if c.left == 0 {
				c.state, c.line = chunkEnd, 0
			}
			continue
		}
		if err := c.byte(b[i]); err != nil {
			return i, err
		}
		i++
	}
	return len(b), nil
}

// next is the next piece of content in b, and how many bytes it took to find it. No content: b is used up, or state
// is chunkDone and trailers holds the lines behind the content.
func (c *chunks) next(b []byte) (content []byte, n int, err error) {
	for n < len(b) && c.state != chunkDone {
		if c.state == chunkData {
			content = b[n : n+int(min(c.left, int64(len(b)-n)))]
			_, err := c.feed(content)
			return content, n + len(content), err
		}
		if c.state == chunkTrailer {
			if c.trailers = append(c.trailers, b[n]); len(c.trailers) > maxTrailers {
				return nil, n, errBadAnswer
			}
		}
		if err := c.byte(b[n]); err != nil {
			return nil, n, err
		}
		n++
	}
	return nil, n, nil
}

// byte takes a byte of a line.
func (c *chunks) byte(b byte) error {
	switch {
	case c.cr:
		if b != '\n' {
			return errBadAnswer
		}
		c.cr = false
		return c.endLine()
	case b == '\n':
		return errBadAnswer
	case b == '\r':
		c.cr = true
		return nil
	}
	if c.line++; c.line > maxChunkLine {
		return errBadAnswer
	}
	switch c.state {
	case chunkEnd:
		return errBadAnswer
	case chunkSize:
		if b == ';' || b == ' ' || b == '\t' {
			if c.line == 1 {
				return errBadAnswer
			}
			c.state = chunkExtension
			return nil
		}
		hex := '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
		if !hex || c.line > 15 {
			return errBadAnswer
		}
		c.left = c.left<<4 | int64(unhex(b))
	}
	return nil
}

func (c *chunks) endLine() error {
	empty := c.line == 0
	c.line = 0
	switch c.state {
	case chunkSize, chunkExtension:
		switch {
		case empty:
			return errBadAnswer
		case c.left == 0:
			c.state = chunkTrailer
		default:
			c.state = chunkData
		}
	case chunkEnd:
		c.state = chunkSize
	case chunkTrailer:
		if empty {
			c.state = chunkDone
		}
	}
	return nil
}

// neverTrails says whether a field is about the connection or says how a message is read, so that it has no place behind
// one (RFC 9110 section 6.5.1).
func neverTrails(name []byte) bool {
	for _, field := range []string{"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "trailer", "content-length", "host"} {
		if isName(name, field) {
			return true
		}
	}
	return false
}
