package http1

import (
	"errors"
	"strings"
	"testing"
)

const okHead = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

var goodStreams = []string{
	okHead,
	okHead + okHead,
	"GET / HTTP/1.0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + okHead,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:0\r\n\r\n" + okHead,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tChunked \r\n\r\n3\r\na\nb\r\n1f;ext=\"x\"\r\n" + strings.Repeat("x", 31) + "\r\n0\r\nTrailer: y\r\n\r\n" + okHead,
}

var badStreams = map[string]error{
	"GET / HTTP/1.1\nHost: a\r\n\r\n":                 errBareLF,
	"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n":         errBareLF,
	"GET / HTTP/1.1\r\nHost: a\r\n\n":                 errBareLF,
	"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n":    errBareCR,
	"GET  / HTTP/1.1\r\nHost: a\r\n\r\n":              errRequestLine,
	"GET / a HTTP/1.1\r\nHost: a\r\n\r\n":             errRequestLine,
	"GET /\r\n\r\n":                                   errRequestLine,
	"GET / HTTP/2.0\r\nHost: a\r\n\r\n":               errRequestLine,
	"GET / HTTP/1.10\r\nHost: a\r\n\r\n":              errRequestLine,
	"PRI * HTTP/2.0\r\nHost: a\r\n\r\n":               errRequestLine,
	"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n": errFolded,
	"GET / HTTP/1.1\r\nHost: a\r\n\tX: y\r\n\r\n":     errFolded,
	"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n":      errHeaderName,
	"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n":        errHeaderName,
	"GET / HTTP/1.1\r\nHost: a\r\nXy\r\n\r\n":         errHeaderName,
	"GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: y\r\n\r\n":  errHeaderName,
	"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n":    errSeveralHosts,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":      errFramedTwice,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n":      errFramedTwice,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na":                       errLength,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na":                                         errLength,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na":                                           errLength,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n":                                              errLength,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n":                          errLength,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":                              errCoding,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n":      errCoding,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n":                                   errCoding,
	"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n":                                    errCoding,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n":               errChunk,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n":                          errChunk,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n":               errChunk,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n":                   errBareLF,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n":                errChunk,
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n":            errHeaderName,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n": errHeaderName,
}

// scan feeds a stream in parts of a size.
func scan(stream string, part int) (passed int, err error) {
	var s Scanner
	for rest := stream; rest != "" && err == nil; {
		n := min(part, len(rest))
		var good int
		good, err = s.Feed([]byte(rest[:n]))
		passed += good
		rest = rest[n:]
	}
	return passed, err
}

func TestScanner(t *testing.T) {
	for _, part := range []int{1, 2, 3, 7, 1 << 20} {
		for _, stream := range goodStreams {
			if n, err := scan(stream, part); err != nil || n != len(stream) {
				t.Errorf("%q in parts of %d: %d of %d bytes, %v", stream, part, n, len(stream), err)
			}
		}
		for stream, want := range badStreams {
			n, err := scan(stream, part)
			if !errors.Is(err, want) {
				t.Errorf("%q in parts of %d: %v, want %v", stream, part, err, want)
			}
			if strings.Contains(stream, "chunked\r\n\r\n") || strings.Contains(stream, "abGET") {
				continue // the mistake is after a head that was well
			}
			if strings.HasSuffix(stream[:n], "\n\r\n") || strings.HasSuffix(stream[:n], "\n\n") {
				t.Errorf("%q in parts of %d: a complete head passed", stream, part)
			}
		}
	}
}

// FuzzScanner: how a stream is cut into parts makes no difference, and nothing panics.
func FuzzScanner(f *testing.F) {
	for _, s := range goodStreams {
		f.Add(s, uint8(3))
	}
	for s := range badStreams {
		f.Add(s, uint8(5))
	}
	f.Fuzz(func(t *testing.T, stream string, part uint8) {
		_, whole := scan(stream, len(stream)+1)
		_, parts := scan(stream, int(part)+1)
		if !errors.Is(whole, parts) && !errors.Is(parts, errLineTooLong) {
			t.Errorf("%q: %v at once, %v in parts of %d", stream, whole, parts, int(part)+1)
		}
	})
}
