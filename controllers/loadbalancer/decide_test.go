package loadbalancer

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/listeners"
)

type change func(*corev1.Service)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// service is a LoadBalancer Service on 80/TCP, age seconds old at a fixed moment.
func service(name string, age int, changes ...change) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(name),
			CreationTimestamp: metav1.NewTime(epoch.Add(-time.Duration(age) * time.Second)),
		},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeLoadBalancer,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, change := range changes {
		change(svc)
	}
	return svc
}

func ports(ports ...int32) change {
	return func(svc *corev1.Service) {
		svc.Spec.Ports = nil
		for _, p := range ports {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: p, Protocol: corev1.ProtocolTCP})
		}
	}
}

func udp(svc *corev1.Service) { svc.Spec.Ports[0].Protocol = corev1.ProtocolUDP }

func nodePort(p int32) change { return func(svc *corev1.Service) { svc.Spec.Ports[0].NodePort = p } }

func typed(t corev1.ServiceType) change { return func(svc *corev1.Service) { svc.Spec.Type = t } }

func class(c string) change { return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &c } }

func external(ip string) change {
	return func(svc *corev1.Service) { svc.Spec.ExternalIPs = []string{ip} }
}

func asking(ip string) change { return func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = ip } }

func dual(svc *corev1.Service) {
	svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
}

func sixOnly(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }

func having(ip string) change {
	return func(svc *corev1.Service) {
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
	}
}

func going(svc *corev1.Service) {
	now := metav1.NewTime(epoch)
	svc.DeletionTimestamp = &now
}

func TestDecide(t *testing.T) {
	own := func(at string) listeners.Set {
		return listeners.Set{{At: netip.MustParseAddrPort(at), Protocol: corev1.ProtocolTCP, Owner: "the ingress", Flag: "ingress-http"}}
	}
	ingress := own("0.0.0.0:80")
	for _, tc := range []struct {
		name      string
		addrs     []string // of the node; default 10.0.0.1
		reserved  listeners.Set
		listening map[string]string // "10.0.0.1 80/TCP" -> process
		others    []*corev1.Service
		svc       *corev1.Service
		want      []string
		trouble   string
	}{
		{name: "alone", svc: service("a", 1), want: []string{"10.0.0.1"}},
		{name: "its class is ours", svc: service("a", 1, class(Class)), want: []string{"10.0.0.1"}},
		{name: "an older one has the port", svc: service("a", 1), others: []*corev1.Service{service("b", 2)},
			trouble: "port 80/TCP of 10.0.0.1 is taken by the load balancer of Service default/b: use another port, or delete or change that Service"},
		{name: "a younger one has it", svc: service("a", 2), others: []*corev1.Service{service("b", 1, having("10.0.0.1"))}, want: []string{"10.0.0.1"}},
		{name: "the same second: by name", svc: service("a", 1), others: []*corev1.Service{service("b", 1)}, want: []string{"10.0.0.1"}},
		{name: "the same second: who has it keeps it", svc: service("a", 1), others: []*corev1.Service{service("b", 1, having("10.0.0.1"))},
			trouble: "port 80/TCP of 10.0.0.1 is taken by the load balancer of Service default/b: use another port, or delete or change that Service"},
		{name: "the older one is going", svc: service("a", 1), others: []*corev1.Service{service("b", 2, going)}, want: []string{"10.0.0.1"}},
		{name: "the older one is of another class", svc: service("a", 1), others: []*corev1.Service{service("b", 2, class("example.com/x"))}, want: []string{"10.0.0.1"}},
		{name: "the older one has another protocol", svc: service("a", 1), others: []*corev1.Service{service("b", 2, udp)}, want: []string{"10.0.0.1"}},
		{name: "the older one has another address", addrs: []string{"10.0.0.1", "10.0.0.2"}, svc: service("a", 1), others: []*corev1.Service{service("b", 2, asking("10.0.0.2"))}, want: []string{"10.0.0.1"}},
		{name: "there is a second address", addrs: []string{"10.0.0.1", "10.0.0.2"}, svc: service("a", 1), others: []*corev1.Service{service("b", 2)}, want: []string{"10.0.0.2"}},
		{name: "the older one gets nothing itself", svc: service("a", 1), others: []*corev1.Service{service("b", 2, ports(80, 443)), service("c", 3, ports(443))}, want: []string{"10.0.0.1"}},
		{name: "one of two ports", svc: service("a", 1, ports(8080, 443)), others: []*corev1.Service{service("c", 3, ports(443))},
			trouble: "port 443/TCP of 10.0.0.1 is taken by the load balancer of Service default/c: use another port, or delete or change that Service"},
		{name: "reserved", svc: service("a", 1), reserved: ingress, trouble: "port 80/TCP of 10.0.0.1 belongs to the ingress (--ingress-http 0.0.0.0:80): use another port, or move that one"},
		{name: "reserved for another protocol", svc: service("a", 1, udp), reserved: ingress, want: []string{"10.0.0.1"}},
		{name: "reserved on another address", svc: service("a", 1), reserved: own("127.0.0.1:80"), want: []string{"10.0.0.1"}},
		{name: "a node port of another, however young", svc: service("a", 9, ports(30080)), others: []*corev1.Service{service("b", 1, typed(corev1.ServiceTypeNodePort), nodePort(30080))},
			trouble: "port 30080/TCP of 10.0.0.1 is taken by the node port of Service default/b: use another port, or delete or change that Service"},
		{name: "its own node port", svc: service("a", 9, ports(30080), nodePort(30080)), want: []string{"10.0.0.1"}},
		{name: "an external address of a younger one", svc: service("a", 9), others: []*corev1.Service{service("b", 1, typed(corev1.ServiceTypeClusterIP), external("10.0.0.1"))},
			want: []string{"10.0.0.1"}},
		{name: "an external address of an older one", svc: service("a", 1), others: []*corev1.Service{service("b", 9, typed(corev1.ServiceTypeClusterIP), external("10.0.0.1"))},
			trouble: "port 80/TCP of 10.0.0.1 is taken by the external address of Service default/b: use another port, or delete or change that Service"},
		{name: "a cluster port is no rival", svc: service("a", 1), others: []*corev1.Service{service("b", 2, typed(corev1.ServiceTypeClusterIP))}, want: []string{"10.0.0.1"}},
		{name: "a process listens", svc: service("a", 1), listening: map[string]string{"10.0.0.1 80/TCP": "process nginx (pid 7)"},
			trouble: "port 80/TCP of 10.0.0.1 is taken by process nginx (pid 7): use another port, or stop it"},
		{name: "a process listens since it was given", svc: service("a", 1, having("10.0.0.1")), listening: map[string]string{"10.0.0.1 80/TCP": "process nginx (pid 7)"}, want: []string{"10.0.0.1"}},
		{name: "it asks for an address of the node", addrs: []string{"10.0.0.1", "10.0.0.2"}, svc: service("a", 1, asking("10.0.0.2")), want: []string{"10.0.0.2"}},
		{name: "it asks for a foreign one", svc: service("a", 1, asking("192.0.2.1")), trouble: "spec.loadBalancerIP 192.0.2.1 is not an IPv4 address of the node: remove it, or use one of 10.0.0.1"},
		{name: "both families", addrs: []string{"10.0.0.1", "fd00::1"}, svc: service("a", 1, dual), want: []string{"10.0.0.1", "fd00::1"}},
		{name: "one family of two", addrs: []string{"10.0.0.1"}, svc: service("a", 1, dual), want: []string{"10.0.0.1"}, trouble: "the node has no IPv6 address: remove it from spec.ipFamilies, or give the node one with --node-ip"},
		{name: "IPv6 only", addrs: []string{"10.0.0.1", "fd00::1"}, svc: service("a", 1, sixOnly), want: []string{"fd00::1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.addrs == nil {
				tc.addrs = []string{"10.0.0.1"}
			}
			all := append([]*corev1.Service{tc.svc}, tc.others...)
			// whatever order the index has them in
			for range 2 {
				slices.Reverse(all)
				got := Decide(tc.svc, world(tc.addrs, tc.reserved, tc.listening, all))
				if !slices.Equal(got.Addrs, parse(tc.want)) || got.Trouble != tc.trouble {
					t.Errorf("Decide = %v, %q; want %v, %q", got.Addrs, got.Trouble, tc.want, tc.trouble)
				}
				if byProcess := len(tc.listening) > 0 && tc.trouble != ""; got.Listening != byProcess {
					t.Errorf("Listening = %v, want %v", got.Listening, byProcess)
				}
			}
		})
	}
}

