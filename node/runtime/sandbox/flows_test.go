package sandbox

import (
	"net/netip"
	"testing"
)

func TestStaleFlows(t *testing.T) {
	at, addr := netip.MustParseAddrPort, netip.MustParseAddr
	s := staleFlows{
		Flows{
			Pods:  netip.MustParsePrefix("10.244.0.0/24"),
			Alive: map[netip.Addr]bool{addr("10.244.0.5"): true, addr("10.244.0.6"): true},
			Ports: []PortMap{
				{Protocol: "UDP", HostPort: 53, Pod: addr("10.244.0.5"), PodPort: 5353},
				{Protocol: "UDP", HostIP: addr("192.0.2.77"), HostPort: 54, Pod: addr("10.244.0.6"), PodPort: 5354},
				{Protocol: "TCP", HostPort: 80, Pod: addr("10.244.0.5"), PodPort: 8080},
			},
		},
		func(a netip.Addr) bool { return a.IsLoopback() || a == addr("192.0.2.1") || a == addr("192.0.2.77") },
	}
	for _, c := range []struct {
		what                       string
		protocol                   string
		opening                    bool
		client, dialled, answering string
		want                       bool
	}{
		{what: "to the pod", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.1:53", answering: "10.244.0.5:5353"},
		{what: "to the pod before", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.1:53", answering: "10.244.0.4:5353", want: true},
		{what: "to the address of the pod before, which another has", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.1:53", answering: "10.244.0.6:5353", want: true},
		{what: "began before the pod", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.1:53", answering: "192.0.2.1:53", want: true},
		{what: "began before the pod, on loopback", protocol: "UDP", client: "127.0.0.1", dialled: "127.0.0.1:53", answering: "127.0.0.1:53", want: true},
		{what: "another's port 53", protocol: "UDP", client: "10.244.0.5", dialled: "198.51.100.1:53", answering: "198.51.100.1:53"},
		{what: "on the host address", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.77:54", answering: "192.0.2.77:54", want: true},
		{what: "not on the host address", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.1:54", answering: "192.0.2.1:54"},
		{what: "a host address has no loopback", protocol: "UDP", client: "127.0.0.1", dialled: "127.0.0.1:54", answering: "127.0.0.1:54"},
		{what: "a host port that went", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.1:55", answering: "10.244.0.4:5355", want: true},
		{what: "a Service's", protocol: "UDP", client: "192.0.2.2", dialled: "192.0.2.1:30053", answering: "10.244.0.6:53"},
		{what: "established", protocol: "TCP", client: "192.0.2.2", dialled: "192.0.2.1:80", answering: "10.244.0.4:8080"},
		{what: "opening", protocol: "TCP", opening: true, client: "192.0.2.2", dialled: "192.0.2.1:80", answering: "10.244.0.4:8080", want: true},
		{what: "what a dead pod began", protocol: "UDP", client: "10.244.0.4", dialled: "198.51.100.1:53", answering: "198.51.100.1:53", want: true},
		{what: "what a dead pod had open", protocol: "TCP", client: "10.244.0.4", dialled: "198.51.100.1:443", answering: "198.51.100.1:443", want: true},
		{what: "what a living pod began", protocol: "UDP", client: "10.244.0.6", dialled: "198.51.100.1:53", answering: "198.51.100.1:53"},
	} {
		got := s.stale(flow{protocol: c.protocol, opening: c.opening, client: addr(c.client), dialled: at(c.dialled), answering: at(c.answering)})
		if got != c.want {
			t.Errorf("%s: stale %v, want %v", c.what, got, c.want)
		}
	}
}
