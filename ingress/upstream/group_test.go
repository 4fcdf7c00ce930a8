package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"svcplane/catalog"
	"svcplane/ingress/route"
)

func groupOf(addrs ...netip.AddrPort) *Group {
	g := newGroup(route.GroupKey{})
	g.set(endpointsAt(addrs...), route.ProtocolHTTP1, route.Problem{})
	return g
}

func endpointsAt(addrs ...netip.AddrPort) []catalog.Endpoint {
	var all []catalog.Endpoint
	for _, a := range addrs {
		all = append(all, catalog.Endpoint{AddrPort: a, Ready: true, Serving: true})
	}
	return all
}

// ask sends a request through the group and returns the code and the body.
func ask(g *Group, method, body string) (int, string) {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	resp, err := g.RoundTrip(httptest.NewRequest(method, "/", in), &Attempt{Policy: &route.Policy{}})
	switch {
	case errors.Is(err, ErrNoEndpoint):
		return http.StatusServiceUnavailable, err.Error()
	case err != nil:
		return http.StatusBadGateway, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return http.StatusBadGateway, err.Error()
	}
	return resp.StatusCode, string(text)
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addrOf(l)
}

// hangingUp takes connections, reads a request and closes without an answer. It counts them.
func hangingUp(t *testing.T, count *atomic.Int32) netip.AddrPort {
	t.Helper()
	_, addr := endpointServer(t, func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		_, _ = io.Copy(io.Discard, r.Body) // so that the close is no reset while it is still sent
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			c.Close()
		}
	})
	return addr
}

func TestRoundRobin(t *testing.T) {
	var addrs []netip.AddrPort
	for i := range 4 {
		_, a := endpointServer(t, says(fmt.Sprint("endpoint", i)))
		addrs = append(addrs, a)
	}
	g := groupOf(addrs...)
	defer g.shut()
	count := map[string]int{}
	for range 40 {
		_, body := ask(g, "GET", "")
		count[body]++
	}
	if len(count) != 4 {
		t.Errorf("%v", count)
	}
	for body, n := range count {
		if n != 10 {
			t.Errorf("%s answered %d of 40", body, n)
		}
	}
}

func TestRefusedConnectionsAreTriedElsewhere(t *testing.T) {
	_, good := endpointServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what came is compared
		fmt.Fprintf(w, "good %s", body)
	})
	g := groupOf(refusing(t), good, refusing(t), refusing(t))
	defer g.shut()
	for range 20 {
		if code, body := ask(g, "POST", "payload"); code != 200 || body != "good payload" {
			t.Fatalf("%d %q", code, body)
		}
	}
	all := groupOf(refusing(t), refusing(t))
	defer all.shut()
	if code, _ := ask(all, "GET", ""); code != 502 {
		t.Errorf("with nobody listening: %d", code)
	}
}

func TestOnlySafeRequestsAreRepeated(t *testing.T) {
	for _, test := range []struct {
		method, body string
		tries        int32
	}{{"GET", "", 2}, {"HEAD", "", 2}, {"POST", "", 1}, {"POST", "x", 1}, {"GET", "x", 1}, {"DELETE", "", 1}} {
		var count atomic.Int32
		g := groupOf(hangingUp(t, &count), hangingUp(t, &count), hangingUp(t, &count))
		code, _ := ask(g, test.method, test.body)
		if code != 502 || count.Load() != test.tries {
			t.Errorf("%s with body %q: %d after %d tries, want %d", test.method, test.body, code, count.Load(), test.tries)
		}
		g.shut()
	}
}

