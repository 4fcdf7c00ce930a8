package dns

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// podsOf makes a PodIndex over pods with an address each; namespace quiet opted out.
func podsOf(t *testing.T, pods ...*corev1.Pod) *PodIndex {
	t.Helper()
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "quiet", Annotations: map[string]string{AutopathAnnotation: "disabled"}}},
	)
	for _, p := range pods {
		if err := client.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	index, err := NewPodIndex(factory.Core().V1().Pods().Informer(), factory.Core().V1().Namespaces().Informer())
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	wait(t, "the pods", func() bool {
		index.mu.RLock()
		defer index.mu.RUnlock()
		return index.HasSynced() && len(index.searching) > 0
	})
	return index
}

func searchingPod(namespace, ip string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p-" + ip, UID: types.UID(ip)}}
	p.Spec.DNSPolicy = corev1.DNSClusterFirst
	p.Status.PodIPs = []corev1.PodIP{{IP: ip}}
	for _, e := range edit {
		e(p)
	}
	return p
}

// askFrom puts a question as from a pod, over UDP.
func (f *fixture) askFrom(t *testing.T, from, name string, typ uint16) *dns.Msg {
	t.Helper()
	query := new(dns.Msg)
	query.SetQuestion(name, typ)
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr(from)
	reply, later := f.respond(nil, wire, &scratch{from: addr}, false)
	if later {
		reply = f.wait(t.Context(), wire, addr, false)
	}
	m := new(dns.Msg)
	if err := m.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	if m.Question[0].Name != name {
		t.Errorf("asked for %s, echoed %s", name, m.Question[0].Name)
	}
	return m
}

