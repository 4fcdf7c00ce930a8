package ebpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// What a program says of a packet (linux/pkt_cls.h).
const (
	verdictNext     = 0xffffffff
	verdictShot     = 2
	verdictRedirect = 7
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
	binary.BigEndian.PutUint16(b[at:], sum(pseudoHeader(f.src.Addr(), f.dst.Addr(), f.proto, len(b)), b))
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

// target is what the fuzz test aims at: a plane with one Service in each family.
type target struct {
	plane     *Dataplane
	services  []netip.AddrPort
	refused   []netip.AddrPort
	endpoints []netip.AddrPort
	clients   []netip.Addr
}

func newTarget(t testing.TB) *target {
	parse := func(texts ...string) (all []netip.AddrPort) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddrPort(text))
		}
		return all
	}
	tg := &target{
		plane:     open(t, proxytest.NewLab(t)),
		services:  parse("10.96.0.5:80", "[fd00:96::5]:80"),
		refused:   parse("10.96.0.6:80", "[fd00:96::6]:80"),
		endpoints: parse("10.244.0.11:8080", "10.244.0.12:8080", "[fd00:244::11]:8080", "[fd00:244::12]:8080"),
		clients:   []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("10.244.0.13"), netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("fd00:244::13")},
	}
	var all []proxy.Frontend
	for i := range tg.services {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			f := proxy.Frontend{Service: catalog.Key{Namespace: "default", Name: "web"}, Masquerade: proxy.MasqueradeOutsiders}
			f.Address, f.Scope = proxy.Address{AddrPort: tg.services[i], Protocol: protocol}, proxy.Everywhere
			f.Endpoints = []proxy.Endpoint{{AddrPort: tg.endpoints[2*i]}, {AddrPort: tg.endpoints[2*i+1]}}
			all = append(all, f)
			f.AddrPort, f.Verdict, f.Masquerade, f.Endpoints = tg.refused[i], proxy.Reject, 0, nil
			all = append(all, f)
		}
	}
	must(t, tg.plane.Resync(t.Context(), proxy.NewTable(all...)))
	return tg
}

// run hands a frame to a program.
func (tg *target) run(t testing.TB, name string, in []byte) (uint32, []byte) {
	t.Helper()
	out := make([]byte, len(in)+256)
	options := ebpf.RunOptions{Data: in, DataOut: out}
	verdict, err := tg.plane.kernel.prog[name].Run(&options)
	if errors.Is(err, syscall.EINVAL) {
		return verdictNext, in // the kernel itself does not take so short a frame
	}
	must(t, err)
	return verdict, options.DataOut
}

// frame makes one of many kinds.
func (tg *target) frame(r *rand.Rand) []byte {
	pick := func(all []netip.AddrPort, v4 bool) netip.AddrPort {
		for {
			if a := all[r.IntN(len(all))]; a.Addr().Is4() == v4 {
				return a
			}
		}
	}
	v4 := r.IntN(2) == 0
	client := tg.clients[r.IntN(2)]
	if !v4 {
		client = tg.clients[2+r.IntN(2)]
	}
	f := frame{src: netip.AddrPortFrom(client, uint16(1+r.IntN(65535))), dst: pick(tg.services, v4), proto: []byte{protoTCP, protoUDP}[r.IntN(2)], flags: 2}
	switch r.IntN(6) {
	case 0:
		f.dst = pick(tg.refused, v4)
	case 1: // a reply nobody has asked for
		node := tg.plane.source(v4)
		f.src, f.dst, f.flags = pick(tg.endpoints, v4), netip.AddrPortFrom(node, uint16(30000+r.IntN(30000))), 18
	}
	if r.IntN(4) == 0 {
		f.flags = byte(r.IntN(64))
	}
	if r.IntN(4) == 0 {
		f.options = r.IntN(4)
	}
	if r.IntN(6) == 0 {
		f.more, f.offset = r.IntN(2) == 0, uint16(r.IntN(3))
	}
	f.payload = make([]byte, r.IntN(80))
	b := f.bytes()
	if r.IntN(5) == 0 { // an error about it
		proto, head := byte(protoICMP), []byte{3, byte(r.IntN(5)), 0, 0, 0, 0, 5, 0}
		if !v4 {
			proto, head[0] = protoICM6, 2
		}
		f.src, f.dst = f.dst, f.src
		b = f.around(proto, append(head, b[etherLen:]...))
	}
	switch r.IntN(4) {
	case 0:
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
	case 1:
		b = b[:r.IntN(len(b)+1)]
	}
	return b
}

