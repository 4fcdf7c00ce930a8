package dns

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

func ingressFor(name string, status []string, hosts ...string) *networkingv1.Ingress {
	in := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	for _, h := range hosts {
		in.Spec.Rules = append(in.Spec.Rules, networkingv1.IngressRule{Host: h})
	}
	for _, ip := range status {
		in.Status.LoadBalancer.Ingress = append(in.Status.LoadBalancer.Ingress, networkingv1.IngressLoadBalancerIngress{IP: ip})
	}
	return in
}

func loadBalancer(name string, ips ...string) *corev1.Service {
	svc := clusterIP(name, "10.96.0.50")
	svc.Spec.Type, svc.Spec.ExternalIPs = corev1.ServiceTypeLoadBalancer, []string{"198.51.100.7"}
	for _, ip := range ips {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return svc
}

// TestLANNames: what a machine of the LAN may ask the node for, and what not.
func TestLANNames(t *testing.T) {
	client := fake.NewClientset(
		ingressFor("shop", nil, "shop.lab.example", "Shop.Other.Example", ""),
		ingressFor("status", []string{"192.0.2.9", "2001:db8::9"}, "status.lab.example", "*.apps.lab.example"),
		ingressFor("more", []string{"192.0.2.10"}, "shop.lab.example"),
	)
	factory := informers.NewSharedInformerFactory(client, 0)
	ingresses := factory.Networking().V1().Ingresses().Informer()
	f := newFixture(t, Config{
		LANDomain: "lab.example", NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ingresses: ingresses,
		Clients: []netip.Prefix{}, Networks: specConfig().Networks,
	}, append(cluster(), loadBalancer("lb", "192.0.2.20"))...)
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	f.start()
	done := make(chan struct{})
	go func() { defer close(done); _ = f.follow(t.Context()) }()
	t.Cleanup(func() { <-done })
	const lan = "192.0.2.77"
	wait(t, "the zone", func() bool {
		return f.isSynced.Load() && len(f.askFrom(t, lan, "shop.lab.example.", dns.TypeA).Answer) == 2
	})

	for _, tt := range []struct {
		name   string
		typ    uint16
		rcode  int
		answer []string
	}{
		{"lb.default.lab.example.", dns.TypeA, dns.RcodeSuccess, []string{"lb.default.lab.example. 5 IN A 192.0.2.20", "lb.default.lab.example. 5 IN A 198.51.100.7"}},
		{"lb.default.lab.example.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"web.default.lab.example.", dns.TypeA, dns.RcodeNameError, nil}, // a ClusterIP is of no use there
		{"default.lab.example.", dns.TypeA, dns.RcodeSuccess, nil},
		{"lab.example.", dns.TypeSOA, dns.RcodeSuccess, nil},
		{"SHOP.lab.example.", dns.TypeA, dns.RcodeSuccess, []string{"SHOP.lab.example. 5 IN A 192.0.2.1", "SHOP.lab.example. 5 IN A 192.0.2.10"}},
		{"shop.other.example.", dns.TypeA, dns.RcodeSuccess, []string{"shop.other.example. 5 IN A 192.0.2.1"}},
		{"shop.other.example.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"shop.other.example.", dns.TypeMX, dns.RcodeRefused, nil}, // its domain's business, and not for strangers
		{"other.example.", dns.TypeA, dns.RcodeRefused, nil},
		{"status.lab.example.", dns.TypeAAAA, dns.RcodeSuccess, []string{"status.lab.example. 5 IN AAAA 2001:db8::9"}},
		{"any.apps.lab.example.", dns.TypeA, dns.RcodeSuccess, []string{"any.apps.lab.example. 5 IN A 192.0.2.9"}},
		{"deep.any.apps.lab.example.", dns.TypeA, dns.RcodeNameError, nil},
		{"absent.lab.example.", dns.TypeA, dns.RcodeNameError, nil},
		{"web.default.svc.cluster.local.", dns.TypeA, dns.RcodeRefused, nil},
		{"1.0.96.10.in-addr.arpa.", dns.TypePTR, dns.RcodeRefused, nil},
		{"example.org.", dns.TypeA, dns.RcodeRefused, nil},
	} {
		m := f.askFrom(t, lan, tt.name, tt.typ)
		got := texts(m.Answer)
		if tt.typ == dns.TypeSOA && len(got) == 1 {
			got = nil
		}
		if m.Rcode != tt.rcode || !slices.Equal(got, tt.answer) {
			t.Errorf("%s %s: %s %q", tt.name, dns.TypeToString[tt.typ], dns.RcodeToString[m.Rcode], got)
		}
		if m.Rcode == dns.RcodeNameError {
			checkNegative(t, m)
		}
	}
	if m := f.askFrom(t, "10.244.0.9", "lb.default.lab.example.", dns.TypeA); len(m.Answer) != 2 {
		t.Errorf("from a pod: %v", m)
	}

	// what goes is gone, and what shares the name stays
	if err := client.NetworkingV1().Ingresses("default").Delete(t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the Ingress to go", func() bool { return f.askFrom(t, lan, "shop.other.example.", dns.TypeA).Rcode == dns.RcodeRefused })
	if m := f.askFrom(t, lan, "shop.lab.example.", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("the other Ingress' host: %v", m)
	}
	if err := f.client.CoreV1().Services("default").Delete(t.Context(), "lb", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the Service to go", func() bool { return f.askFrom(t, lan, "default.lab.example.", dns.TypeA).Rcode == dns.RcodeNameError })
}

// TestLANDomainMustBeApart from the cluster's.
func TestLANDomainMustBeApart(t *testing.T) {
	f := newFixture(t, Config{})
	for _, domain := range []string{"cluster.local", "local", "lan.cluster.local"} {
		if _, err := New(Config{Catalog: f.catalog, Addrs: f.cfg.Addrs, LANDomain: domain}); err == nil {
			t.Errorf("%s was taken", domain)
		}
	}
}