func TestAutopath(t *testing.T) {
	u := serveUpstream(t, 151, func(w dns.ResponseWriter, q *dns.Msg) {
		switch {
		case q.Question[0].Name == "www.example.com." && q.Question[0].Qtype == dns.TypeA:
			_ = w.WriteMsg(reply(q, "www.example.com. 60 IN CNAME edge.example.net.", "edge.example.net. 60 IN A 192.0.2.1", "edge.example.net. 60 IN A 192.0.2.2"))
		case q.Question[0].Name == "www.example.com.":
			negative(dns.RcodeSuccess)(w, q)
		case q.Question[0].Name == "host.lab.example.":
			_ = w.WriteMsg(reply(q, "host.lab.example. 60 IN A 192.0.2.9"))
		case q.Question[0].Name == "broken.example.com.":
			m := reply(q)
			m.Rcode = dns.RcodeServerFailure
			_ = w.WriteMsg(m)
		default:
			negative(dns.RcodeNameError)(w, q)
		}
	})
	index := podsOf(t,
		searchingPod("default", "10.244.0.9"), searchingPod("quiet", "10.244.0.20"),
		searchingPod("default", "10.244.0.21", func(p *corev1.Pod) { p.Spec.DNSPolicy = corev1.DNSDefault }),
		searchingPod("default", "10.244.0.22", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		searchingPod("default", "10.244.0.23", func(p *corev1.Pod) { p.Spec.DNSConfig = &corev1.PodDNSConfig{Searches: []string{"corp"}} }),
	)
	other := clusterIP("api", "10.96.0.77")
	other.Namespace = "shop"
	f := synced(t, Config{Pods: index}, append(cluster(), other)...)
	f.forward.use([]netip.AddrPort{u.addr})
	f.forward.now = testNow // TTLs do not move
	f.setSuffixes([]string{"lab.example"})
	const pod, dom = "10.244.0.9", ".default.svc.cluster.local."
	for _, tt := range []struct {
		what, from, name string
		typ              uint16
		rcode            int
		answer           []string
	}{
		{"a Service of another namespace", pod, "API.shop" + dom, dns.TypeA, dns.RcodeSuccess, []string{
			"API.shop" + dom + " 0 IN CNAME api.shop.svc.cluster.local.", "api.shop.svc.cluster.local. 5 IN A 10.96.0.77",
		}},
		{"without the type: the walk ends at the same name", pod, "api.shop" + dom, dns.TypeAAAA, dns.RcodeSuccess, []string{
			"api.shop" + dom + " 0 IN CNAME api.shop.svc.cluster.local.",
		}},
		{"a name that gives svc", pod, "web.default.svc" + dom, dns.TypeA, dns.RcodeSuccess, []string{
			"web.default.svc" + dom + " 0 IN CNAME web.default.svc.cluster.local.", "web.default.svc.cluster.local. 5 IN A 10.96.0.1",
		}},
		{"an alias on the way", pod, "alias.default" + dom, dns.TypeAAAA, dns.RcodeSuccess, []string{
			"alias.default" + dom + " 0 IN CNAME alias.default.svc.cluster.local.",
			"alias.default.svc.cluster.local. 5 IN CNAME dual.default.svc.cluster.local.", "dual.default.svc.cluster.local. 5 IN AAAA fd00:96::2",
		}},
		{"the world, with an alias of its own", pod, "www.example.com" + dom, dns.TypeA, dns.RcodeSuccess, []string{
			"edge.example.net. 60 IN A 192.0.2.1", "edge.example.net. 60 IN A 192.0.2.2",
			"www.example.com" + dom + " 0 IN CNAME www.example.com.", "www.example.com. 60 IN CNAME edge.example.net.",
		}},
		{"the world, without the type", pod, "www.example.com" + dom, dns.TypeAAAA, dns.RcodeSuccess, []string{
			"www.example.com" + dom + " 0 IN CNAME www.example.com.",
		}},
		{"the node's search domain", pod, "host" + dom, dns.TypeA, dns.RcodeSuccess, []string{
			"host" + dom + " 0 IN CNAME host.lab.example.", "host.lab.example. 60 IN A 192.0.2.9",
		}},
		{"nowhere", pod, "absent.example.org" + dom, dns.TypeA, dns.RcodeNameError, nil},
		{"an upstream that fails", pod, "broken.example.com" + dom, dns.TypeA, dns.RcodeNameError, nil},
		{"another type", pod, "www.example.com" + dom, dns.TypeMX, dns.RcodeNameError, nil},
		{"the second name of the walk", pod, "www.example.com.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"the path of another namespace", pod, "www.example.com.shop.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"not a pod", "10.244.0.99", "www.example.com" + dom, dns.TypeA, dns.RcodeNameError, nil},
		{"a namespace that opted out", "10.244.0.20", "www.example.com.quiet.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"dnsPolicy Default", "10.244.0.21", "www.example.com" + dom, dns.TypeA, dns.RcodeNameError, nil},
		{"the node's network", "10.244.0.22", "www.example.com" + dom, dns.TypeA, dns.RcodeNameError, nil},
		{"searches of its own", "10.244.0.23", "www.example.com" + dom, dns.TypeA, dns.RcodeNameError, nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			slices.Sort(tt.answer)
			for _, how := range []string{"asked", "kept"} {
				m := f.askFrom(t, tt.from, tt.name, tt.typ)
				if got := texts(m.Answer); m.Rcode != tt.rcode || !slices.Equal(got, tt.answer) {
					t.Errorf("%s: %s %q", how, dns.RcodeToString[m.Rcode], got)
				}
				if m.Rcode == dns.RcodeNameError {
					checkNegative(t, m)
				}
			}
		})
	}
}

// TestAutopathOneTrip: the second question costs no upstream, does not allocate, and a Service that appears on the
// way is seen at once.
func TestAutopathOneTrip(t *testing.T) {
	u := serveUpstream(t, 152, answering("api.shop. 60 IN A 192.0.2.1"))
	f := synced(t, Config{Pods: podsOf(t, searchingPod("default", "10.244.0.9"))}, cluster()...)
	f.forward.use([]netip.AddrPort{u.addr})
	f.forward.now = testNow // TTLs do not move
	const name = "api.shop.default.svc.cluster.local."
	for range 3 {
		if m := f.askFrom(t, "10.244.0.9", name, dns.TypeA); len(m.Answer) != 2 || m.Answer[0].Header().Ttl != 0 {
			t.Fatalf("%v", m)
		}
	}
	if n := u.udp.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times", n)
	}
	query := new(dns.Msg)
	query.SetQuestion(name, dns.TypeA)
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	w, out := &scratch{from: netip.MustParseAddr("10.244.0.9")}, make([]byte, 0, maxReplyUDP)
	if n := testing.AllocsPerRun(100, func() { f.respond(out, wire, w, false) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	svc := clusterIP("api", "10.96.0.77")
	svc.Namespace = "shop"
	if _, err := f.client.CoreV1().Services("shop").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the Service to be found on the way", func() bool {
		m := f.askFrom(t, "10.244.0.9", name, dns.TypeA)
		return len(m.Answer) == 2 && m.Answer[1].(*dns.A).A.String() == "10.96.0.77"
	})
	if n := testing.AllocsPerRun(100, func() { f.respond(out, wire, w, false) }); n > 0 {
		t.Errorf("%v allocations for a Service", n)
	}
}