// TestFuzzPackets hands broken, cut, fragmented and forged packets to the program at the door. What leaves it
// otherwise than it came must have been the beginning of a connection to the Service, and go to an endpoint.
func TestFuzzPackets(t *testing.T) {
	tg := newTarget(t)
	r := rand.New(rand.NewPCG(7, 8))
	met := map[string]int{}
	for range 60000 {
		in := tg.frame(r)
		verdict, out := tg.run(t, "svc_ingress", in)
		was, readable := look(in)
		switch {
		case verdict == verdictShot:
			met["dropped"]++
		case verdict == verdictRedirect:
			met["refused"]++
			tg.checkRefusal(t, in, out)
		case verdict != verdictNext:
			t.Fatalf("the verdict is %d for % x", verdict, in)
		case bytes.Equal(in, out):
			met["passed"]++
			if readable && was.whole && was.opens() && slices.Contains(tg.services, was.dst) {
				t.Fatalf("a connection to %s was not translated: % x", was.dst, in)
			}
		default:
			met["translated"]++
			tg.checkTranslation(t, in, out)
		}
	}
	for _, what := range []string{"dropped", "refused", "passed", "translated"} {
		if met[what] < 100 {
			t.Errorf("%s: %d times only: %v", what, met[what], met)
		}
	}
}

func (tg *target) checkTranslation(t *testing.T, in, out []byte) {
	t.Helper()
	was, ok := look(in)
	if !ok {
		if len(in) > etherLen+10 && (in[etherLen+9] == protoICMP || in[etherLen+6] == protoICM6 || in[etherLen+6] == 60) {
			return // an error about a flow of this test: TestErrorsAreTranslated looks into those
		}
		t.Fatalf("nobody can read it, and it was changed:\n% x\n% x", in, out)
	}
	now, ok := look(out)
	if !ok || len(in) != len(out) {
		t.Fatalf("it cannot be read any more:\n% x\n% x", in, out)
	}
	if !was.whole {
		// the ports of a fragment are those of the first one
		isEndpoint := func(e netip.AddrPort) bool { return e.Addr() == now.dst.Addr() }
		if !slices.ContainsFunc(tg.endpoints, isEndpoint) || now.src.Addr() != was.src.Addr() {
			t.Fatalf("a fragment %s > %s became %s > %s", was.src, was.dst, now.src, now.dst)
		}
		return
	}
	if slices.Contains(tg.services, was.dst) {
		if !slices.Contains(tg.endpoints, now.dst) || now.src.Addr() != was.src.Addr() {
			t.Fatalf("%s > %s became %s > %s", was.src, was.dst, now.src, now.dst)
		}
	} else {
		t.Fatalf("%s > %s is no service's, and became %s > %s", was.src, was.dst, now.src, now.dst)
	}
	if was.sums && !now.sums {
		t.Fatalf("its checksums were right, and are wrong:\n% x\n% x", in, out)
	}
}

func (tg *target) checkRefusal(t *testing.T, in, out []byte) {
	t.Helper()
	was, ok := look(in)
	if !ok {
		t.Fatalf("nobody can read it, and it was answered:\n% x\n% x", in, out)
	}
	if was.proto == protoTCP {
		now, ok := look(out)
		if !ok || now.src != was.dst || now.dst != was.src || now.flags != 4|16 || !now.sums {
			t.Fatalf("the reset of %s > %s is % x", was.src, was.dst, out)
		}
		return
	}
	header := 40
	if was.dst.Addr().Is4() {
		header = 20
	}
	message := out[etherLen+header:]
	check := sum(message)
	if header == 40 {
		check = sum(pseudoHeader(was.dst.Addr(), was.src.Addr(), protoICM6, len(message)), message)
	}
	if check != 0 || !bytes.Equal(message[8:], in[etherLen:][:header+8]) {
		t.Fatalf("the refusal of %s > %s is % x", was.src, was.dst, out)
	}
}
