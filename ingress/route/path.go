package route

import (
	"errors"
	"net/url"
	"strings"
)

// Path is a request's path as it is sent and as it is matched. It is sent as it came, but for dot segments, which
// are removed (RFC 3986 section 5.2.4), and bytes that no URL may hold, which are escaped.
type Path struct {
	// Sent is escaped. net/url never rewrites it: every byte of it is legal in a path.
	Sent string
	// Match is Sent with runs of slashes merged and the escapes of each segment undone, except those of "/" and "%", so
	// that no choice of escapes slips past a rule.
	Match string
	// doubts say in which other ways an endpoint may read Sent.
	doubts doubt
}

var (
	errPathNotAbsolute = errors.New("the path does not begin with a slash")
	ErrPathEscape      = errors.New("the path has a broken percent escape")
	errPathNUL         = errors.New("the path contains a NUL byte")
	errPathAboveRoot   = errors.New("the path climbs above the root")
	errPathDisguised   = errors.New("the path hides a dot segment")
)

// EscapedPath returns the path of u as it was on the wire, or its default escaping when that is the same.
func EscapedPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// CleanPath normalises an escaped path. It costs no allocation for a path that is clean already. An error
// says why different servers could read the path differently; such a request must be refused.
func CleanPath(escaped string) (Path, error) {
	if !strings.HasPrefix(escaped, "/") {
		return Path{}, errPathNotAbsolute
	}
	if isClean(escaped) {
		return Path{Sent: escaped, Match: escaped}, nil
	}
	var segments []Path
	var doubts doubt
	trailing := false
	for raw, rest, more := "", escaped[1:], true; more; {
		raw, rest, more = strings.Cut(rest, "/")
		decoded, err := unescape(raw)
		if err != nil {
			return Path{}, err
		}
		trailing = true
		switch {
		case decoded == ".", decoded == "" && !more:
		case decoded == "..":
			if len(segments) == 0 {
				return Path{}, errPathAboveRoot
			}
			segments = segments[:len(segments)-1]
		case hidesDots(decoded):
			return Path{}, errPathDisguised
		default:
			doubts |= doubtsOf(decoded)
			segments = append(segments, Path{Sent: escapeSegment(raw), Match: matchSegment(decoded)})
			trailing = false
		}
	}
	return joinSegments(segments, trailing, doubts), nil
}

func joinSegments(segments []Path, trailing bool, doubts doubt) Path {
	var sent, match strings.Builder
	for _, s := range segments {
		sent.WriteByte('/')
		sent.WriteString(s.Sent)
		if s.Match != "" {
			match.WriteByte('/')
			match.WriteString(s.Match)
		}
	}
	if trailing || len(segments) == 0 {
		sent.WriteByte('/')
		match.WriteByte('/')
	}
	return Path{Sent: sent.String(), Match: match.String(), doubts: doubts}
}

// isClean says whether nothing in the path needs a second look.
func isClean(path string) bool {
	start := 1 // of the segment
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			if !legalOnWire(path[i]) || path[i] == ';' {
				return false
			}
			continue
		}
		segment := path[start:i]
		if segment == "." || segment == ".." || segment == "" && i < len(path) {
			return false
		}
		start = i + 1
	}
	return true
}

// hidesDots says whether a decoded segment holds a dot segment that some servers would act on: behind an escaped
// slash, a backslash, with a parameter ("..;x"), before an escaped "?", or escaped twice.
func hidesDots(decoded string) bool {
	if !strings.ContainsAny(decoded, `/\;?#%`) {
		return false
	}
	if twice, err := url.PathUnescape(decoded); err == nil && twice != decoded && (twice == "." || twice == ".." || hidesDots(twice)) {
		return true
	}
	for part := range strings.FieldsFuncSeq(decoded, func(r rune) bool { return r == '/' || r == '\\' }) {
		if i := strings.IndexAny(part, ";?#"); i >= 0 {
			part = part[:i]
		}
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

func unescape(segment string) (string, error) {
	decoded, err := url.PathUnescape(segment)
	switch {
	case err != nil:
		return "", ErrPathEscape
	case strings.IndexByte(decoded, 0) >= 0:
		return "", errPathNUL
	}
	return decoded, nil
}

// escapeSegment escapes what a URL cannot hold in a segment whose escapes are known to be well formed.
func escapeSegment(raw string) string {
	i := 0
	for i < len(raw) && (raw[i] == '%' || legalOnWire(raw[i])) {
		i++
	}
	if i == len(raw) {
		return raw
	}
	var b strings.Builder
	b.WriteString(raw[:i])
	for ; i < len(raw); i++ {
		if raw[i] == '%' || legalOnWire(raw[i]) {
			b.WriteByte(raw[i])
		} else {
			writeEscape(&b, raw[i])
		}
	}
	return b.String()
}

// matchSegment keeps apart what is one segment and what is two: "a%2Fb" is not "a/b".
func matchSegment(decoded string) string {
	if !strings.ContainsAny(decoded, "%/") {
		return decoded
	}
	return strings.NewReplacer("%", "%25", "/", "%2F").Replace(decoded)
}

// CleanQuery escapes the bytes that would end the request line, or that no URL may carry, in a query that came
// in over HTTP/2, where nothing keeps them out. Anything else is passed on as it came.
func CleanQuery(raw string) string {
	legal := func(c byte) bool { return c > 0x20 && c < 0x7f }
	i := 0
	for i < len(raw) && legal(raw[i]) {
		i++
	}
	if i == len(raw) {
		return raw
	}
	var b strings.Builder
	b.WriteString(raw[:i])
	for ; i < len(raw); i++ {
		if legal(raw[i]) {
			b.WriteByte(raw[i])
		} else {
			writeEscape(&b, raw[i])
		}
	}
	return b.String()
}

func writeEscape(b *strings.Builder, c byte) {
	const digits = "0123456789ABCDEF"
	b.WriteByte('%')
	b.WriteByte(digits[c>>4])
	b.WriteByte(digits[c&15])
}

// unreserved: RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// legalInPath: pchar without the escape (RFC 3986 section 3.3).
func legalInPath(c byte) bool {
	return unreserved(c) || strings.IndexByte("!$&'()*+,;=:@", c) >= 0
}

// legalOnWire: brackets have no place in a path, but browsers send them, and nobody reads them in another way.
func legalOnWire(c byte) bool { return legalInPath(c) || c == '[' || c == ']' }

// PatternSigns are what stands in the patterns of other controllers: the * of load balancers, regular expressions.
const PatternSigns = "*(^$[|\\"

// IsPattern says whether a path was most likely written for a controller that reads it as a pattern.
func IsPattern(path string) bool { return strings.ContainsAny(path, PatternSigns) }
