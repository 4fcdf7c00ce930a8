package proxy

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"svcplane/catalog"
)

func TestHealthSaysWhatKubeProxySays(t *testing.T) {
	eligible := true
	h := newHealth(func() bool { return eligible })
	began := time.Now()
	get := func(node bool, at time.Duration) int {
		status, _ := h.answer(began.Add(at), node)
		return status
	}
	check := func(when string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %d, want %d", when, got, want)
		}
	}
	check("while starting", get(true, 0), http.StatusOK)
	h.queued(began)
	check("a change is under way", get(true, healthTimeout-time.Second), http.StatusOK)
	h.queued(began.Add(healthTimeout - time.Second)) // another change does not make the first one younger
	check("a change is late", get(true, healthTimeout), http.StatusServiceUnavailable)
	check("a change is late", get(false, healthTimeout), http.StatusServiceUnavailable)
	h.took(began.Add(healthTimeout))
	check("in force", get(true, 10*healthTimeout), http.StatusOK)
	eligible = false
	check("the node goes away", get(true, 0), http.StatusServiceUnavailable)
	check("the node goes away, and the process is well", get(false, 0), http.StatusOK)

	answer := httptest.NewRecorder()
	h.handler().ServeHTTP(answer, httptest.NewRequest("GET", "/healthz", nil))
	var body map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	if body["healthy"] != true || body["nodeEligible"] != false || body["lastUpdated"] == nil || body["currentTime"] == nil {
		t.Errorf("the body is %s", answer.Body)
	}
	if got := answer.Header().Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options is %q", got)
	}
}

// freePort is one that nobody has at the moment.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestHealthPortsOfServices(t *testing.T) {
	h := newHealth(func() bool { return true })
	defer h.close()
	key := catalog.Key{Namespace: "default", Name: "web"}
	at := []netip.AddrPort{freePort(t)}
	set := func(at []netip.AddrPort, local int) {
		t.Helper()
		if err := h.set(key, at, local); err != nil {
			t.Fatal(err)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	check := func(status int, weight string, words ...string) {
		t.Helper()
		resp, err := client.Get("http://" + at[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || resp.Header.Get("X-Load-Balancing-Endpoint-Weight") != weight || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s %v", resp.Status, resp.Header)
		}
		for _, word := range words {
			if !strings.Contains(string(body), word) {
				t.Errorf("the body lacks %s: %s", word, body)
			}
		}
	}
	set(at, 2)
	check(http.StatusOK, "2", `"namespace": "default"`, `"name": "web"`, `"localEndpoints": 2`, `"serviceProxyHealthy": true`)
	set(at, 0)
	check(http.StatusServiceUnavailable, "0", `"localEndpoints": 0`)
	set(at, 1)
	h.queued(time.Now().Add(-2 * healthTimeout))
	check(http.StatusServiceUnavailable, "1", `"serviceProxyHealthy": false`)
	other := catalog.Key{Namespace: "default", Name: "other"}
	if err := h.set(other, at, 1); err == nil {
		t.Error("two services have one port")
	}
	set(nil, 0)
	if _, err := client.Get("http://" + at[0].String()); err == nil {
		t.Error("the port is open after the service is gone")
	}
	if err := h.set(other, at, 1); err != nil {
		t.Errorf("the port is free, and: %v", err)
	}
}

func TestBoundSockets(t *testing.T) {
	at := func(network, addr string) netip.AddrPort {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return netip.MustParseAddrPort(l.Addr().String())
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tcp, udp := at("tcp", "127.0.0.1:0"), netip.MustParseAddrPort(c.LocalAddr().String())
	every, only6 := at("tcp", "[::]:0"), at("tcp6", "[::]:0")
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	sockets, err := socketsBound()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		addr Address
		want bool
	}{
		{Address{tcp, "TCP"}, true}, {Address{udp, "UDP"}, true}, {Address{tcp, "SCTP"}, false},
		{Address{netip.AddrPortFrom(v4, tcp.Port()), "TCP"}, false},
		{Address{netip.AddrPortFrom(v4, every.Port()), "TCP"}, true}, {Address{netip.AddrPortFrom(v6, every.Port()), "TCP"}, true},
		{Address{netip.AddrPortFrom(v4, only6.Port()), "TCP"}, false}, {Address{netip.AddrPortFrom(v6, only6.Port()), "TCP"}, true},
	} {
		if got := sockets.taken(tt.addr); got != tt.want {
			t.Errorf("%s is taken: %v, want %v", tt.addr, got, tt.want)
		}
	}
}