func TestRemovedEndpoint(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	var idle, open atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			close(arrived)
			<-finish
		}
		fmt.Fprint(w, "old")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateIdle:
			idle.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.Start()
	defer s.Close()
	_, other := endpointServer(t, says("new"))
	g := groupOf(addrOf(s.Listener))
	defer g.shut()
	type result struct {
		code int
		body string
	}
	slow := make(chan result, 1)
	go func() { code, body := ask(g, "POST", ""); slow <- result{code, body} }()
	<-arrived
	ask(g, "GET", "") // leaves an idle connection beside the busy one
	gone := g.set(endpointsAt(other), route.ProtocolHTTP1, route.Problem{})
	if len(gone) != 1 {
		t.Fatalf("%d endpoints left", len(gone))
	}
	for range 10 {
		if _, body := ask(g, "GET", ""); !strings.HasPrefix(body, "new") {
			t.Fatalf("after the change %q answered", body)
		}
	}
	waitFor(t, func() bool { return open.Load() == 1 }, "the idle connection is open still")
	select {
	case <-gone[0].Drained():
		t.Error("drained with a request under way")
	default:
	}
	close(finish)
	if r := <-slow; r.code != 200 || r.body != "old" {
		t.Errorf("the request under way: %+v", r)
	}
	waitFor(t, func() bool { return open.Load() == 0 }, "the last connection is open still")
	select {
	case <-gone[0].Drained():
	case <-time.After(10 * time.Second):
		t.Error("not drained")
	}
}

func waitFor(t *testing.T, done func() bool, otherwise string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

func TestShutGroupTakesNoMore(t *testing.T) {
	_, addr := endpointServer(t, says("x"))
	g := groupOf(addr)
	if !g.Requests.Enter() {
		t.Fatal("an open group refused")
	}
	g.shut()
	if g.Requests.Enter() {
		t.Error("a shut group took a request")
	}
	if code, _ := ask(g, "GET", ""); code != 200 {
		t.Errorf("a request that was in already got %d", code)
	}
	g.Requests.Leave()
	if code, _ := ask(g, "GET", ""); code != 503 {
		t.Errorf("after the last request: %d", code)
	}
}

func TestUsableEndpoints(t *testing.T) {
	at := func(n byte, ready, terminating bool, node string) catalog.Endpoint {
		return catalog.Endpoint{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 80),
			Ready: ready, Serving: true, Terminating: terminating, Node: node}
	}
	for _, test := range []struct {
		what      string
		local     bool
		endpoints []catalog.Endpoint
		want      int
	}{
		{"ready only", false, []catalog.Endpoint{at(1, true, false, "a"), at(2, false, true, "a")}, 1},
		{"terminating while nothing is ready", false, []catalog.Endpoint{at(1, false, true, "a"), at(2, false, false, "a")}, 1},
		{"all nodes", false, []catalog.Endpoint{at(1, true, false, "a"), at(2, true, false, "b")}, 2},
		{"this node", true, []catalog.Endpoint{at(1, true, false, "a"), at(2, true, false, "b")}, 1},
		{"this node has none", true, []catalog.Endpoint{at(2, true, false, "b")}, 0},
		{"this zone", false, []catalog.Endpoint{hinted(at(1, true, false, "a"), "east"), hinted(at(2, true, false, "b"), "west")}, 1},
		{"no hint for this zone", false, []catalog.Endpoint{hinted(at(1, true, false, "a"), "west"), hinted(at(2, true, false, "b"), "west")}, 2},
		{"hints for some only", false, []catalog.Endpoint{hinted(at(1, true, false, "a"), "east"), at(2, true, false, "b")}, 2},
		{"hints and this node", true, []catalog.Endpoint{hinted(at(1, true, false, "a"), "west"), hinted(at(2, true, false, "b"), "east")}, 1},
	} {
		svc := &catalog.Service{InternalLocal: test.local}
		if got := usable(svc, &catalog.Port{Endpoints: test.endpoints}, Place{"a", "east"}); len(got) != test.want {
			t.Errorf("%s: %v", test.what, got)
		}
	}
}

func hinted(e catalog.Endpoint, zone string) catalog.Endpoint {
	e.ForZones = []string{zone}
	return e
}

func TestClientErrorUnwraps(t *testing.T) {
	if cause := errors.New("cause"); !errors.Is(&ClientError{cause}, cause) {
		t.Error("the cause is lost")
	}
}
