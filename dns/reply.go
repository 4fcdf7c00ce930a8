package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// appendHead begins a reply to msg: header and, if it parsed, the question as it was asked, case and all.
func appendHead(b, msg []byte, q *question, rcode int, bits uint16) []byte {
	flags := bitQR | bitRA | bits | q.flags&(bitRD|bitCD|0xF<<11) | uint16(rcode&0xF)
	b = binary.BigEndian.AppendUint16(b, q.id)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	if q.end > 0 {
		b[5] = 1
		b = append(b, msg[headerLen:q.end]...)
	}
	return b
}

// appendError replies with a response code alone.
func appendError(b, msg []byte, q *question, rcode int) []byte {
	b = appendHead(b, msg, q, rcode, 0)
	if q.edns {
		b = appendOPT(b, rcode, q.do)
	}
	return b
}

// room is how many octets a reply may have before its OPT record.
func room(q *question, limit int) int {
	if q.edns {
		return limit - optLen
	}
	return limit
}

// appendAnswer replies to msg with what a zone says, in at most limit octets; b is empty.
func appendAnswer(b, msg []byte, q *question, a *answer, limit int) []byte {
	b = appendHead(b, msg, q, a.rcode, bitAA)
	limit = room(q, limit)
	switch {
	case a.set.n > 0:
		b = appendSet(b, &a.set, a.started, limit, 6)
		if a.set.nExtra > 0 && b[2]&(bitTC>>8) == 0 {
			b = appendSet(b, &rrset{n: a.set.nExtra, data: a.set.extra}, 0, limit, 10)
		}
	case a.soa:
		b = appendSOA(b, 0, a.domain, a.serial, a.ttl)
		b[7] = 1
	default:
		b = appendSOA(b, a.apex, a.domain, a.serial, 0)
		b[9] = 1
	}
	b = fit(b, limit, q.end) // a start of authority may be long, in a cluster with a long domain
	if q.edns {
		b = appendOPT(b, a.rcode, q.do)
	}
	return b
}

// appendSet copies records, from the started one on and round to it, as long as they fit, and counts them
// in the section whose counter is at offset counter. An answer that does not fit sets TC.
func appendSet(b []byte, s *rrset, started, limit, counter int) []byte {
	n, at := s.n, s.from(started)
	if len(b)+len(s.data) <= limit {
		b = append(b, s.data[at:]...)
		b = append(b, s.data[:at]...)
	} else {
		for n = 0; n < s.n; n++ {
			end := recordEnd(s.data, at)
			if len(b)+end-at > limit {
				break
			}
			b = append(b, s.data[at:end]...)
			at = end % len(s.data)
		}
		if counter == 6 {
			b[2] |= bitTC >> 8
		}
	}
	binary.BigEndian.PutUint16(b[counter:], uint16(n))
	return b
}

// appendSOA appends the start of authority of the zone whose name begins at offset apex of the question's
// name; domain (wire form) holds the names of its server and its keeper. A TTL of 0 keeps a negative answer out
// of every cache (RFC 2308 section 5).
func appendSOA(b []byte, apex int, domain string, serial, ttl uint32) []byte {
	offset := headerLen + apex
	b = append(b, 0xC0|byte(offset>>8), byte(offset), 0, byte(dns.TypeSOA), 0, byte(dns.ClassINET))
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = append(b, 0, 0) // the length, below
	start := len(b)
	b = append(b, "\x02ns\x03dns"...)
	b = append(b, domain...)
	b = append(b, "\x0ahostmaster"...)
	b = append(b, domain...)
	for _, v := range [...]uint32{serial, soaRefresh, soaRetry, soaExpire, 0} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	binary.BigEndian.PutUint16(b[start-2:], uint16(len(b)-start))
	return b
}

// appendMinimal answers a question for ANY with the record of RFC 8482 section 4.2.
func appendMinimal(b, msg []byte, q *question, ttl uint32) []byte {
	b = appendHead(b, msg, q, dns.RcodeSuccess, 0)
	b = appendRR(b, pointer(headerLen), dns.TypeHINFO, ttl, "\x07RFC8482\x00")
	b[7] = 1
	if q.edns {
		b = appendOPT(b, dns.RcodeSuccess, q.do)
	}
	return b
}
