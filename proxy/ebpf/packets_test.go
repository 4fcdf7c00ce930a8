package ebpf

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

const (
	etherLen  = 14
	protoTCP  = 6
	protoUDP  = 17
	protoICMP = 1
	protoICM6 = 58
)

// frame is a packet for the tests, written down without any help of what is tested.
type frame struct {
	src, dst netip.AddrPort
	proto    byte
	flags    byte // TCP
	options  int  // 32-bit words of IPv4 options, or 8-byte destination options of IPv6
	offset   uint16
	more     bool
	payload  []byte
}

// sum is the Internet checksum (RFC 1071); of data with a right sum in it, it is 0.
func sum(parts ...[]byte) uint16 {
	var total uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			total += uint32(b[i])<<8 | uint32(b[i+1])
		}
		if len(b)%2 == 1 {
			total += uint32(b[len(b)-1]) << 8
		}
	}
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	return ^uint16(total)
}

func pseudoHeader(src, dst netip.Addr, proto byte, length int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, proto)
}

// transport is the frame's TCP or UDP part.
func (f frame) transport() []byte {
	b := binary.BigEndian.AppendUint16(nil, f.src.Port())
	b = binary.BigEndian.AppendUint16(b, f.dst.Port())
	at := 6
	if f.proto == protoTCP {
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 2, 5<<4, f.flags, 1, 0, 0, 0, 0, 0)
		at = 16
	} else {
		b = append(binary.BigEndian.AppendUint16(b, uint16(8+len(f.payload))), 0, 0)
	}
	b = append(b, f.payload...)
	check := sum(pseudoHeader(f.src.Addr(), f.dst.Addr(), f.proto, len(b)), b)
	if check == 0 && f.proto == protoUDP {
		check = 0xffff // 0 would mean that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[at:], check)
	return b
}

// bytes is the whole frame.
func (f frame) bytes() []byte { return f.around(f.proto, f.transport()) }

// around puts Ethernet and IP headers before a payload.
func (f frame) around(proto byte, payload []byte) []byte {
	if f.src.Addr().Is4() {
		b := make([]byte, etherLen+20+4*f.options)
		b[12], b[13] = 8, 0
		ip := b[etherLen:]
		ip[0], ip[8], ip[9] = 0x40|byte(5+f.options), 64, proto
		for i := 20; i < len(ip); i++ {
			ip[i] = 1 // no operation
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(payload)))
		fragment := f.offset
		if f.more {
			fragment |= 0x2000
		}
		binary.BigEndian.PutUint16(ip[6:], fragment)
		copy(ip[12:], f.src.Addr().AsSlice())
		copy(ip[16:], f.dst.Addr().AsSlice())
		binary.BigEndian.PutUint16(ip[10:], sum(ip))
		return append(b, payload...)
	}
	var extensions []byte
	next := proto
	if f.more || f.offset > 0 {
		fragment := f.offset << 3
		if f.more {
			fragment |= 1
		}
		extensions = append([]byte{next, 0, byte(fragment >> 8), byte(fragment), 0, 0, 0, 7}, extensions...)
		next = 44
	}
	for range f.options {
		extensions = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, extensions...)
		next = 60
	}
	b := make([]byte, etherLen+40)
	b[12], b[13] = 0x86, 0xdd
	ip := b[etherLen:]
	ip[0], ip[6], ip[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(extensions)+len(payload)))
	copy(ip[8:], f.src.Addr().AsSlice())
	copy(ip[24:], f.dst.Addr().AsSlice())
	return slices.Concat(b, extensions, payload)
}

// seen is what a careful reader finds in a frame.
type seen struct {
	src, dst     netip.AddrPort
	proto        byte
	l4           int
	whole, later bool // no fragment; one without ports
	sums         bool // all checksums are right
	flags        byte
	dstAt, srcAt int
}

// look reads a frame; ok only when it is complete TCP or UDP with ports.
func look(b []byte) (s seen, ok bool) {
	if len(b) < etherLen+20 {
		return s, false
	}
	ip := b[etherLen:]
	var src, dst netip.Addr
	s.whole = true
	switch binary.BigEndian.Uint16(b[12:]) {
	case 0x800:
		header := int(ip[0]&15) * 4
		if ip[0]>>4 != 4 || header < 20 || len(ip) < header {
			return s, false
		}
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		s.proto, s.l4, s.srcAt, s.dstAt = ip[9], etherLen+header, etherLen+12, etherLen+16
		s.whole, s.later = binary.BigEndian.Uint16(ip[6:])&0x3fff == 0, binary.BigEndian.Uint16(ip[6:])&0x1fff > 0
		s.sums = sum(ip[:header]) == 0
	case 0x86dd:
		if len(ip) < 40 || ip[0]>>4 != 6 {
			return s, false
		}
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		s.proto, s.l4, s.srcAt, s.dstAt, s.sums = ip[6], etherLen+40, etherLen+8, etherLen+24, true
		for range 4 {
			if s.proto != 0 && s.proto != 43 && s.proto != 44 && s.proto != 60 || s.l4+8 > len(b) {
				break
			}
			length := (int(b[s.l4+1]) + 1) * 8
			if s.proto == 44 {
				length, s.whole, s.later = 8, binary.BigEndian.Uint16(b[s.l4+2:])&0xfff9 == 0, binary.BigEndian.Uint16(b[s.l4+2:])&0xfff8 > 0
			}
			s.proto, s.l4 = b[s.l4], s.l4+length
		}
	default:
		return s, false
	}
	need := map[byte]int{protoTCP: 20, protoUDP: 8}[s.proto]
	if need > 0 && s.later {
		s.src, s.dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
		return s, true
	}
	if need == 0 || s.l4+need > len(b) {
		return s, false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[s.l4:]))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[s.l4+2:]))
	if s.proto == protoTCP {
		s.flags = b[s.l4+13]
	}
	s.sums = s.sums && (s.proto == protoUDP && src.Is4() && b[s.l4+6] == 0 && b[s.l4+7] == 0 ||
		sum(pseudoHeader(src, dst, s.proto, len(b)-s.l4), b[s.l4:]) == 0)
	return s, true
}

// opens says whether it begins a connection.
func (s seen) opens() bool { return s.proto == protoUDP || s.flags&(2|4|16) == 2 }
