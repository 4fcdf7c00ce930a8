package dns

import (
	"slices"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// TestVerifiedPodNames: specification section 2.6, for pods that exist only.
func TestVerifiedPodNames(t *testing.T) {
	pod := func(name string, phase corev1.PodPhase, ips ...string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Status: corev1.PodStatus{Phase: phase}}
		for _, ip := range ips {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
		}
		return p
	}
	factory := informers.NewSharedInformerFactory(fake.NewClientset(
		pod("runs", corev1.PodRunning, "10.244.0.1", "fd00:244::1"), pod("ended", corev1.PodSucceeded, "10.244.0.2"),
	), 0)
	index, err := NewPodIndex(factory.Core().V1().Pods().Informer(), factory.Core().V1().Namespaces().Informer())
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	f := synced(t, Config{Pods: index}, clusterIP("web", "10.96.0.1"))
	for _, tt := range []struct {
		name   string
		typ    uint16
		rcode  int
		answer string
	}{
		{"10-244-0-1.default.pod.cluster.local.", dns.TypeA, dns.RcodeSuccess, "10-244-0-1.default.pod.cluster.local. 5 IN A 10.244.0.1"},
		{"10-244-0-1.default.pod.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"fd00-244--1.default.pod.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, "fd00-244--1.default.pod.cluster.local. 5 IN AAAA fd00:244::1"},
		{"10-244-0-2.default.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"10-244-0-1.other.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"x.10-244-0-1.default.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"default.pod.cluster.local.", dns.TypeA, dns.RcodeSuccess, ""},
		{"other.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		m := f.ask(t, tt.name, tt.typ)
		var want []string
		if tt.answer != "" {
			want = []string{tt.answer}
		}
		if got := texts(m.Answer); m.Rcode != tt.rcode || !slices.Equal(got, want) {
			t.Errorf("%s: %s %q", tt.name, dns.RcodeToString[m.Rcode], got)
		}
		checkNegative(t, m)
	}
}

// TestAliasDomains: every name is there under each domain, addresses map to the first.
func TestAliasDomains(t *testing.T) {
	f := synced(t, Config{Domain: "Corp.Example", Aliases: []string{"cluster.local"}}, cluster()...)
	for question, answer := range map[string]string{
		"web.default.svc.corp.example.":  "web.default.svc.corp.example. 5 IN A 10.96.0.1",
		"web.default.svc.cluster.local.": "web.default.svc.cluster.local. 5 IN A 10.96.0.1",
	} {
		if got := texts(f.ask(t, question, dns.TypeA).Answer); !slices.Equal(got, []string{answer}) {
			t.Errorf("%s: %q", question, got)
		}
	}
	if got := texts(f.ask(t, "1.0.96.10.in-addr.arpa.", dns.TypePTR).Answer); !slices.Equal(got, []string{"1.0.96.10.in-addr.arpa. 5 IN PTR web.default.svc.corp.example."}) {
		t.Errorf("reverse: %q", got)
	}
}
