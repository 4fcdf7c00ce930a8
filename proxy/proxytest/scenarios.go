package proxytest

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
)

// scene writes scenarios for one address family and protocol.
type scene struct {
	lab      *Lab
	protocol corev1.Protocol
	ipv6     bool

	clusterIP, unused, external, balancer netip.Addr
}

const (
	servicePort = 80
	nodePort    = 30080
)

// Scenarios is the contract.
func Scenarios(lab *Lab) []Scenario {
	var all []Scenario
	for _, ipv6 := range []bool{false, true} {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			s := newScene(lab, protocol, ipv6)
			name := map[bool]string{false: "IPv4 ", true: "IPv6 "}[ipv6] + string(protocol) + " "
			part := slices.Concat(s.inside(), s.outside(), s.policies(), s.conditions(), s.own())
			for i := range part {
				part[i].Name = name + part[i].Name
			}
			all = append(all, part...)
		}
	}
	return all
}

func newScene(lab *Lab, protocol corev1.Protocol, ipv6 bool) scene {
	texts := []string{"10.96.0.5", "10.96.77.77", "198.51.100.1", "198.51.100.2"}
	if ipv6 {
		texts = []string{"fd00:96::5", "fd00:96::7777", "2001:db8:2::1", "2001:db8:2::2"}
	}
	as := addrs(texts...)
	return scene{lab: lab, protocol: protocol, ipv6: ipv6, clusterIP: as[0], unused: as[1], external: as[2], balancer: as[3]}
}

func (s scene) host(name string) netip.Addr {
	h := s.lab.Hosts[name]
	if s.ipv6 {
		return h.IPv6
	}
	return h.IPv4
}

func (s scene) to(addr netip.Addr, port uint16) proxy.Address {
	return proxy.Address{AddrPort: netip.AddrPortFrom(addr, port), Protocol: s.protocol}
}

// endpoint is ready; pod c is on another node of another zone.
func (s scene) endpoint(name string) catalog.Endpoint {
	e := catalog.Endpoint{AddrPort: netip.AddrPortFrom(s.host(name), serverPort), Ready: true, Serving: true, Node: "node", Zone: "zone-1", Pod: name}
	if name == "c" {
		e.Node, e.Zone = "other", "zone-2"
	}
	return e
}

// service has every kind of address, and the named hosts behind it.
func (s scene) service(names ...string) *catalog.Service {
	svc := &catalog.Service{
		Key:        catalog.Key{Namespace: "default", Name: "web"},
		Type:       corev1.ServiceTypeLoadBalancer,
		ClusterIPs: []netip.Addr{s.clusterIP}, ExternalIPs: []netip.Addr{s.external}, LoadBalancerIPs: []netip.Addr{s.balancer},
		Ports: []catalog.Port{{Name: "http", Protocol: s.protocol, Port: servicePort, NodePort: nodePort}},
	}
	for _, name := range names {
		svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, s.endpoint(name))
	}
	return svc
}

// addresses are those of service that a client outside dials.
func (s scene) outer() []proxy.Address {
	return []proxy.Address{s.to(s.host("node"), nodePort), s.to(s.external, servicePort), s.to(s.balancer, servicePort)}
}

func (s scene) cluster() proxy.Address { return s.to(s.clusterIP, servicePort) }

// each repeats a probe for several clients and addresses.
func each(p Probe, from []string, to ...proxy.Address) []Probe {
	var all []Probe
	for _, f := range from {
		for _, addr := range to {
			p.From, p.To = f, addr
			all = append(all, p)
		}
	}
	return all
}

func one(name string, svc *catalog.Service, probes ...[]Probe) Scenario {
	return Scenario{Name: name, Services: []*catalog.Service{svc}, Probes: slices.Concat(probes...)}
}

// inside is what pods and the node see of a ClusterIP.
func (s scene) inside() []Scenario {
	everybody := []string{"node", "a", "c", "client"}
	affine := s.service("a", "b", "c")
	affine.Affinity = time.Hour
	elsewhere := s.service()
	elsewhere.Ports[0].Endpoints = []catalog.Endpoint{s.endpoint("client")}
	two := s.service("a")
	two.Ports = append(two.Ports, catalog.Port{Name: "admin", Protocol: s.protocol, Port: 81, Endpoints: []catalog.Endpoint{s.endpoint("b")}})
	return []Scenario{
		one("cluster ip", s.service("a", "b"),
			each(Probe{Want: []string{"a", "b"}, As: "self"}, []string{"c", "node"}, s.cluster()),
			each(Probe{Want: []string{"a", "b"}, As: "node"}, []string{"client"}, s.cluster())),
		one("hairpin", s.service("a"), each(Probe{Want: []string{"a"}, As: "node"}, []string{"a"}, append(s.outer(), s.cluster())...)),
		one("nobody there", s.service(), each(Probe{Refused: true}, everybody, append(s.outer(), s.cluster())...)),
		one("no such service", s.service("a"),
			each(Probe{Refused: true}, everybody, s.to(s.unused, servicePort), s.to(s.clusterIP, 7))),
		one("several ports", two,
			each(Probe{Want: []string{"a"}}, []string{"node", "c"}, s.cluster()),
			each(Probe{Want: []string{"b"}}, []string{"node", "c"}, s.to(s.clusterIP, 81))),
		one("sticky", affine, each(Probe{Want: []string{"a", "b", "c"}, Affinity: true}, everybody, append(s.outer(), s.cluster())...)),
		one("endpoint outside the cluster", elsewhere,
			each(Probe{Want: []string{"client"}}, []string{"node", "a"}, s.cluster()),
			each(Probe{Want: []string{"client"}, As: "node"}, []string{"client"}, s.outer()...)),
	}
}

