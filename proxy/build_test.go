package proxy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

var testNode = Node{Name: "node", Zone: "zone-1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}

func testService(change func(s *catalog.Service)) *catalog.Service {
	s := &catalog.Service{
		Key:             catalog.Key{Namespace: "default", Name: "toad"},
		ClusterIPs:      []netip.Addr{netip.MustParseAddr("10.96.0.5"), netip.MustParseAddr("fd00:96::5")},
		ExternalIPs:     []netip.Addr{netip.MustParseAddr("198.51.100.1")},
		LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("198.51.100.2")},
		Ports: []catalog.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080, Endpoints: []catalog.Endpoint{
			testEndpoint("10.244.0.1:8080", "node"), testEndpoint("10.244.0.2:8080", "other"), testEndpoint("[fd00:244::1]:8080", "node"),
		}}},
	}
	change(s)
	return s
}

func testEndpoint(addr, node string) catalog.Endpoint {
	return catalog.Endpoint{AddrPort: netip.MustParseAddrPort(addr), Ready: true, Serving: true, Node: node}
}

const (
	cluster4 = "10.96.0.5:80/TCP  default/toad:http  everybody  balance, masquerade outside-pods  10.244.0.1:8080 10.244.0.2:8080"
	cluster6 = "[fd00:96::5]:80/TCP  default/toad:http  everybody  balance, masquerade outside-pods  [fd00:244::1]:8080"
	node4    = "192.0.2.1:30080/TCP  default/toad:http  everybody  balance, masquerade everybody  10.244.0.1:8080 10.244.0.2:8080"
	node6    = "[2001:db8::1]:30080/TCP  default/toad:http  everybody  balance, masquerade everybody  [fd00:244::1]:8080"
	external = "198.51.100.1:80/TCP  default/toad:http  everybody  balance, masquerade everybody  10.244.0.1:8080 10.244.0.2:8080"
	balancer = "198.51.100.2:80/TCP  default/toad:http  everybody  balance, masquerade everybody  10.244.0.1:8080 10.244.0.2:8080"
)

