package server

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"svcplane/address"
)

// TestTheNodeKeepsItsName: another name is refused, and the one that it has is not.
func TestTheNodeKeepsItsName(t *testing.T) {
	host := Host{Node: "before"}
	if err := (&Config{NodeName: "before"}).sameNode(host); err != nil {
		t.Error(err)
	}
	if err := (&Config{NodeName: "other"}).sameNode(host); err == nil || !strings.Contains(err.Error(), "start with --node-name before") {
		t.Errorf("another name: %v", err)
	}
}

func TestNodePortAddresses(t *testing.T) {
	lan, other := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("198.51.100.7/24")
	now := address.New(address.Config{}, []address.Candidate{
		{Prefix: lan, Link: "eth0", Up: true, Carrier: true, Outward: true, Source: true}, {Prefix: other, Link: "eth1", Up: true, Carrier: true},
	}).State()
	chosen := ProxyConfig{NodePortRanges: []netip.Prefix{other.Masked(), netip.MustParsePrefix("10.0.0.0/8")}}
	if got := chosen.nodePortAddrs(now); !slices.Equal(got, []netip.Addr{other.Addr()}) {
		t.Errorf("of ranges: %v", got)
	}
	if got := new(ProxyConfig).nodePortAddrs(now); !slices.Equal(got, now.Node) {
		t.Errorf("without ranges: %v, want %v", got, now.Node)
	}
}
