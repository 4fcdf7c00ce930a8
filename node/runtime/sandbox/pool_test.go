package sandbox

import (
	"net/netip"
	"strings"
	"testing"
)

func take(t *testing.T, p *Pool, owner string) string {
	t.Helper()
	addr, err := p.Take(owner)
	if err != nil {
		t.Fatal(err)
	}
	return addr.String()
}

func TestPoolHandsOutEveryAddressOnce(t *testing.T) {
	p, err := NewPool(netip.MustParsePrefix("10.1.2.8/29"), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 6 {
		got = append(got, take(t, p, "a"))
	}
	if want := "10.1.2.9 10.1.2.10 10.1.2.11 10.1.2.12 10.1.2.13 10.1.2.14"; strings.Join(got, " ") != want {
		t.Errorf("handed out %v, want %s", got, want)
	}
	if addr, err := p.Take("b"); err == nil || !strings.Contains(err.Error(), "all 6 addresses are in use") {
		t.Errorf("a full pool gives %s, %v", addr, err)
	}
}

func TestPoolGivesFreedAddressesLast(t *testing.T) {
	prefix := netip.MustParsePrefix("10.1.2.0/29")
	p, err := NewPool(prefix, 0)
	if err != nil {
		t.Fatal(err)
	}
	first := take(t, p, "a")
	p.Release(netip.MustParseAddr(first), "somebody else")
	p.Release(netip.MustParseAddr(first), "a")
	// A restart in between must not begin at the front again.
	if p, err = NewPool(prefix, p.Next()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if got := take(t, p, "b"); got == first {
			t.Fatalf("%s was handed out again before all others", first)
		}
	}
	if got := take(t, p, "b"); got != first {
		t.Errorf("the last free address is %s, want %s", got, first)
	}
}

func TestPoolKeepsClaims(t *testing.T) {
	p, err := NewPool(netip.MustParsePrefix("10.1.2.0/30"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Reserve(netip.MustParseAddr("10.1.2.1"), "a"); err != nil {
		t.Fatal(err)
	}
	if err := p.Reserve(netip.MustParseAddr("10.1.2.1"), "b"); err == nil {
		t.Error("one address is reserved for two")
	}
	if err := p.Reserve(netip.MustParseAddr("10.9.9.9"), "old"); err != nil {
		t.Errorf("an address of an earlier pod CIDR: %v", err)
	}
	if got := take(t, p, "b"); got != "10.1.2.2" {
		t.Errorf("handed out %s, want the only free one", got)
	}
	for _, bad := range []string{"10.0.0.0/31", "10.0.0.0/7", "fd00::/64"} {
		if _, err := NewPool(netip.MustParsePrefix(bad), 0); err == nil {
			t.Errorf("pod CIDR %s is accepted", bad)
		}
	}
}
