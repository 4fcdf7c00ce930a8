package listeners

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Listener is one socket.
type Listener struct {
	// At is where it listens: "::" is every address of the machine, "0.0.0.0" every one of IPv4.
	At       netip.AddrPort
	Protocol corev1.Protocol
	Owner    string // as a person would name it: "the API"
	Flag     string // that moves it, without dashes; empty when none does
}

// String is "the API (--api-address 0.0.0.0:6443)".
func (l Listener) String() string {
	if l.Flag == "" {
		return fmt.Sprintf("%s (%s)", l.Owner, l.At)
	}
	return fmt.Sprintf("%s (--%s %s)", l.Owner, l.Flag, l.At)
}

// Everywhere says whether it listens at every address, of both families or of one.
func (l Listener) Everywhere() bool { return l.At.Addr().IsUnspecified() }

// Takes says whether l gets what arrives for a port of an address, which the machine has. An address that is not
// valid, or unspecified, stands for all of them.
func (l Listener) Takes(addr netip.Addr, port uint16, protocol corev1.Protocol) bool {
	if l.At.Port() != port || l.Protocol != orTCP(protocol) {
		return false
	}
	addr, own := addr.Unmap(), l.At.Addr().Unmap()
	switch {
	case !addr.IsValid() || addr.IsUnspecified():
		return true
	case own.IsUnspecified():
		return own.Is6() || addr.Is4()
	}
	return own == addr
}

// Set is all of them.
type Set []Listener

// Find finds who gets what arrives for a port of an address, as Takes.
func (s Set) Find(addr netip.Addr, port uint16, protocol corev1.Protocol) (Listener, bool) {
	for _, l := range s {
		if l.Takes(addr, port, protocol) {
			return l, true
		}
	}
	return Listener{}, false
}

// HostPort finds who has a port that a pod asks for on its node.
func (s Set) HostPort(p corev1.ContainerPort) (Listener, bool) {
	if p.HostPort == 0 {
		return Listener{}, false
	}
	addr, _ := netip.ParseAddr(p.HostIP) // empty is every address
	return s.Find(addr, uint16(p.HostPort), p.Protocol)
}

// Refusal is what is said of a port of the node that belongs to l: "port 6443/TCP belongs to the API (…)".
func (l Listener) Refusal() string {
	return fmt.Sprintf("port %d/%s belongs to %s", l.At.Port(), l.Protocol, l)
}

func orTCP(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}