// TestPrefetch: an answer that is asked for often is fetched again before it ends; one that is not is left to end.
func TestPrefetch(t *testing.T) {
	var version atomic.Int64
	u := serveUpstream(t, 153, func(w dns.ResponseWriter, q *dns.Msg) {
		version.Add(1)
		_ = w.WriteMsg(reply(q, q.Question[0].Name+" 100 IN A 192.0.2.1"))
	})
	f, clock := forwarding(t, u.addr)
	done := make(chan struct{})
	go func() { defer close(done); _ = f.forward.run(t.Context()) }()
	t.Cleanup(func() { <-done })
	for range 5 {
		f.ask(t, www, dns.TypeA)
	}
	f.ask(t, "rare.example.com.", dns.TypeA)
	clock.advance(80 * time.Second)
	f.ask(t, www, dns.TypeA)
	if n := u.udp.Load(); n != 2 {
		t.Fatalf("asked %d times before the last tenth", n)
	}
	clock.advance(12 * time.Second)
	f.ask(t, www, dns.TypeA)
	f.ask(t, "rare.example.com.", dns.TypeA)
	wait(t, "the answer to be fetched again", func() bool { return u.udp.Load() == 3 })
	wait(t, "the new answer", func() bool { return f.ask(t, www, dns.TypeA).Answer[0].Header().Ttl > 90 })
}

// TestForwardedAnswersRotate, behind an alias too, and every record keeps its TTL.
func TestForwardedAnswersRotate(t *testing.T) {
	u := serveUpstream(t, 154, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Name == www {
			_ = w.WriteMsg(reply(q, "www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN A 192.0.2.2", "www.example.com. 60 IN A 192.0.2.3"))
			return
		}
		_ = w.WriteMsg(reply(q, "a.example.com. 30 IN CNAME b.example.org.", "b.example.org. 60 IN A 192.0.2.1", "b.example.org. 60 IN A 192.0.2.2"))
	})
	f, _ := forwarding(t, u.addr)
	f.forward.now = testNow
	for name, n := range map[string]int{www: 3, "a.example.com.": 2} {
		first, want := map[string]int{}, texts(f.ask(t, name, dns.TypeA).Answer)
		for range 200 {
			m := f.ask(t, name, dns.TypeA)
			if got := texts(m.Answer); !slices.Equal(got, want) {
				t.Fatalf("%s: %v, once it was %v", name, got, want)
			}
			first[m.Answer[len(m.Answer)-n].String()]++
		}
		if len(first) != n {
			t.Errorf("%s: %v came first", name, first)
		}
	}
}