func world(addrs []string, reserved listeners.Set, listening map[string]string, all []*corev1.Service) Node {
	return Node{
		Addrs: parse(addrs), Own: reserved,
		Rivals: func(port PortKey) (found []*corev1.Service) {
			for _, svc := range all {
				if slices.Contains(PortsOf(svc), port) {
					found = append(found, svc)
				}
			}
			return found
		},
		Listener: func(a netip.Addr, p PortKey) string { return listening[a.String()+" "+p.String()] },
		Holds: func(svc *corev1.Service, a netip.Addr, _ PortKey) bool {
			return slices.Contains(statusAddrs(svc, nil), a)
		},
	}
}

func parse(texts []string) []netip.Addr {
	var addrs []netip.Addr
	for _, t := range texts {
		addrs = append(addrs, netip.MustParseAddr(t))
	}
	return addrs
}

// However the ports overlap, no port of an address is ever given twice, and the oldest gets what it wants.
func TestDecideGivesEachPortOnce(t *testing.T) {
	var all []*corev1.Service
	for i := range 60 {
		all = append(all, service(string(rune('A'+i)), 60-i/2, ports(int32(80+i%7), int32(80+i*3%11+7))))
	}
	node := world([]string{"10.0.0.1", "10.0.0.2"}, nil, nil, all)
	owner := map[string]string{}
	for i, svc := range all {
		made := Decide(svc, node)
		if i == 0 && len(made.Addrs) == 0 {
			t.Errorf("the oldest got nothing: %s", made.Trouble)
		}
		if (len(made.Addrs) == 0) == (made.Trouble == "") {
			t.Errorf("%s: %v and %q", svc.Name, made.Addrs, made.Trouble)
		}
		for _, a := range made.Addrs {
			for _, p := range servicePorts(svc) {
				k := a.String() + " " + p.String()
				if owner[k] != "" {
					t.Errorf("%s was given to %s and to %s", k, owner[k], svc.Name)
				}
				owner[k] = svc.Name
			}
		}
	}
}
