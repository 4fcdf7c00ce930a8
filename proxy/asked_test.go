package proxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/listeners"
)

// guarded is a node with the listeners that a server has.
func guarded() Node {
	node := testNode
	node.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")}
	node.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	node.Local = []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("10.244.0.0")}
	node.Others = map[netip.Addr]string{netip.MustParseAddr("192.0.2.9"): "second"}
	for at, flag := range map[string]string{"0.0.0.0:6443": "api-address", "0.0.0.0:80": "ingress-http", "192.0.2.1:10250": "node-ip", "10.96.0.10:53": "dns-ip"} {
		node.Own = append(node.Own, listeners.Listener{At: netip.MustParseAddrPort(at), Protocol: corev1.ProtocolTCP, Owner: "svcplane", Flag: flag})
	}
	node.Own = append(node.Own, listeners.Listener{At: netip.MustParseAddrPort("10.96.0.10:53"), Protocol: corev1.ProtocolUDP, Owner: "svcplane", Flag: "dns-ip"})
	return node
}

// TestRefusals: what Build leaves out is what Refusals lists, with who has it; the rest is served.
func TestRefusals(t *testing.T) {
	const elsewhere = "is not an address that clients elsewhere can dial"
	for name, c := range map[string]struct {
		kind           Kind
		at             string
		port, nodePort uint16
		protocol       corev1.Protocol
		why            string // "": it is served
	}{
		"the API":                           {kind: ExternalIP, at: "192.0.2.1", port: 6443, why: "port 6443/TCP of 192.0.2.1 belongs to svcplane (--api-address 0.0.0.0:6443): use another port, or move that one"},
		"the API by UDP":                    {kind: ExternalIP, at: "192.0.2.1", port: 6443, protocol: corev1.ProtocolUDP},
		"another port of the node":          {kind: ExternalIP, at: "192.0.2.1", port: 8080},
		"the ingress":                       {kind: ExternalIP, at: "192.0.2.1", port: 80, why: "--ingress-http"},
		"the ingress at an address besides": {kind: ExternalIP, at: "172.17.0.1", port: 80, why: "--ingress-http"},
		"its port at an address elsewhere":  {kind: ExternalIP, at: "198.51.100.1", port: 80},
		"IPv4 only":                         {kind: ExternalIP, at: "2001:db8::1", port: 80},
		"one address only":                  {kind: ExternalIP, at: "172.17.0.1", port: 10250},
		"that one":                          {kind: ExternalIP, at: "192.0.2.1", port: 10250, why: "--node-ip"},
		"the name server":                   {kind: ExternalIP, at: "10.96.0.10", port: 53, protocol: corev1.ProtocolUDP, why: "port 53/UDP of 10.96.0.10 belongs to svcplane (--dns-ip"},
		"the name server as a cluster IP":   {kind: ClusterIP, at: "10.96.0.10", port: 53, why: "--dns-ip"},
		"another port of that cluster IP":   {kind: ClusterIP, at: "10.96.0.10", port: 9153},
		"the range of cluster IPs":          {kind: ExternalIP, at: "10.96.0.1", port: 443, why: "10.96.0.1 is in the range of cluster IPs (10.96.0.0/16 fd00:96::/112), which the API gives out: use another address"},
		"a cluster IP":                      {kind: ClusterIP, at: "10.96.0.1", port: 443},
		"a pod":                             {kind: ExternalIP, at: "10.244.0.7", port: 80, why: "10.244.0.7 is in the range of pods"},
		"the node's spare address":          {kind: LoadBalancerIP, at: "10.244.0.0", port: 8080},
		"another node":                      {kind: ExternalIP, at: "192.0.2.9", port: 8080, why: "192.0.2.9 is an address of node second: use another address"},
		"a status by hand":                  {kind: LoadBalancerIP, at: "192.0.2.1", port: 6443, why: "--api-address"},
		"loopback by hand, the API":         {kind: LoadBalancerIP, at: "127.0.0.1", port: 6443, why: "--api-address"},
		"loopback by hand":                  {kind: LoadBalancerIP, at: "127.0.0.1", port: 5432, why: elsewhere},
		"everything by hand":                {kind: LoadBalancerIP, at: "0.0.0.0", port: 5432, why: elsewhere},
		"link-local by hand":                {kind: LoadBalancerIP, at: "169.254.169.254", port: 80, why: elsewhere},
		"a load balancer":                   {kind: LoadBalancerIP, at: "192.0.2.1", port: 8080},
		"a node port":                       {kind: NodePort, at: "192.0.2.1", port: 80, nodePort: 30080},
		"a node port of the API":            {kind: NodePort, at: "192.0.2.1", port: 80, nodePort: 6443, why: "port 6443/TCP of 192.0.2.1 belongs to"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := testService(func(s *catalog.Service) {
				s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs = nil, nil, nil
				at := []netip.Addr{netip.MustParseAddr(c.at)}
				switch c.kind {
				case ClusterIP:
					s.ClusterIPs = at
				case ExternalIP:
					s.ExternalIPs = at
				case LoadBalancerIP:
					s.LoadBalancerIPs = at
				}
				s.Ports[0].Port, s.Ports[0].NodePort = c.port, c.nodePort
				if c.protocol != "" {
					s.Ports[0].Protocol = c.protocol
				}
			})
			port := c.port
			if c.kind == NodePort {
				port = c.nodePort
			}
			want := Address{netip.AddrPortFrom(netip.MustParseAddr(c.at), port), svc.Ports[0].Protocol}
			built := slices.ContainsFunc(Build(svc, guarded()), func(f Frontend) bool { return f.Address == want })
			refused := ""
			for _, r := range Refusals(svc, guarded()) {
				if r.Address == want && r.Kind == c.kind {
					refused = r.Why
				}
			}
			if built == (refused != "") || built != (c.why == "") || !strings.Contains(refused, c.why) {
				t.Errorf("%s as %s: served %v, refused %q; want %q", want, c.kind, built, refused, c.why)
			}
		})
	}
}

