package http1

import (
	"bytes"
	"errors"
	"strconv"
)

// Scanner follows a stream of HTTP/1.1 requests (RFC 9112) without keeping it, and finds what a strict server
// refuses: messages framed twice, bare line feeds, folded headers, names that are no token.
type Scanner struct {
	state   scanState
	line    []byte // the beginning of a line whose end has not come yet
	left    int64  // bytes of the body or chunk to come
	Came    int64  // bytes of the body that have come, as they are on the wire
	oldHTTP bool   // HTTP/1.0
	length  int64  // Content-Length; -1: none seen
	chunked bool
	hosts   int
}

type scanState int

const (
	inRequestLine scanState = iota
	inHeader
	inLengthBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
)

// maxLine bounds what the scanner keeps; net/http has its own, smaller limit on whole heads.
const maxLine = 128 << 10

var (
	errBareLF        = errors.New("malformed request: line not ended by CR LF")
	errBareCR        = errors.New("malformed request: CR within a line")
	errRequestLine   = errors.New("malformed request: bad request line")
	errFolded        = errors.New("malformed request: folded header line")
	errHeaderName    = errors.New("malformed request: bad header name")
	errLength        = errors.New("malformed request: bad or repeated Content-Length")
	errCoding        = errors.New("malformed request: bad or repeated Transfer-Encoding")
	errFramedTwice   = errors.New("malformed request: both Content-Length and Transfer-Encoding")
	errSeveralHosts  = errors.New("malformed request: several Host headers")
	errChunk         = errors.New("malformed request: bad chunk")
	errLineTooLong   = errors.New("malformed request: line too long")
	headerContentLen = []byte("content-length")
	headerTransfer   = []byte("transfer-encoding")
	headerHost       = []byte("host")
)

// Feed looks at the next bytes. On a mistake it returns how many of them may be handed on: never the end of the
// line with the mistake, so never a complete head.
func (s *Scanner) Feed(b []byte) (int, error) {
	for i := 0; i < len(b); {
		switch s.state {
		case inLengthBody, inChunk:
			n := min(s.left, int64(len(b)-i))
			s.left -= n
			s.Came += n
			i += int(n)
			if s.left == 0 {
				s.endBody()
			}
		default:
			body := s.InBody()
			n, err := s.feedLine(b[i:])
			if err != nil {
				return i, err
			}
			if i += n; body {
				s.Came += int64(n)
			}
		}
	}
	return len(b), nil
}

// feedLine takes b up to and with the next line feed and returns how much that was.
func (s *Scanner) feedLine(b []byte) (int, error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		s.line = append(s.line, b...)
		if len(s.line) > maxLine {
			return 0, errLineTooLong
		}
		if i := bytes.IndexByte(s.line, '\r'); i >= 0 && i < len(s.line)-1 {
			return 0, errBareCR
		}
		return len(b), nil
	}
	line := b[:end]
	if len(s.line) > 0 {
		s.line = append(s.line, line...)
		line = s.line
	}
	line, ok := bytes.CutSuffix(line, []byte{'\r'})
	if !ok {
		return 0, errBareLF
	}
	if bytes.IndexByte(line, '\r') >= 0 {
		return 0, errBareCR
	}
	err := s.endLine(line)
	s.line = s.line[:0]
	return end + 1, err
}

func (s *Scanner) endLine(line []byte) error {
	switch s.state {
	case inRequestLine:
		return s.requestLine(line)
	case inHeader:
		if len(line) == 0 {
			return s.endHead()
		}
		return s.header(line)
	case inChunkSize:
		return s.chunkSize(line)
	case inChunkEnd:
		if len(line) != 0 {
			return errChunk
		}
		s.state = inChunkSize
	case inTrailer:
		if len(line) == 0 {
			s.state = inRequestLine
			return nil
		}
		_, _, err := splitHeader(line)
		return err
	}
	return nil
}

func (s *Scanner) requestLine(line []byte) error {
	parts := bytes.Split(line, []byte{' '})
	if len(parts) != 3 || len(parts[0]) == 0 || len(parts[1]) == 0 {
		return errRequestLine
	}
	version, ok := bytes.CutPrefix(parts[2], []byte("HTTP/1."))
	if !ok || len(version) != 1 || version[0] != '0' && version[0] != '1' {
		return errRequestLine
	}
	*s = Scanner{state: inHeader, line: s.line, oldHTTP: version[0] == '0', length: -1}
	return nil
}

func (s *Scanner) header(line []byte) error {
	name, value, err := splitHeader(line)
	switch {
	case err != nil:
		return err
	case bytes.EqualFold(name, headerContentLen):
		if s.length >= 0 || !digits(value) {
			return errLength
		}
		if s.length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			return errLength
		}
	case bytes.EqualFold(name, headerTransfer):
		if s.chunked || s.oldHTTP || !bytes.EqualFold(value, []byte("chunked")) {
			return errCoding
		}
		s.chunked = true
	case bytes.EqualFold(name, headerHost):
		if s.hosts++; s.hosts > 1 {
			return errSeveralHosts
		}
	}
	if s.chunked && s.length >= 0 {
		return errFramedTwice
	}
	return nil
}

func (s *Scanner) endHead() error {
	switch {
	case s.chunked:
		s.state = inChunkSize
	case s.length > 0:
		s.state, s.left = inLengthBody, s.length
	default:
		s.state = inRequestLine
	}
	return nil
}

func (s *Scanner) endBody() {
	if s.state == inChunk {
		s.state = inChunkEnd
	} else {
		s.state = inRequestLine
	}
}

func (s *Scanner) chunkSize(line []byte) error {
	size, _, _ := bytes.Cut(line, []byte{';'})
	n, err := strconv.ParseUint(string(size), 16, 63)
	if err != nil || len(size) > 15 {
		return errChunk
	}
	if n == 0 {
		s.state = inTrailer
	} else {
		s.state, s.left = inChunk, int64(n)
	}
	return nil
}

// InBody says whether the next byte belongs to a request body.
func (s *Scanner) InBody() bool {
	return s.state == inLengthBody || s.state == inChunkSize || s.state == inChunk || s.state == inChunkEnd || s.state == inTrailer
}

// splitHeader parses "name: value" (RFC 9112 section 5).
func splitHeader(line []byte) (name, value []byte, err error) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, errFolded
	}
	name, value, found := bytes.Cut(line, []byte{':'})
	if !found || len(name) == 0 {
		return nil, nil, errHeaderName
	}
	for _, c := range name {
		if !Token(c) {
			return nil, nil, errHeaderName
		}
	}
	return name, bytes.Trim(value, " \t"), nil
}

// Token: tchar of RFC 9110 section 5.6.2.
func Token(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}
