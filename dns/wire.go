package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerLen  = 12
	maxName    = 255   // octets of a name in wire form, RFC 1035 section 2.3.4
	maxLabel   = 63    // RFC 1035 section 2.3.4
	maxMessage = 65535 // what TCP can frame, RFC 1035 section 4.2.2
	maxUDP     = 1232  // what we send and take over UDP: no fragments (DNS flag day 2020)
	minUDP     = 512   // RFC 1035 section 4.2.1, for those without EDNS
	fixedLen   = 12    // what precedes the data of a record whose owner is a pointer
	optLen     = 11    // an OPT record without options, RFC 6891 section 6.1.2
	svcLabel   = "\x03svc"
)

// Header bits, RFC 1035 section 4.1.1 and RFC 4035 section 3.
const (
	bitQR = 1 << 15
	bitAA = 1 << 10
	bitTC = 1 << 9
	bitRD = 1 << 8
	bitRA = 1 << 7
	bitAD = 1 << 5
	bitCD = 1 << 4
)

var errShort = errors.New("message ends too early")

// wireName turns "a.b.c" (with or without a trailing dot) into lower-case wire form with the root label.
func wireName(name string) (string, error) {
	b := make([]byte, maxName+1)
	n, err := dns.PackDomainName(strings.ToLower(dns.Fqdn(name)), b, 0, nil, false)
	if err != nil {
		return "", fmt.Errorf("name %q: %w", name, err)
	}
	if n > maxName {
		return "", fmt.Errorf("name %q: longer than %d octets in wire form", name, maxName)
	}
	return string(b[:n]), nil
}

// label gives the wire form of one label, or "" when the text cannot be one.
func label(text string) string {
	if len(text) == 0 || len(text) > maxLabel {
		return ""
	}
	return string([]byte{byte(len(text))}) + strings.ToLower(text)
}

// textName is the presentation form of a name in wire form.
func textName(wire []byte) string {
	name, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		return "."
	}
	return name
}

// appendRR appends a record whose owner is given in wire form (often a pointer to the question).
func appendRR(b []byte, owner string, typ uint16, ttl uint32, rdata string) []byte {
	return append(appendFixed(b, owner, typ, ttl, len(rdata)), rdata...)
}

// appendFixed appends what precedes length octets of a record's data.
func appendFixed(b []byte, owner string, typ uint16, ttl uint32, length int) []byte {
	b = append(b, owner...)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, dns.ClassINET)
	b = binary.BigEndian.AppendUint32(b, ttl)
	return binary.BigEndian.AppendUint16(b, uint16(length))
}

// pointer is a compression pointer to an offset of the message, RFC 1035 section 4.1.4.
func pointer(offset int) string {
	return string([]byte{0xC0 | byte(offset>>8), byte(offset)})
}

// skipName gives the offset behind the name at off; a pointer ends a name and is not followed.
func skipName(msg []byte, off int) (int, error) {
	for off < len(msg) {
		switch c := int(msg[off]); {
		case c == 0:
			return off + 1, nil
		case c&0xC0 == 0xC0:
			if off+2 > len(msg) {
				return 0, errShort
			}
			return off + 2, nil
		case c > maxLabel:
			return 0, fmt.Errorf("label type %#x at offset %d", c, off)
		default:
			off += 1 + c
		}
	}
	return 0, errShort
}

// skipRR gives the offset of the fixed part (type, class, TTL, length) of the record at off, and that of
// the next record.
func skipRR(msg []byte, off int) (fixed, next int, err error) {
	fixed, err = skipName(msg, off)
	if err != nil {
		return 0, 0, err
	}
	if fixed+10 > len(msg) {
		return 0, 0, errShort
	}
	next = fixed + 10 + int(binary.BigEndian.Uint16(msg[fixed+8:]))
	if next > len(msg) {
		return 0, 0, errShort
	}
	return fixed, next, nil
}

// fit cuts whole records off the end of msg, which has no OPT, until it has at most limit octets, and sets
// TC if the answer or the authority lost any: an additional section may be cut in silence (RFC 2181
// section 9). What is kept of the answer helps clients that do not retry over TCP.
func fit(msg []byte, limit, questionEnd int) []byte {
	if len(msg) <= limit {
		return msg
	}
	off, truncated := questionEnd, false
	for section := 6; section <= 10; section += 2 {
		count := binary.BigEndian.Uint16(msg[section:])
		kept := uint16(0)
		for ; kept < count && !truncated; kept++ {
			_, next, err := skipRR(msg, off)
			if err != nil || next > limit {
				truncated = true
				if section < 10 {
					msg[2] |= bitTC >> 8
				}
				break
			}
			off = next
		}
		binary.BigEndian.PutUint16(msg[section:], kept)
	}
	return msg[:off]
}

// appendOPT answers a question that had EDNS; rcode is the whole extended response code, RFC 6891 section 6.1.3.
func appendOPT(b []byte, rcode int, do bool) []byte {
	var flags byte
	if do {
		flags = 0x80
	}
	b = append(b, 0, 0, byte(dns.TypeOPT), maxUDP>>8, maxUDP&0xFF, byte(rcode>>4), 0, flags, 0, 0, 0)
	binary.BigEndian.PutUint16(b[10:], binary.BigEndian.Uint16(b[10:])+1)
	return b
}