// TestWhoHasAnAddress: who was given it, then the older Service; and Events say so of the others, also when they did not change.
func TestWhoHasAnAddress(t *testing.T) {
	addr := Address{netip.MustParseAddrPort("203.0.113.1:80"), corev1.ProtocolTCP}
	asking := func(name string, kind Kind, age int) map[catalog.Key]request {
		key := catalog.Key{Namespace: "default", Name: name}
		svc := testService(func(s *catalog.Service) {
			s.Key, s.Created = key, time.Unix(int64(1000-age), 0)
			s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs, s.Ports[0].NodePort = nil, nil, nil, 0
			switch kind {
			case ClusterIP:
				s.ClusterIPs = []netip.Addr{addr.Addr()}
			case LoadBalancerIP:
				s.LoadBalancerIPs = []netip.Addr{addr.Addr()}
			case ExternalIP:
				s.ExternalIPs = []netip.Addr{addr.Addr()}
			}
		})
		return map[catalog.Key]request{key: requestOf(svc, testNode)}
	}
	for name, c := range map[string]struct {
		first, second map[catalog.Key]request
		want          string
	}{
		"the older one":                   {asking("b", ExternalIP, 2), asking("a", ExternalIP, 1), "b"},
		"of one age, by name":             {asking("b", ExternalIP, 1), asking("a", ExternalIP, 1), "a"},
		"of one age, the load balancer":   {asking("b", LoadBalancerIP, 1), asking("a", ExternalIP, 1), "b"},
		"an older external IP":            {asking("b", ExternalIP, 2), asking("a", LoadBalancerIP, 1), "b"},
		"a cluster IP, however young":     {asking("a", ExternalIP, 9), asking("b", ClusterIP, 1), "b"},
		"a cluster IP before its takers":  {asking("b", ClusterIP, 1), asking("a", LoadBalancerIP, 9), "b"},
		"an address that only one wishes": {asking("a", ExternalIP, 1), nil, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, order := range [][]map[catalog.Key]request{{c.first, c.second}, {c.second, c.first}} {
				ledger := newLedger()
				ledger.plan(order[0])
				last := ledger.plan(order[1])
				if got := ledger.owners[addr][0].Name; got != c.want {
					t.Errorf("%s has it, want %s", got, c.want)
				}
				for _, key := range ledger.owners[addr] {
					lost := ledger.lost(key)
					if told := len(lost) == 1 && strings.HasPrefix(lost[0].Why, "port 80/TCP of 203.0.113.1 is taken by Service default/"+c.want+":"); told != (key.Name != c.want) {
						t.Errorf("%s is told %+v", key.Name, lost)
					}
					if len(ledger.owners[addr]) > 1 && !slices.Contains(last.contested, key) {
						t.Errorf("%s is not looked at again after the other's change", key.Name)
					}
				}
			}
		})
	}
}