func TestBuild(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *catalog.Service)
		want   []string
	}{
		"everything":       {func(*catalog.Service) {}, []string{cluster4, node4, external, balancer, node6, cluster6}},
		"another proxy's":  {func(s *catalog.Service) { s.ForeignProxy = true }, nil},
		"headless":         {func(s *catalog.Service) { s.Headless, s.ClusterIPs = true, nil }, nil},
		"an external name": {func(s *catalog.Service) { s.ExternalName = "db.example.com" }, nil},
		"one family":       {func(s *catalog.Service) { s.ClusterIPs = s.ClusterIPs[:1] }, []string{cluster4, node4, external, balancer, node6}},
		"sticky": {func(s *catalog.Service) {
			only4(s)
			s.Affinity = 3 * time.Hour
		}, []string{strings.Replace(cluster4, "outside-pods", "outside-pods, affinity 3h0m0s", 1)}},
		"nobody there": {func(s *catalog.Service) {
			only4(s)
			s.Affinity, s.Ports[0].Endpoints = time.Hour, nil
		}, []string{"10.96.0.5:80/TCP  default/toad:http  everybody  reject  -"}},
		"external policy local": {func(s *catalog.Service) {
			s.ClusterIPs, s.ExternalIPs, s.Ports[0].NodePort, s.ExternalLocal = nil, nil, 0, true
		}, []string{
			"198.51.100.2:80/TCP  default/toad:http  cluster  balance, masquerade outside-pods  10.244.0.1:8080 10.244.0.2:8080",
			"198.51.100.2:80/TCP  default/toad:http  outside  balance  10.244.0.1:8080",
		}},
		"source ranges are for load balancers of their family": {func(s *catalog.Service) {
			s.ClusterIPs, s.Ports[0].NodePort = nil, 0
			s.LoadBalancerIPs = append(s.LoadBalancerIPs, netip.MustParseAddr("2001:db8::2"))
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("203.0.113.0/24")}
		}, []string{
			external,
			strings.Replace(balancer, "everybody  10", "everybody, only 192.0.2.0/24 203.0.113.0/24  10", 1),
			"[2001:db8::2]:80/TCP  default/toad:http  everybody  drop  -",
		}},
		"a source range that is everything": {func(s *catalog.Service) {
			s.ClusterIPs, s.ExternalIPs, s.Ports[0].NodePort = nil, nil, 0
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("0.0.0.0/0")}
		}, []string{balancer}},
		"an address listed twice has the stricter rule": {func(s *catalog.Service) {
			s.ClusterIPs, s.ExternalIPs, s.Ports[0].NodePort = nil, s.LoadBalancerIPs, 0
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		}, []string{strings.Replace(balancer, "everybody  10", "everybody, only 203.0.113.0/24  10", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range Build(testService(test.change), testNode) {
				got = append(got, f.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func only4(s *catalog.Service) {
	s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs, s.Ports[0].NodePort = s.ClusterIPs[:1], nil, nil, 0
}

func TestTableAsText(t *testing.T) {
	table := NewTable(Build(testService(func(s *catalog.Service) {
		s.Affinity, s.ExternalLocal = time.Hour, true
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	}), testNode)...)
	text := table.String()
	if lines := strings.Count(text, "\n"); lines != len(table.Frontends) {
		t.Errorf("%d frontends are printed as\n%s", len(table.Frontends), text)
	}
	if got := table.Of(catalog.Key{Namespace: "default", Name: "toad"}); !got.Equal(table) {
		t.Errorf("the table of its only service is\n%s", got)
	}
	if got := table.Of(catalog.Key{Namespace: "default", Name: "bar"}); len(got.Frontends) != 0 {
		t.Errorf("the table of another service is\n%s", got)
	}
}

// TestLedgerForgetsHistory applies random requests, some taken back, and compares with a ledger that saw only
// the last ones. What changes must lead from one table to the next.
func TestLedgerForgetsHistory(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	ledger, now := newLedger(), map[ID]Frontend{}
	last := map[catalog.Key]request{}
	for range 600 {
		batch := map[catalog.Key]request{}
		for range 1 + r.IntN(4) {
			key := catalog.Key{Namespace: "default", Name: string(rune('a' + r.IntN(6)))}
			var frontends []Frontend
			for range r.IntN(4) {
				f := Frontend{Service: key, Verdict: Reject}
				f.AddrPort = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(1+r.IntN(5)))
				f.Protocol, f.Scope = corev1.ProtocolTCP, Scope(1+r.IntN(3))
				frontends = append(frontends, f)
			}
			c := request{frontends: NewTable(frontends...).Frontends, created: time.Unix(int64(r.IntN(2)), 0), written: map[Address]Kind{}}
			for _, f := range frontends {
				if r.IntN(2) == 0 {
					c.written[f.Address] = ExternalIP
				}
			}
			batch[key] = c
		}
		next := ledger.plan(batch)
		if r.IntN(3) == 0 {
			next.undo()
			continue
		}
		for _, id := range next.Remove {
			delete(now, id)
		}
		for _, f := range next.Set {
			now[f.ID] = f
		}
		for key, c := range batch {
			last[key] = c
		}
		fresh := newLedger()
		fresh.plan(last)
		if diff := fresh.table().Diff(ledger.table()); len(diff) > 0 {
			t.Fatalf("history shows:\n%s", strings.Join(diff, "\n"))
		}
		if len(now) != len(fresh.table().Frontends) {
			t.Fatalf("the changes lead to %d frontends, the table has %d", len(now), len(fresh.table().Frontends))
		}
		for _, f := range fresh.table().Frontends {
			if !now[f.ID].Equal(f) {
				t.Fatalf("the changes lead to %s, the table has %s", now[f.ID], f)
			}
		}
	}
}

func TestStaleFlows(t *testing.T) {
	addr := func(text string, p corev1.Protocol) Address {
		return Address{AddrPort: netip.MustParseAddrPort(text), Protocol: p}
	}
	ledger := newLedger()
	svc := testService(func(s *catalog.Service) {
		s.Ports[0].Endpoints[1].Ready, s.Ports[0].Endpoints[1].Terminating = false, true
		s.Ports = append(s.Ports, catalog.Port{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, Endpoints: s.Ports[0].Endpoints})
	})
	ledger.plan(map[catalog.Key]request{svc.Key: {frontends: Build(svc, testNode), serving: endpointsOf(svc, true), resting: endpointsOf(svc, false)}})
	node := testNode
	node.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	filter := staleFlows{ledger: ledger, node: node, gone: map[Address]bool{addr("192.0.2.1:30053", corev1.ProtocolUDP): true}}
	for name, test := range map[string]struct {
		dialled   string
		protocol  corev1.Protocol
		answering string
		syn       bool
		want      bool
	}{
		"to an endpoint":                      {"10.96.0.5:53", corev1.ProtocolUDP, "10.244.0.1:8080", false, false},
		"to one that terminates":              {"10.96.0.5:53", corev1.ProtocolUDP, "10.244.0.2:8080", false, false},
		"to one that is gone":                 {"10.96.0.5:53", corev1.ProtocolUDP, "10.244.0.9:8080", false, true},
		"from before the service":             {"10.96.0.5:53", corev1.ProtocolUDP, "10.96.0.5:53", false, true},
		"of a deleted service":                {"10.96.9.9:53", corev1.ProtocolUDP, "10.244.0.1:8080", false, true},
		"of a deleted node port":              {"192.0.2.1:30053", corev1.ProtocolUDP, "10.244.0.1:8080", false, true},
		"to a local server there now":         {"192.0.2.1:30053", corev1.ProtocolUDP, "192.0.2.1:30053", false, false},
		"somebody else's translation":         {"192.0.2.1:5353", corev1.ProtocolUDP, "172.17.0.2:53", false, false},
		"somebody else's":                     {"192.0.2.9:53", corev1.ProtocolUDP, "192.0.2.9:53", false, false},
		"a local address of the service CIDR": {"10.96.0.10:53", corev1.ProtocolUDP, "10.96.0.10:53", false, false},
		"answered TCP to one that is gone":    {"10.96.0.5:80", corev1.ProtocolTCP, "10.244.0.9:8080", false, false},
		"unanswered TCP to one that is gone":  {"10.96.0.5:80", corev1.ProtocolTCP, "10.244.0.9:8080", true, true},
		"unanswered TCP to one that is there": {"10.96.0.5:80", corev1.ProtocolTCP, "10.244.0.1:8080", true, false},
	} {
		got := filter.match(flow{dialled: addr(test.dialled, test.protocol), answering: netip.MustParseAddrPort(test.answering), syn: test.syn})
		if got != test.want {
			t.Errorf("%s: stale is %v, want %v", name, got, test.want)
		}
	}
}

// TestPeersThatAreGone: an answered TCP connection ends when nobody will answer it again, and only then.
func TestPeersThatAreGone(t *testing.T) {
	ledger := newLedger()
	svc := testService(func(s *catalog.Service) {
		s.Ports[0].Endpoints[1].Ready, s.Ports[0].Endpoints[1].Serving = false, false
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, catalog.Endpoint{AddrPort: netip.MustParseAddrPort("198.51.100.1:80"), Ready: true})
	})
	ledger.plan(map[catalog.Key]request{svc.Key: {frontends: Build(svc, testNode), serving: endpointsOf(svc, true), resting: endpointsOf(svc, false)}})
	node := testNode
	node.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	filter := staleFlows{ledger: ledger, node: node, routed: func(a netip.Addr) bool { return a == netip.MustParseAddr("10.244.0.8") }}
	for name, test := range map[string]struct {
		dialled, answering string
		want               bool
	}{
		"an endpoint":                               {"10.96.0.5:80", "10.244.0.1:8080", false},
		"one that is not ready":                     {"10.96.0.5:80", "10.244.0.2:8080", false},
		"a pod that is there, and no endpoint":      {"10.96.0.5:80", "10.244.0.8:8080", false},
		"a pod that is gone":                        {"10.96.0.5:80", "10.244.0.9:8080", true},
		"an address outside":                        {"10.96.0.5:80", "198.51.100.1:80", false},
		"one outside that is no endpoint any more":  {"10.96.0.5:80", "198.51.100.2:80", true},
		"a pod that is there, of no service":        {"10.96.9.9:80", "10.244.0.8:8080", false},
		"a pod that is gone, and so is its service": {"10.96.9.9:80", "10.244.0.9:8080", true},
		"an address outside whose service is gone":  {"10.96.9.9:80", "198.51.100.1:80", false},
	} {
		f := flow{dialled: Address{AddrPort: netip.MustParseAddrPort(test.dialled), Protocol: corev1.ProtocolTCP}, answering: netip.MustParseAddrPort(test.answering), socket: true}
		if got := filter.match(f); got != test.want {
			t.Errorf("%s: gone is %v, want %v", name, got, test.want)
		}
		if f.socket = false; filter.match(f) {
			t.Errorf("%s: a connection that netfilter translates is left to its peers", name)
		}
	}
}
