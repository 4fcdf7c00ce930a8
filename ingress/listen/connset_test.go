package listen

import (
	"net/netip"
	"testing"

	"svcplane/ingress/pace"
)

// TestLastPlaceIsForAnother: the fuller the set is, the less of it one client may have.
func TestLastPlaceIsForAnother(t *testing.T) {
	set := NewConnSet(4, 3, &pace.Limit{})
	at := func(addr string) *Conn { return &Conn{client: netip.MustParseAddr(addr), set: set} }
	for range 3 {
		if !set.add(at("192.0.2.1"), false) {
			t.Fatal("there was a place")
		}
	}
	if set.add(at("192.0.2.1"), false) {
		t.Error("one client has all places")
	}
	other := at("192.0.2.2")
	if !set.add(other, false) {
		t.Error("the last place is for another client")
	}
	set.remove(other)
	if set.Count() != 3 {
		t.Errorf("%d connections", set.Count())
	}
}
