package h2

import (
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// Block is a header block on its way out (RFC 7541). It names what the static table has and spells out the rest: a
// table of our own would save some bytes for the price of searching it. Its zero value is empty.
type Block struct {
	b    []byte
	name [64]byte
}

// Begin starts the block of an answer.
func (b *Block) Begin(code int) {
	b.b = b.b[:0]
	switch code {
	case 200:
		b.b = append(b.b, 0x88)
	case 204:
		b.b = append(b.b, 0x89)
	case 206:
		b.b = append(b.b, 0x8a)
	case 304:
		b.b = append(b.b, 0x8b)
	case 404:
		b.b = append(b.b, 0x8d)
	default:
		b.b = append(b.b, 0x08, 3) // :status, three digits
		b.b = strconv.AppendInt(b.b, int64(code), 10)
	}
}

// BeginTrailers starts the block behind a body.
func (b *Block) BeginTrailers() { b.b = b.b[:0] }

// Empty says whether nothing was added to trailers.
func (b *Block) Empty() bool { return len(b.b) == 0 }

// Add appends a field, its name in lower case. One that HTTP/2 cannot carry (RFC 9113 section 8.2.1) is left out.
func (b *Block) Add(name, value string) {
	if !isToken(name) || !validValue(value) {
		return
	}
	lower := b.name[:0]
	for i := 0; i < len(name); i++ {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower = append(lower, c)
	}
	if at := staticNames[string(lower)]; at > 0 {
		b.b = appendInt(b.b, 0, 4, at)
	} else {
		b.b = appendInt(append(b.b, 0), 0, 7, len(lower))
		b.b = append(b.b, lower...)
	}
	b.b = appendInt(b.b, 0, 7, len(value))
	b.b = append(b.b, value...)
}

// appendInt writes n behind the high bits of its first byte, which has prefix bits for it (RFC 7541 section 5.1).
func appendInt(out []byte, high byte, prefix uint, n int) []byte {
	most := 1<<prefix - 1
	if n < most {
		return append(out, high|byte(n))
	}
	out = append(out, high|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n))
}

// staticNames are the names of the static table (RFC 7541 appendix A), which has no gaps and no header that an
// answer does not have before 15.
var staticNames = func() map[string]int {
	names := map[string]int{}
	for i, name := range []string{"accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept",
		"access-control-allow-origin", "age", "allow", "authorization", "cache-control", "content-disposition", "content-encoding",
		"content-language", "content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag",
		"expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
		"if-unmodified-since", "last-modified", "link", "location", "max-forwards", "proxy-authenticate",
		"proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
		"strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate"} {
		names[name] = 15 + i
	}
	return names
}()

// Field is a header field as it came: the name in lower case, without anything that HTTP/1.1 could not carry.
type Field = hpack.HeaderField