// outside is what clients that are not in the cluster see, and the cluster of the same addresses.
func (s scene) outside() []Scenario {
	ranged := s.service("a")
	ranged.SourceRanges = []netip.Prefix{netip.PrefixFrom(s.host("client"), s.host("client").BitLen())}
	narrow := s.service("a")
	narrow.SourceRanges = []netip.Prefix{netip.PrefixFrom(s.host("b"), s.host("b").BitLen())}
	empty := s.service()
	empty.SourceRanges = narrow.SourceRanges
	// as svcplane's load balancer gives addresses
	own := s.service("a")
	own.LoadBalancerIPs, own.SourceRanges = []netip.Addr{s.host("node")}, narrow.SourceRanges
	ours := *own
	ours.SourceRanges = []netip.Prefix{netip.PrefixFrom(s.host("node"), s.host("node").BitLen())}
	balancer := s.to(s.balancer, servicePort)
	return []Scenario{
		one("from outside", s.service("a", "b"),
			each(Probe{Want: []string{"a", "b"}, As: "node"}, []string{"client", "node", "c"}, s.outer()...)),
		one("in the source ranges", ranged,
			each(Probe{Want: []string{"a"}}, []string{"client"}, s.outer()...),
			each(Probe{Dropped: true}, []string{"b"}, balancer)),
		one("out of the source ranges", narrow,
			each(Probe{Dropped: true}, []string{"client", "node"}, balancer),
			each(Probe{Want: []string{"a"}}, []string{"b"}, balancer),
			each(Probe{Want: []string{"a"}}, []string{"client"}, s.to(s.host("node"), nodePort))),
		one("out of the source ranges at the node's address", own,
			each(Probe{Dropped: true}, []string{"client", "node", "c"}, s.to(s.host("node"), servicePort)),
			each(Probe{Want: []string{"a"}}, []string{"b"}, s.to(s.host("node"), servicePort))),
		one("the node is in the source ranges", &ours,
			each(Probe{Want: []string{"a"}}, []string{"node"}, s.to(s.host("node"), servicePort)),
			each(Probe{Dropped: true}, []string{"b", "client"}, s.to(s.host("node"), servicePort))),
		one("source ranges and nobody there", empty,
			each(Probe{Dropped: true}, []string{"client"}, balancer),
			each(Probe{Refused: true}, []string{"b"}, balancer)),
	}
}

// policies are internalTrafficPolicy and externalTrafficPolicy Local.
func (s scene) policies() []Scenario {
	external := func(names ...string) *catalog.Service {
		svc := s.service(names...)
		svc.ExternalLocal = true
		return svc
	}
	internal := func(names ...string) *catalog.Service {
		svc := s.service(names...)
		svc.InternalLocal = true
		return svc
	}
	ranged := external("a", "c")
	ranged.SourceRanges = []netip.Prefix{netip.PrefixFrom(s.host("client"), s.host("client").BitLen())}
	balancer := s.to(s.balancer, servicePort)
	return []Scenario{
		one("external policy local", external("a", "c"),
			each(Probe{Want: []string{"a"}, As: "self"}, []string{"client"}, s.outer()...),
			each(Probe{Want: []string{"a", "c"}, As: "self"}, []string{"b"}, s.outer()...),
			each(Probe{Want: []string{"a", "c"}, As: "node"}, []string{"node"}, s.outer()...)),
		one("external policy local, nobody local", external("c"),
			each(Probe{Dropped: true}, []string{"client"}, s.outer()...),
			each(Probe{Want: []string{"c"}}, []string{"b", "node"}, append(s.outer(), s.cluster())...)),
		one("external policy local, nobody at all", external(),
			each(Probe{Refused: true}, []string{"client", "b", "node"}, s.outer()...)),
		one("external policy local with source ranges", ranged,
			each(Probe{Want: []string{"a"}, As: "self"}, []string{"client"}, balancer),
			each(Probe{Dropped: true}, []string{"b"}, balancer)),
		one("internal policy local", internal("b", "c"),
			each(Probe{Want: []string{"b"}}, []string{"a", "node"}, s.cluster()),
			each(Probe{Want: []string{"b", "c"}}, []string{"client"}, s.outer()...)),
		one("internal policy local, nobody local", internal("c"),
			each(Probe{Dropped: true}, []string{"a", "node"}, s.cluster())),
	}
}

