package upstream

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"svcplane/ingress/route"
)

func TestEjection(t *testing.T) {
	var bad, good atomic.Int32
	_, a := endpointServer(t, func(w http.ResponseWriter, _ *http.Request) { bad.Add(1); w.WriteHeader(503) })
	_, b := endpointServer(t, func(http.ResponseWriter, *http.Request) { good.Add(1) })
	g := groupOf(a, b)
	defer g.shut()
	for range 40 {
		ask(g, "GET", "")
	}
	if bad.Load() != ejectAfter || good.Load() != 40-ejectAfter {
		t.Errorf("the failing endpoint got %d of 40, want %d and then none", bad.Load(), ejectAfter)
	}
	alone := groupOf(a)
	defer alone.shut()
	before := bad.Load()
	for range 20 {
		ask(alone, "GET", "")
	}
	if bad.Load()-before != 20 {
		t.Error("the only endpoint must not be put to rest")
	}
}

func TestHashKeepsItsEndpoint(t *testing.T) {
	var endpoints []*Endpoint
	for i := range 10 {
		endpoints = append(endpoints, &Endpoint{ID: endpointID(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(8000+i)))})
	}
	moved, spread := 0, map[*Endpoint]int{}
	for i := range 1000 {
		how := route.Choice{Hashed: true, Hash: route.Hash(fmt.Sprint("user ", i))}
		e := choose(endpoints, how, 0, nil)
		spread[e]++
		if next := choose(endpoints[1:], how, 0, nil); next != e {
			moved++
			if e != endpoints[0] {
				t.Fatal("a key moved that did not have to")
			}
		}
	}
	if moved != spread[endpoints[0]] {
		t.Errorf("%d keys moved, the removed endpoint had %d", moved, spread[endpoints[0]])
	}
	for e, n := range spread {
		if n < 50 || n > 170 {
			t.Errorf("endpoint %d has %d of 1000 keys", e.ID, n)
		}
	}
}

func TestLeastRequests(t *testing.T) {
	a, b := &Endpoint{}, &Endpoint{}
	a.Requests.Inside.Store(5)
	for range 10 {
		if choose([]*Endpoint{a, b}, route.Choice{Balance: route.LeastRequests}, 0, nil) != b {
			t.Fatal("the busier of two was taken")
		}
	}
}
