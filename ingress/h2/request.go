package h2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Request is the head of a request, well-formed by RFC 9113 section 8: names are tokens in lower case, values hold no
// control characters but TAB, nothing in it is about the connection, cookies are one field.
type Request struct {
	Method    string
	Scheme    string // "http" or "https"; empty for CONNECT
	Authority string // or the Host header if there is no :authority; not empty
	Path      string // with the query, as it came; empty for CONNECT
	Fields    []Field
	Length    int64 // Content-Length; -1: not said, 0: no body
}

// Get is the first value of a field; name is in lower case.
func (r *Request) Get(name string) string {
	for i := range r.Fields {
		if r.Fields[i].Name == name {
			return r.Fields[i].Value
		}
	}
	return ""
}

// block collects what the decoder finds in one header block.
type block struct {
	req      Request
	size     int // as RFC 9113 section 6.5.2 counts
	most     int
	host     string
	cookies  int  // fields
	regular  bool // a field that is no pseudo-header was there
	trailers bool
	seen     pseudo
	bad      string // why it is malformed; empty: it is not
}

// pseudo is a set of pseudo-headers.
type pseudo uint8

const (
	sawMethod pseudo = 1 << iota
	sawScheme
	sawAuthority
	sawPath
)

// tooLarge says whether there was more than we keep.
func (b *block) tooLarge() bool { return b.size > b.most }

// emit takes a field from the decoder.
func (b *block) emit(f hpack.HeaderField) {
	b.size += len(f.Name) + len(f.Value) + 32
	switch {
	case b.bad != "" || b.tooLarge():
	case !validValue(f.Value):
		b.bad = "a header value with a control character"
	case f.IsPseudo():
		b.pseudo(f)
	case !validName(f.Name):
		b.bad = "a header name that is no token in lower case"
	default:
		b.regular = true
		b.field(f)
	}
}

func (b *block) pseudo(f hpack.HeaderField) {
	var which pseudo
	var at *string
	switch f.Name {
	case ":method":
		which, at = sawMethod, &b.req.Method
	case ":scheme":
		which, at = sawScheme, &b.req.Scheme
	case ":authority":
		which, at = sawAuthority, &b.req.Authority
	case ":path":
		which, at = sawPath, &b.req.Path
	default:
		b.bad = "an unknown pseudo-header"
		return
	}
	if b.trailers || b.regular || b.seen&which != 0 {
		b.bad = "a pseudo-header where none may be"
		return
	}
	b.seen |= which
	*at = f.Value
}

func (b *block) field(f hpack.HeaderField) {
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		b.bad = "a header about the connection"
	case "te":
		if f.Value != "trailers" {
			b.bad = "TE with something else than trailers"
		}
	case "host":
		if b.host != "" && b.host != f.Value {
			b.bad = "several hosts"
		}
		b.host = f.Value
		return
	case "content-length":
		n, err := strconv.ParseInt(f.Value, 10, 64)
		if err != nil || b.req.Length >= 0 || !digits(f.Value) || b.trailers {
			b.bad = "bad or repeated Content-Length"
		}
		b.req.Length = n
		return
	case "cookie":
		b.cookies++
	}
	b.req.Fields = append(b.req.Fields, f)
}

// finish checks what only the whole block tells. ended says that no body follows.
func (b *block) finish(ended bool) {
	r := &b.req
	if b.cookies > 1 {
		r.joinCookies(b.cookies)
	}
	want := sawMethod | sawScheme | sawPath
	if r.Method == "CONNECT" {
		want = sawMethod | sawAuthority
	}
	if r.Authority == "" {
		r.Authority = b.host
	}
	switch {
	case b.bad != "" || b.tooLarge():
	case b.seen&^sawAuthority != want&^sawAuthority || b.seen&want != want:
		b.bad = "pseudo-headers are missing or too many"
	case !isToken(r.Method):
		b.bad = "a method that is no token"
	case r.Method != "CONNECT" && r.Scheme != "http" && r.Scheme != "https":
		b.bad = "an unknown scheme"
	case r.Method != "CONNECT" && !strings.HasPrefix(r.Path, "/") && (r.Path != "*" || r.Method != "OPTIONS"):
		b.bad = "a path that does not begin with a slash"
	case r.Authority == "" || b.host != "" && b.host != r.Authority:
		b.bad = "no host, or two"
	case ended && r.Length > 0:
		b.bad = "no body for its Content-Length"
	}
	if ended {
		r.Length = 0
	}
}

// joinCookies makes one field of those that a client may have split for better compression (RFC 9113 section 8.2.3).
func (r *Request) joinCookies(n int) {
	values := make([]string, 0, n)
	kept := r.Fields[:0]
	first := -1
	for _, f := range r.Fields {
		if f.Name != "cookie" {
			kept = append(kept, f)
			continue
		}
		if first < 0 {
			first = len(kept)
			kept = append(kept, f)
		}
		values = append(values, f.Value)
	}
	kept[first].Value = strings.Join(values, "; ")
	r.Fields = kept
}

// decode reads a complete header block. The decoder stays in step with the peer's whatever the block says.
func (c *Conn) decode(fragment []byte, trailers, ended bool) (*block, error) {
	b := &c.head
	*b = block{most: c.cfg.MaxHeaderBytes, trailers: trailers}
	b.req.Length = -1
	b.req.Fields = make([]Field, 0, c.fields) // most requests of a connection are alike
	c.dec.SetEmitFunc(b.emit)
	if _, err := c.dec.Write(fragment); err != nil {
		return nil, connError{http2.ErrCodeCompression, "header block: " + err.Error()}
	}
	if err := c.dec.Close(); err != nil {
		return nil, connError{http2.ErrCodeCompression, "header block: " + err.Error()}
	}
	if !trailers {
		c.fields = len(b.req.Fields)
		b.finish(ended)
	}
	return b, nil
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// tokens are the characters of a token (RFC 9110 section 5.6.2), with upper case marked 2.
var tokens = func() (t [256]uint8) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			t[c] = 1
		case 'A' <= c && c <= 'Z':
			t[c] = 2
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = 1
	}
	return t
}()

func validName(name string) bool {
	for i := 0; i < len(name); i++ {
		if tokens[name[i]] != 1 {
			return false
		}
	}
	return name != ""
}

func isToken(text string) bool {
	for i := 0; i < len(text); i++ {
		if tokens[text[i]] == 0 {
			return false
		}
	}
	return text != ""
}

// validValue: RFC 9113 section 8.2.1, and no control characters at all.
func validValue(value string) bool {
	if n := len(value); n > 0 && (value[0] <= ' ' || value[n-1] <= ' ') {
		return false
	}
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
