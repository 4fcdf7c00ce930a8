package http1

import (
	"bytes"
	"net/netip"
)

// ValidHost says whether a Host header or authority is a name, an IPv4 address or an IPv6 address in brackets, and a port
// if there is a colon (RFC 3986 section 3.2), without what no host on the Internet has.
func ValidHost(b []byte) bool {
	name, rest := b, []byte(nil)
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return false
		}
		if name, rest = b[1:end], b[end+1:]; !validIPv6(name) {
			return false
		}
	} else {
		if i := bytes.IndexByte(b, ':'); i >= 0 {
			name, rest = b[:i], b[i:]
		}
		for _, c := range name {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return len(name) > 0 && (len(rest) == 0 || rest[0] == ':' && validPort(rest[1:]))
}

func validIPv6(b []byte) bool {
	a, err := netip.ParseAddr(Text(b))
	return err == nil && a.Is6() && a.Zone() == ""
}

// validPort: it may be empty.
func validPort(b []byte) bool {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return false
		}
	}
	return true
}
