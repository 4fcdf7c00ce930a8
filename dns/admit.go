package dns

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// standing is what an asker may have.
type standing uint8

const (
	stranger standing = iota // the names of the LAN, and nothing else
	client                   // every name, with a limit on what goes out by UDP
	resident                 // every name: it is on this node, so nobody can ask in its name
)

// standingOf places an asker; an address that is not valid is our own asking.
func (s *Server) standingOf(from netip.Addr) standing {
	if !from.IsValid() || from.IsLoopback() {
		return resident
	}
	for _, network := range s.cfg.Networks {
		if network.Contains(from) {
			return resident
		}
	}
	if slices.Contains(s.cfg.Addrs, from) || slices.Contains(*s.nodeAddrs.Load(), from) {
		return resident
	}
	if s.cfg.Clients == nil || containsAddr(s.cfg.Clients, from) {
		return client
	}
	return stranger
}

func containsAddr(networks []netip.Prefix, addr netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// limiter bounds the octets per second that one client gets by UDP, so that whoever asks in a victim's name gains
// next to nothing. Clients share slots when their hashes meet: its memory is fixed.
type limiter struct {
	perSecond uint32
	seed      maphash.Seed
	slots     [4096]atomic.Uint64 // the second, and the octets sent in it
	limited   atomic.Uint64       // answers that were withheld
}

func newLimiter(perSecond int) *limiter {
	return &limiter{perSecond: uint32(perSecond), seed: maphash.MakeSeed()}
}

// allows counts octets for the network that addr is in (a /24, or a /56: an attack is on links, not on hosts) and
// says whether they may go out.
func (l *limiter) allows(addr netip.Addr, octets int, now time.Time) bool {
	bits := 24
	if addr.Is6() {
		bits = 56
	}
	network, err := addr.Prefix(bits)
	if err != nil {
		return false
	}
	slot := &l.slots[maphash.Comparable(l.seed, network.Addr())%uint64(len(l.slots))]
	second := uint64(uint32(now.Unix()))
	for {
		old := slot.Load()
		sent := uint64(0)
		if old>>32 == second {
			sent = old & 0xFFFFFFFF
		}
		if sent+uint64(octets) > uint64(l.perSecond) {
			l.limited.Add(1)
			return false
		}
		if slot.CompareAndSwap(old, second<<32|(sent+uint64(octets))) {
			return true
		}
	}
}

// slip is what a client over its limit gets: no larger than its question, and a reason to come by TCP, which nobody
// can do in another's name.
func slip(b, msg []byte, q *question) []byte {
	b = appendHead(b[:0], msg, q, dns.RcodeSuccess, bitTC)
	return b
}
