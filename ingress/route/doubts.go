package route

import (
	"net/url"
	"strings"
)

// doubt is a set of ways in which servers differ when they read a path. An endpoint may follow any of them, so that a
// path with doubts could be matched by one rule here and be something else there.
type doubt uint8

const (
	mergesSlashes doubt = 1 << iota // "a//b" is "a/b"
	splitsEscapes                   // "a%2Fb" and `a\b` are "a/b"
	dropsParams                     // "a;x" is "a"
	cutsAtQuery                     // "a%3Fx" and "a%23x" are "a"
	decodesTwice                    // "%2561" is "a"
	allDoubts     = 1<<iota - 1
)

// doubtsOf are those that a decoded segment, not the last one if it is empty, raises.
func doubtsOf(decoded string) (d doubt) {
	if decoded == "" {
		return mergesSlashes
	}
	for i := range len(decoded) {
		switch decoded[i] {
		case '/', '\\':
			d |= splitsEscapes | mergesSlashes // they may stand at an end
		case ';':
			d |= dropsParams | mergesSlashes // nothing may stand before it
		case '?', '#':
			d |= cutsAtQuery
		case '%':
			d |= allDoubts // whatever it hides
		}
	}
	return d
}

// reading is the path to match as a server with these habits reads it.
func (p Path) reading(habits doubt) string {
	var b strings.Builder
	for raw, rest, more := "", p.Sent[1:], true; more; {
		raw, rest, more = strings.Cut(rest, "/")
		segment, _ := url.PathUnescape(raw) // it was understood before
		if habits&decodesTwice != 0 {
			if twice, err := url.PathUnescape(segment); err == nil {
				segment = twice
			}
		}
		if i := strings.IndexAny(segment, "?#"); i >= 0 && habits&cutsAtQuery != 0 {
			segment, more = segment[:i], false
		}
		if habits&splitsEscapes == 0 {
			habits.write(&b, segment, !more)
			continue
		}
		for part, left, also := "", strings.ReplaceAll(segment, `\`, "/"), true; also; {
			part, left, also = strings.Cut(left, "/")
			habits.write(&b, part, !more && !also)
		}
	}
	return b.String()
}

func (d doubt) write(b *strings.Builder, segment string, last bool) {
	if d&dropsParams != 0 {
		segment, _, _ = strings.Cut(segment, ";")
	}
	if segment != "" || last || d&mergesSlashes == 0 {
		b.WriteByte('/')
		b.WriteString(matchSegment(segment))
	}
}
