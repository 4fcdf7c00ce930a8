package serve

import (
	"net/netip"
	"testing"
	"time"

	"svcplane/ingress/route"
)

func TestLimiter(t *testing.T) {
	l := newLimiter(route.Limits{PerSecond: 10, Burst: 3})
	client, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Unix(1000, 0)
	for i := range 3 {
		if wait := l.enter(client, now); wait != 0 {
			t.Fatalf("request %d of a burst of 3 waits %v", i, wait)
		}
	}
	if wait := l.enter(client, now); wait <= 0 || wait > 100*time.Millisecond {
		t.Errorf("the fourth waits %v, want up to 100ms", wait)
	}
	if wait := l.enter(other, now); wait != 0 {
		t.Errorf("another client waits %v", wait)
	}
	if wait := l.enter(client, now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("after 100ms it waits %v", wait)
	}
	six := newLimiter(route.Limits{PerSecond: 1, Burst: 1})
	six.enter(netip.MustParseAddr("2001:db8::1"), now)
	if wait := six.enter(netip.MustParseAddr("2001:db8::2"), now); wait == 0 {
		t.Error("a /64 counts as one client")
	}
}
