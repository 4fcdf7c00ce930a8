package proxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// TestExplain: every decision that Build takes has its words, and they are of the Frontend that is in force.
func TestExplain(t *testing.T) {
	node := testNode
	node.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	node.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	const pod, outside = "10.244.0.7", "192.0.2.77"
	for name, test := range map[string]struct {
		change     func(*catalog.Service)
		from, to   string
		action     string
		steps      []string
		takes, not []string // endpoints, "ADDRESS why"
	}{
		"a pod": {
			from: pod, to: "10.96.0.5:80", action: "balance", steps: []string{"the cluster IP of service default/toad:http", "2 of 2", "sees the client's address"},
			takes: []string{"10.244.0.1:8080 ready", "10.244.0.2:8080 ready"},
		},
		"the node": {to: "10.96.0.5:80", action: "balance", steps: []string{"the node's own address"}},
		"from outside to the cluster IP": {
			from: outside, to: "10.96.0.5:80", action: "balance", steps: []string{"this node's address: the client is outside"},
		},
		"a node port": {from: outside, to: "192.0.2.1:30080", action: "balance", steps: []string{"the node port", "this node's address"}},
		"nothing ready": {
			change: func(s *catalog.Service) {
				for i := range s.Ports[0].Endpoints {
					s.Ports[0].Endpoints[i].Ready, s.Ports[0].Endpoints[i].Serving = false, false
				}
			},
			from: pod, to: "10.96.0.5:80", action: "reject", steps: []string{"no endpoint is ready", "refused at once"}, not: []string{"10.244.0.1:8080 not ready"},
		},
		"no pod": {
			change: func(s *catalog.Service) { s.Ports[0].Endpoints, s.Selector = nil, "app=toad" },
			from:   pod, to: "10.96.0.5:80", action: "reject", steps: []string{"no pod matches the selector app=toad"},
		},
		"draining": {
			change: func(s *catalog.Service) {
				s.Ports[0].Endpoints[0].Ready, s.Ports[0].Endpoints[0].Terminating = false, true
			},
			from: pod, to: "10.96.0.5:80", action: "balance", takes: []string{"10.244.0.2:8080 ready"}, not: []string{"10.244.0.1:8080 terminates: keeps"},
		},
		"local": {
			change: func(s *catalog.Service) { s.ExternalLocal = true },
			from:   outside, to: "192.0.2.1:30080", action: "balance", steps: []string{"this one is outside", "sees the client's address"},
			takes: []string{"10.244.0.1:8080 ready"}, not: []string{`10.244.0.2:8080 on node "other"`},
		},
		"local without": {
			change: func(s *catalog.Service) { s.ExternalLocal, s.Ports[0].Endpoints = true, s.Ports[0].Endpoints[1:] },
			from:   outside, to: "192.0.2.1:30080", action: "drop", steps: []string{"externalTrafficPolicy is Local, and no endpoint"},
		},
		"source ranges": {
			change: func(s *catalog.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} },
			from:   outside, to: "198.51.100.2:80", action: "drop", steps: []string{"the load-balancer address", "allows 203.0.113.0/24 only"},
		},
		"the node out of the ranges": {
			change: func(s *catalog.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} },
			to:     "198.51.100.2:80", action: "drop", steps: []string{"allows 203.0.113.0/24 only"},
		},
		"the node in the ranges": {
			change: func(s *catalog.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
			to:     "198.51.100.2:80", action: "balance", steps: []string{"the node's own address"},
		},
		"another port":      {from: pod, to: "10.96.0.5:81", action: "reject", steps: []string{"no service has 10.96.0.5:81/TCP", "80/TCP of default/toad", "in the range of services"}},
		"nobody's address":  {from: pod, to: "203.0.113.9:80", action: "pass", steps: []string{"where the routes lead"}},
		"sticky":            {change: func(s *catalog.Service) { s.Affinity = 60e9 }, from: pod, to: "10.96.0.5:80", action: "balance", steps: []string{"within 1m0s gets the same one"}},
		"a pod and itself":  {from: "10.244.0.1", to: "10.96.0.5:80", action: "balance", steps: []string{"where it is the client itself, this node's"}},
		"an external IP":    {from: outside, to: "198.51.100.1:80", action: "balance", steps: []string{"an external IP of"}},
		"in another family": {from: "fd00:244::7", to: "[fd00:96::5]:80", action: "balance", steps: []string{"1 of 1"}, takes: []string{"[fd00:244::1]:8080 ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			svc := testService(func(s *catalog.Service) {
				if test.change != nil {
					test.change(s)
				}
			})
			ledger := newLedger()
			ledger.plan(map[catalog.Key]request{svc.Key: {frontends: Build(svc, node)}})
			x := inquiry{node: node, service: svc, to: Address{AddrPort: netip.MustParseAddrPort(test.to), Protocol: corev1.ProtocolTCP}}
			if test.from != "" {
				x.client.Addr = netip.MustParseAddr(test.from)
			}
			x.keys, x.siblings = ledger.owners[x.to], ledger.portsAt(x.to.Addr())
			x.frontend = frontendFor(ledger, x)
			e := x.explain()
			if e.Action != test.action {
				t.Errorf("it says %s", e.Action)
			}
			text := strings.Join(e.Steps, "\n")
			for _, want := range test.steps {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q, but\n%s", want, text)
				}
			}
			for takes, wanted := range map[bool][]string{true: test.takes, false: test.not} {
				for _, want := range wanted {
					if !slices.ContainsFunc(e.Choices, func(c EndpointFate) bool {
						return c.Takes == takes && strings.HasPrefix(c.Address.String()+" "+c.Why, want)
					}) {
						t.Errorf("no endpoint with takes=%t is %q: %v", takes, want, e.Choices)
					}
				}
			}
		})
	}
}
