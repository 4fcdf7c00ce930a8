package ebpf

import (
	"encoding/binary"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

// The maps of bpf/maps.h whose contents follow from a Table. The kernel takes 15 characters of a name.
const (
	mapFrontends     = "frontends"
	mapEndpoints     = "endpoints"
	mapAffinityMatch = "affinity_match"
	mapSourceRanges  = "source_ranges"
	mapServiceNames  = "service_names"
)

// The other maps.
const (
	mapCIDRs          = "cidrs"
	mapNetns          = "netns"
	mapPodRoutes      = "pod_routes"
	mapOwnListeners   = "own_listeners"
	mapConfig         = "config"
	mapAffinity       = "affinity"
	mapSocketRevnat   = "socket_revnat"
	mapSocketChoices  = "socket_choices"
	mapFlows          = "flows"
	mapFragments      = "fragments"
	mapEventCounters  = "event_counters"
	mapServiceCounter = "service_counter"
	mapRRCursor       = "rr_cursor"
	mapOpenConns      = "open_conns"
	// made by the process, and bound to the programs
	mapMark   = markPrefix + layoutVersion
	mapQdiscs = "qdiscs"
)

const (
	sideSize   = 40
	slotSize   = 20
	originSize = 224
	// where members stand in struct settings
	snatOffset, roleOffset, bypassOffset = 32, 40, 44
	// where the origin stands in struct flow
	originOffset = 32
	// hostKind is NS_HOST in struct netns, and podKind NS_POD
	hostKind, podKind = 1, 2
	// mappedBits is the length of the prefix that stands before an IPv4 address in an IPv6 one.
	mappedBits = 96
)

var protocolNumbers = map[corev1.Protocol]byte{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17}

func protocolOf(number byte) corev1.Protocol {
	for name, n := range protocolNumbers {
		if n == number {
			return name
		}
	}
	return ""
}

var native = binary.NativeEndian

func putAddr(b []byte, a netip.Addr) []byte {
	as16 := a.As16()
	return append(b, as16[:]...)
}

func getAddr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b[:16])
	return a.Unmap()
}

func putAddrPort(b []byte, a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(putAddr(b, a.Addr()), a.Port())
}

func getAddrPort(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(getAddr(b), binary.BigEndian.Uint16(b[16:]))
}

// frontendKey is struct frontend_key.
func frontendKey(a proxy.Address) string {
	return string(append(putAddrPort(nil, a.AddrPort), protocolNumbers[a.Protocol], 0))
}

func addressOf(key string) proxy.Address {
	return proxy.Address{AddrPort: getAddrPort([]byte(key)), Protocol: protocolOf(key[18])}
}

// slotKey is struct slot_key.
func slotKey(set uint64, index int) string {
	b := native.AppendUint64(nil, set)
	return string(native.AppendUint32(native.AppendUint32(b, uint32(index)), 0))
}

// slot is struct slot.
func slot(e netip.AddrPort) string { return string(append(putAddrPort(nil, e), 0, 0)) }

// memberKey is struct member_key.
func memberKey(set uint64, e netip.AddrPort) string {
	b := append(native.AppendUint64(nil, set), slot(e)...)
	return string(append(b, 0, 0, 0, 0))
}

// rangeKey is struct range_key; the first 64 bits of the prefix are the name of the set.
func rangeKey(set uint64, p netip.Prefix) string {
	b := native.AppendUint32(nil, uint32(64+bitsOf(p)))
	return string(putAddr(native.AppendUint64(b, set), p.Addr()))
}

// cidrKey is struct cidr_key.
func cidrKey(p netip.Prefix) string {
	return string(putAddr(native.AppendUint32(nil, uint32(bitsOf(p))), p.Addr()))
}

func bitsOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return mappedBits + p.Bits()
	}
	return p.Bits()
}

func prefixOf(addr []byte, bits int) netip.Prefix {
	a := getAddr(addr)
	if a.Is4() {
		bits -= mappedBits
	}
	return netip.PrefixFrom(a, bits)
}

// side is struct side.
type side struct {
	set, ranges, origin uint64
	count               int
	affinity            time.Duration
	scope               proxy.Scope
	verdict             proxy.Verdict
	masquerade          proxy.Masquerade
}

func (s side) append(b []byte) []byte {
	b = native.AppendUint64(b, s.set)
	b = native.AppendUint64(b, s.ranges)
	b = native.AppendUint64(b, s.origin)
	b = native.AppendUint32(b, uint32(s.count))
	b = native.AppendUint32(b, uint32(s.affinity/time.Second))
	return append(b, byte(s.scope), byte(s.verdict), byte(s.masquerade), 0, 0, 0, 0, 0)
}

func sideOf(b []byte) side {
	return side{
		set: native.Uint64(b), ranges: native.Uint64(b[8:]), origin: native.Uint64(b[16:]),
		count: int(native.Uint32(b[24:])), affinity: time.Duration(native.Uint32(b[28:])) * time.Second,
		scope: proxy.Scope(b[32]), verdict: proxy.Verdict(b[33]), masquerade: proxy.Masquerade(b[34]),
	}
}
