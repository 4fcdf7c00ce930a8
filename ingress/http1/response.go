package http1

import (
	"bytes"
	"errors"
	"strconv"
)

// ResponseHead is the head of an endpoint's answer: slices of its connection's buffer. It must not be copied once Parse was
// called.
type ResponseHead struct {
	status    []byte // "200 OK"
	Code      int
	FieldList // in space, or a larger one if there are more
	space     [usualAnswerFields + spareFields]field
	Size      int   // bytes, with the empty line
	Length    int64 // -1: not said
	Chunked   bool
	Close     bool // the connection is not to be used again
	Listed    []byte
	Upgrade   []byte // the protocol it switches to
}

const (
	usualAnswerFields, maxAnswerFields = 96, 2048
	spareFields                        = 16 // for what a policy adds
)

// ErrBadResponse says that an answer, or the framing of its body, breaks RFC 9112.
var ErrBadResponse = errors.New("the endpoint's answer is malformed")

// Parse reads the head at the beginning of b; done is false if it is not complete. Its lines may end with LF alone, as
// net/http's client has it (RFC 9112 section 2.2).
func (h *ResponseHead) Parse(b []byte) (done bool, err error) {
	h.reset()
	line, rest, found := cutLine(b)
	if !found {
		return false, nil
	}
	if !h.statusLine(line) {
		return false, ErrBadResponse
	}
	for {
		if line, rest, found = cutLine(rest); !found {
			return false, nil
		}
		if len(line) == 0 {
			break
		}
		if !h.line(line) {
			return false, ErrBadResponse
		}
	}
	h.Size = len(b) - len(rest)
	if h.Chunked && h.Length >= 0 {
		return false, ErrBadResponse
	}
	if h.Code < 200 || h.Code == 204 || h.Code == 304 {
		h.noBody()
	}
	if !h.Chunked {
		h.N = without(h.Fields[:h.N], "Trailer") // none can come
	}
	return true, nil
}

// noBody removes what announces a body where none can come (RFC 9110 section 8.6, RFC 9112 section 6.1): there are clients
// that wait for its chunks. An endpoint that announces one may send it, too, so its connection ends with this answer.
func (h *ResponseHead) noBody() {
	h.Close = h.Close || h.Chunked
	h.Chunked = false
	if h.Code != 304 { // that one says how long the body would be
		h.Close = h.Close || h.Length > 0
		h.N = without(h.Fields[:h.N], "Content-Length")
	}
}

func (h *ResponseHead) reset() {
	if h.Fields == nil {
		h.Fields = h.space[:]
	}
	h.status, h.N, h.Size, h.Length, h.Chunked, h.Listed, h.Upgrade = nil, 0, 0, -1, false, nil, nil
}

func (h *ResponseHead) statusLine(line []byte) bool {
	const start = len("HTTP/1.1 200")
	if len(line) < start || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || line[9] < '1' || !digits(line[9:start]) ||
		len(line) > start && line[start] != ' ' || !validText(line) {
		return false
	}
	h.status, h.Close = line[9:], line[7] == '0'
	h.Code = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
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

func (h *ResponseHead) line(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || h.N == maxAnswerFields || !validText(line) {
		return false
	}
	if h.N+spareFields == len(h.Fields) {
		h.Fields = append(h.Fields, make([]field, len(h.Fields))...)
	}
	name, value := line[:colon], TrimSpace(line[colon+1:])
	for _, c := range name {
		if !Token(c) {
			return false
		}
	}
	switch len(name) {
	case 7:
		if IsName(name, "upgrade") {
			h.Upgrade = value
			return true
		}
	case 10:
		if IsName(name, "connection") {
			h.connection(value)
			return true
		}
		if IsName(name, "keep-alive") {
			return true
		}
	case 14:
		if IsName(name, "content-length") {
			n, err := strconv.ParseInt(Text(value), 10, 63)
			if h.Length >= 0 || !digits(value) || err != nil {
				return false
			}
			h.Length = n
		}
	case 16, 18:
		if IsName(name, "proxy-connection") || IsName(name, "proxy-authenticate") {
			return true
		}
	case 17:
		if IsName(name, "transfer-encoding") {
			if h.Chunked || h.Close || !IsName(value, "chunked") {
				return false
			}
			h.Chunked = true
			return true
		}
	}
	h.Fields[h.N] = field{name, value}
	h.N++
	return true
}

func (h *ResponseHead) connection(value []byte) {
	for part := range bytes.SplitSeq(value, []byte{','}) {
		switch part = TrimSpace(part); {
		case IsName(part, "close"):
			h.Close = true
		case IsName(part, "keep-alive"), IsName(part, "upgrade"):
		default:
			h.Listed = value // names headers that end here
		}
	}
}

// EndsHere says whether a header is named by Connection.
func (h *ResponseHead) EndsHere(name []byte) bool {
	for part := range bytes.SplitSeq(h.Listed, []byte{','}) {
		if bytes.EqualFold(TrimSpace(part), name) {
			return true
		}
	}
	return false
}

// Bodyless says whether an answer to method ends with its head (RFC 9112 section 6.3).
func (h *ResponseHead) Bodyless(method string) bool {
	return h.Code < 200 || h.Code == 204 || h.Code == 304 || method == "HEAD"
}

// AppendTo writes the head that the client gets.
func (h *ResponseHead) AppendTo(out []byte, closing bool) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = append(out, h.status...)
	out = append(out, "\r\n"...)
	for _, f := range h.Fields[:h.N] {
		if h.Listed != nil && h.EndsHere(f.Name) {
			continue
		}
		out = append(out, f.Name...)
		out = append(out, ": "...)
		out = append(out, f.Value...)
		out = append(out, "\r\n"...)
	}
	if h.Chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	if closing {
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, "\r\n"...)
}