// conditions are which endpoints count.
func (s scene) conditions() []Scenario {
	with := func(change func(all []catalog.Endpoint)) *catalog.Service {
		svc := s.service("a", "b", "c")
		change(svc.Ports[0].Endpoints)
		return svc
	}
	from := []string{"node", "client"}
	to := []proxy.Address{s.cluster(), s.to(s.host("node"), nodePort)}
	return []Scenario{
		one("not ready", with(func(all []catalog.Endpoint) { all[1].Ready, all[1].Serving = false, false }),
			each(Probe{Want: []string{"a", "c"}}, from, to...)),
		one("terminating", with(func(all []catalog.Endpoint) { all[0].Ready, all[0].Terminating = false, true }),
			each(Probe{Want: []string{"b", "c"}}, from, to...)),
		one("all terminating", with(func(all []catalog.Endpoint) {
			for i := range all {
				all[i].Ready, all[i].Terminating = false, true
			}
			all[2].Serving = false
		}), each(Probe{Want: []string{"a", "b"}}, from, to...)),
		one("published though not ready", with(func(all []catalog.Endpoint) { all[1].Serving, all[1].Terminating = false, true }),
			each(Probe{Want: []string{"a", "b", "c"}}, from, to...)),
		one("hinted zones", with(func(all []catalog.Endpoint) {
			for i := range all {
				all[i].ForZones = []string{all[i].Zone}
			}
		}), each(Probe{Want: []string{"a", "b"}}, from, to...)),
		one("hinted nodes", with(func(all []catalog.Endpoint) {
			for i := range all {
				all[i].ForNodes, all[i].ForZones = []string{all[i].Node}, []string{"zone-2"}
			}
		}), each(Probe{Want: []string{"a", "b"}}, from, to...)),
	}
}

// own are listeners of the node, which a data plane leaves alone whatever it is offered. What else has their ports, or
// their addresses, is served.
func (s scene) own() []Scenario {
	everybody := []string{"node", "a", "c", "client"}
	nameServer := nameServers()[0]
	if s.ipv6 {
		nameServer = nameServers()[1]
	}
	taking := func(names ...string) *catalog.Service {
		svc := s.service(names...)
		svc.ClusterIPs = []netip.Addr{s.clusterIP, nameServer}
		svc.ExternalIPs = []netip.Addr{s.external, s.host("node")}
		svc.Ports[0].Port, svc.Ports[0].NodePort = ownPort, 0
		second := svc.Ports[0]
		second.Name, second.Port = "dns", ownPort+1
		svc.Ports = append(svc.Ports, second)
		return svc
	}
	ranged := taking("a")
	ranged.ExternalIPs, ranged.LoadBalancerIPs = nil, []netip.Addr{s.balancer, s.host("node")}
	ranged.SourceRanges = []netip.Prefix{netip.PrefixFrom(s.host("b"), s.host("b").BitLen())}
	local := taking("c")
	local.ExternalLocal, local.InternalLocal = true, true
	nodePort := s.service("a")
	nodePort.Ports[0].NodePort = ownPort
	safe := append(each(Probe{Want: []string{"node"}, As: "self"}, everybody, s.to(s.host("node"), ownPort)),
		each(Probe{Want: []string{"node"}}, everybody, s.to(nameServer, ownPort+1))...)
	return []Scenario{
		one("own listeners", taking("a"), safe,
			each(Probe{Want: []string{"a"}}, []string{"node", "c", "client"},
				s.to(s.external, ownPort), s.to(s.external, ownPort+1), s.to(s.host("node"), ownPort+1), s.to(s.clusterIP, ownPort))),
		one("own listeners, nobody there", taking(), safe, each(Probe{Refused: true}, everybody, s.to(s.external, ownPort))),
		one("own listeners, source ranges", ranged, safe, each(Probe{Dropped: true}, []string{"client"}, s.to(s.balancer, ownPort))),
		one("own listeners, nobody local", local, safe),
		one("own listeners, node port", nodePort, each(Probe{Want: []string{"node"}, As: "self"}, everybody, s.to(s.host("node"), ownPort)),
			each(Probe{Want: []string{"a"}}, []string{"node", "c", "client"}, s.cluster())),
	}
}
