package dns

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

// verdict is what parsing a message came to.
type verdict int

const (
	accepted       verdict = iota
	dropped                // not a question at all: answering could start a loop
	malformed              // FORMERR
	notImplemented         // NOTIMP: an operation we do not know
	badVersion             // BADVERS, RFC 6891 section 6.1.3
	refused                // REFUSED: a class or a transfer that we do not serve
)

// question is a parsed message. It is reused from one message to the next.
type question struct {
	id     uint16
	flags  uint16 // the header's, as asked
	qtype  uint16
	end    int  // offset behind the question section; 0: there is none that parses
	edns   bool // it had an OPT record
	do     bool // DNSSEC OK
	size   int  // what the asker takes over UDP
	labels int
	starts [maxName/2 + 1]uint8 // where each label starts in name
	length int                  // of name, root label included
	name   [maxName]byte        // lower case, wire form
	lookup [2*maxName + 3]byte  // backs key, and searchedKey
}

// parse reads msg as a question: RFC 1035 section 4.1, RFC 6891. It keeps nothing of msg.
func (q *question) parse(msg []byte) verdict {
	q.end, q.qtype, q.edns, q.do, q.size = 0, 0, false, false, minUDP
	q.labels, q.length = 0, 0
	if len(msg) < headerLen {
		return dropped
	}
	q.id = binary.BigEndian.Uint16(msg)
	q.flags = binary.BigEndian.Uint16(msg[2:])
	if q.flags&bitQR != 0 {
		return dropped
	}
	if opcode := q.flags >> 11 & 0xF; opcode != dns.OpcodeQuery {
		return notImplemented
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 || !q.parseName(msg) {
		return malformed
	}
	off := headerLen + q.length
	if off+4 > len(msg) {
		return malformed
	}
	q.qtype = binary.BigEndian.Uint16(msg[off:])
	class := binary.BigEndian.Uint16(msg[off+2:])
	q.end = off + 4
	if v := q.parseRest(msg); v != accepted {
		return v
	}
	return q.admit(class)
}

// admit refuses what no zone of ours and no upstream is asked for.
func (q *question) admit(class uint16) verdict {
	switch {
	case class != dns.ClassINET:
		return refused
	case q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR:
		return refused
	case q.qtype == 0 || q.qtype == dns.TypeOPT:
		return malformed
	case q.qtype >= 128 && q.qtype < dns.TypeANY: // the remaining meta types, RFC 6895 section 3.1
		return notImplemented
	}
	return accepted
}

// parseName reads the name behind the header; a compressed one is refused, nothing precedes it.
func (q *question) parseName(msg []byte) bool {
	for off := headerLen; off < len(msg); {
		c := int(msg[off])
		if c > maxLabel || q.length+1+c > maxName || off+1+c > len(msg) {
			return false
		}
		q.name[q.length] = byte(c)
		if c == 0 {
			q.length++
			return true
		}
		q.starts[q.labels] = uint8(q.length)
		q.labels++
		for i := 1; i <= c; i++ {
			q.name[q.length+i] = lower(msg[off+i])
		}
		q.length += 1 + c
		off += 1 + c
	}
	return false
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// parseRest walks the records behind the question and takes the OPT record from among them.
func (q *question) parseRest(msg []byte) verdict {
	records := 0
	for _, section := range []int{6, 8, 10} {
		records += int(binary.BigEndian.Uint16(msg[section:]))
	}
	off := q.end
	version := byte(0)
	for ; records > 0; records-- {
		fixed, next, err := skipRR(msg, off)
		if err != nil {
			return malformed
		}
		if binary.BigEndian.Uint16(msg[fixed:]) == dns.TypeOPT {
			// two of them, an owner other than the root, options that overlap its end: RFC 6891 sections 6.1.1 and 7
			if q.edns || fixed != off+1 || !optionsFit(msg[fixed+10:next]) {
				return malformed
			}
			q.edns = true
			q.size = min(max(int(binary.BigEndian.Uint16(msg[fixed+2:])), minUDP), maxUDP)
			version = msg[fixed+5]
			q.do = msg[fixed+6]&0x80 != 0
		}
		off = next
	}
	if version != 0 {
		return badVersion
	}
	return accepted
}

// optionsFit says whether the options of an OPT record are where their lengths say.
func optionsFit(options []byte) bool {
	for len(options) >= 4 {
		length := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if length > len(options) {
			return false
		}
		options = options[length:]
	}
	return len(options) == 0
}

// wire is the name that was asked for, lower case, with the root label.
func (q *question) wire() []byte { return q.name[:q.length] }

// key is what questions with the same answer have in common: name, type, DO and CD.
func (q *question) key() []byte {
	k := append(q.lookup[:0], q.wire()...)
	k = binary.BigEndian.AppendUint16(k, q.qtype)
	last := byte(0)
	if q.do {
		last |= 1
	}
	if q.flags&bitCD != 0 {
		last |= 2
	}
	return append(k, last)
}

// within says whether the name is domain (wire form) or below it, and how many octets precede domain.
func (q *question) within(domain string) (int, bool) {
	at := q.length - len(domain)
	if at < 0 || string(q.name[at:q.length]) != domain {
		return 0, false
	}
	if at == 0 {
		return 0, true
	}
	// the octets match; they must also begin where a label does
	for i := q.labels - 1; i >= 0; i-- {
		if s := int(q.starts[i]); s <= at {
			return at, s == at
		}
	}
	return 0, false
}

// labelsBefore counts the labels that lie in front of offset at of the name.
func (q *question) labelsBefore(at int) int {
	n := 0
	for n < q.labels && int(q.starts[n]) < at {
		n++
	}
	return n
}

// label is the i-th label without its length octet.
func (q *question) label(i int) []byte {
	s := int(q.starts[i])
	return q.name[s+1 : s+1+int(q.name[s])]
}

const (
	arpa4 = "\x07in-addr\x04arpa\x00" // RFC 1035 section 3.5
	arpa6 = "\x03ip6\x04arpa\x00"     // RFC 3596 section 2.5
)

// reverse reads a name below in-addr.arpa or ip6.arpa: the prefix that its labels spell, from the right as far as they
// do. whole is true if all of them do; a whole address has 32 or 128 bits. ok is false for every other name.
func (q *question) reverse() (p netip.Prefix, whole, ok bool) {
	if at, in := q.within(arpa4); in {
		p, whole = q.reverse4(q.labelsBefore(at))
		return p, whole, true
	}
	if at, in := q.within(arpa6); in {
		p, whole = q.reverse6(q.labelsBefore(at))
		return p, whole, true
	}
	return netip.Prefix{}, false, false
}

func (q *question) reverse4(n int) (p netip.Prefix, whole bool) {
	var octets [4]byte
	i := 0
	for ; i < min(n, len(octets)); i++ {
		value, ok := decimalOctet(q.label(n - 1 - i))
		if !ok {
			break
		}
		octets[i] = value
	}
	return netip.PrefixFrom(netip.AddrFrom4(octets), 8*i), i == n
}

func decimalOctet(text []byte) (byte, bool) {
	value := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		value = value*10 + int(c-'0')
	}
	return byte(value), len(text) <= 3 && value <= 255 && (len(text) == 1 || text[0] != '0')
}

func (q *question) reverse6(n int) (p netip.Prefix, whole bool) {
	var octets [16]byte
	i := 0
	for ; i < min(n, 2*len(octets)); i++ {
		text := q.label(n - 1 - i)
		nibble, ok := hexDigit(text[0])
		if !ok || len(text) != 1 {
			break
		}
		octets[i/2] |= nibble << (4 * (1 - i%2))
	}
	return netip.PrefixFrom(netip.AddrFrom16(octets), 4*i), i == n
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