// Chunks follows a chunked body (RFC 9112 section 7.1) to its end, without changing it.
type Chunks struct {
	State chunkState
	left  int64
	line  int // bytes of the line so far
	cr    bool

	Trailers []byte // that next has seen
}

type chunkState int

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkData
	chunkEnd
	chunkTrailer
	ChunkDone
)

const (
	maxChunkLine = 8 << 10
	maxTrailers  = 16 << 10
)

// Feed looks at the next bytes and returns how many of them belong to the body; state is ChunkDone at its end.
func (c *Chunks) Feed(b []byte) (int, error) {
	for i := 0; i < len(b); {
		if c.State == ChunkDone {
			return i, nil
		}
		if c.State == chunkData {
			n := min(c.left, int64(len(b)-i))
			c.left -= n
			i += int(n)
			if c.left == 0 {
				c.State, c.line = chunkEnd, 0
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

// Next is the next piece of content in b, and how many bytes it took to find it. No content: b is used up, or state
// is ChunkDone and trailers holds the lines behind the content.
func (c *Chunks) Next(b []byte) (content []byte, n int, err error) {
	for n < len(b) && c.State != ChunkDone {
		if c.State == chunkData {
			content = b[n : n+int(min(c.left, int64(len(b)-n)))]
			_, err := c.Feed(content)
			return content, n + len(content), err
		}
		if c.State == chunkTrailer {
			if c.Trailers = append(c.Trailers, b[n]); len(c.Trailers) > maxTrailers {
				return nil, n, ErrBadResponse
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
func (c *Chunks) byte(b byte) error {
	switch {
	case c.cr:
		if b != '\n' {
			return ErrBadResponse
		}
		c.cr = false
		return c.endLine()
	case b == '\n':
		return ErrBadResponse
	case b == '\r':
		c.cr = true
		return nil
	}
	if c.line++; c.line > maxChunkLine {
		return ErrBadResponse
	}
	switch c.State {
	case chunkEnd:
		return ErrBadResponse
	case chunkSize:
		if b == ';' || b == ' ' || b == '\t' {
			if c.line == 1 {
				return ErrBadResponse
			}
			c.State = chunkExtension
			return nil
		}
		hex := '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
		if !hex || c.line > 15 {
			return ErrBadResponse
		}
		c.left = c.left<<4 | int64(unhex(b))
	}
	return nil
}

func (c *Chunks) endLine() error {
	empty := c.line == 0
	c.line = 0
	switch c.State {
	case chunkSize, chunkExtension:
		switch {
		case empty:
			return ErrBadResponse
		case c.left == 0:
			c.State = chunkTrailer
		default:
			c.State = chunkData
		}
	case chunkEnd:
		c.State = chunkSize
	case chunkTrailer:
		if empty {
			c.State = ChunkDone
		}
	}
	return nil
}

// NeverTrails says whether a field is about the connection or says how a message is read, so that it has no place behind
// one (RFC 9110 section 6.5.1).
func NeverTrails(name []byte) bool {
	for _, field := range []string{"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "trailer", "content-length", "host"} {
		if IsName(name, field) {
			return true
		}
	}
	return false
}
