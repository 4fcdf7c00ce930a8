package dns

import (
	"net/netip"
	"slices"
	"testing"
)

// TestLANFollowsTheNode: the node's address changes, and with it where the LAN is answered, what it is answered for hosts
// without a status, and who is on this node.
func TestLANFollowsTheNode(t *testing.T) {
	before, after := netip.MustParseAddr("127.83.5.1"), netip.MustParseAddr("127.83.5.2")
	s := newFixture(t, Config{LANDomain: "lab.example", NodeAddrs: []netip.Addr{before}, Clients: []netip.Prefix{}})
	if got := s.listenOn(); !slices.Equal(got, append(slices.Clone(s.cfg.Addrs), before)) {
		t.Errorf("at the start it listens on %s", got)
	}
	if err := s.SetNodeAddrs([]netip.Addr{after}); err != nil {
		t.Fatal(err)
	}
	if got := s.listenOn(); !slices.Equal(got, append(slices.Clone(s.cfg.Addrs), after)) {
		t.Errorf("it listens on %s", got)
	}
	outside := netip.MustParseAddr("192.0.2.1")
	if err := s.SetNodeAddrs([]netip.Addr{outside}); err != nil {
		t.Fatal(err)
	}
	if s.standingOf(outside) != resident || s.standingOf(netip.MustParseAddr("192.0.2.9")) != stranger {
		t.Error("who asks from the node's new address is not known as one of the node")
	}
}
