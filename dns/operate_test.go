package dns

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcplane/metrics/metricstest"
)

// sample finds a metric's value by name and all of its labels; of a histogram the count.
func (f *fixture) sample(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	return metricstest.Gather(t, f.Server).Value(t, "svcplane_dns_"+name, labels...)
}

func TestMetrics(t *testing.T) {
	u := serveUpstream(t, 171, answering("www.example.com. 60 IN A 192.0.2.1"))
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{u.addr}}, cluster()...)
	f.start()
	f.run(t)
	ask := func(network, name string, typ uint16) {
		q := new(dns.Msg)
		q.SetQuestion(name, typ)
		if _, _, err := (&dns.Client{Net: network, Timeout: time.Minute}).Exchange(q, "10.96.0.10:53"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		ask("udp", "web.default.svc.cluster.local.", dns.TypeA)
		ask("udp", www, dns.TypeA)
	}
	ask("tcp", "absent.default.svc.cluster.local.", dns.TypeSRV)
	ask("tcp", "1.0.96.10.in-addr.arpa.", dns.TypePTR)
	ask("udp", "web.default.svc.cluster.local.", dns.TypeHINFO)
	const zone = "zone=cluster.local."
	for _, tt := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{3, "responses_total", []string{zone, "proto=udp", "type=A", "rcode=NOERROR"}},
		{1, "responses_total", []string{zone, "proto=udp", "type=other", "rcode=NOERROR"}},
		{1, "responses_total", []string{zone, "proto=tcp", "type=SRV", "rcode=NXDOMAIN"}},
		{1, "responses_total", []string{"zone=arpa.", "proto=tcp", "type=PTR", "rcode=NOERROR"}},
		{3, "responses_total", []string{"zone=.", "proto=udp", "type=A", "rcode=NOERROR"}},
		{8, "response_duration_seconds", []string{"from=memory"}},
		{1, "response_duration_seconds", []string{"from=waiting"}},
		{2, "cache_hits_total", []string{"type=success"}},
		{1, "cache_misses_total", nil},
		{1, "cache_entries", nil},
		{1, "upstream_healthy", []string{"to=127.0.0.171:53", "domain=."}},
	} {
		have := 0.0
		for deadline := time.Now().Add(time.Minute); have != tt.want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			have = f.sample(t, tt.name, tt.labels...)
		}
		if have != tt.want {
			t.Errorf("%s%q is %v, expected %v", tt.name, tt.labels, have, tt.want)
		}
	}
	checkCore(t, metricstest.Gather(t, f.Server))
	// its health may have been checked meanwhile, which counts too
	answers := f.sample(t, "upstream_responses_total", "to=127.0.0.171:53", "domain=.", "rcode=NOERROR")
	if took := f.sample(t, "upstream_duration_seconds", "to=127.0.0.171:53", "domain=."); answers < 1 || took < answers {
		t.Errorf("the upstream answered %v times, which took time %v times", answers, took)
	}
	if octets := f.sample(t, "cache_bytes"); octets <= 0 || octets > 1000 {
		t.Errorf("the cache takes %v octets", octets)
	}
}

// TestProgrammingLatency is measured from the trigger time of the endpoints, for changes after the first sync, once each.
func TestProgrammingLatency(t *testing.T) {
	old := slice("pets", host("cat", true, "10.244.0.1"))
	old.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Add(-time.Hour).Format(time.RFC3339Nano)}
	svc := headless("pets")
	svc.Spec.Selector = map[string]string{"app": "pets"}
	f := synced(t, Config{}, svc, old)
	kind := "service_kind=headless_with_selector"
	if n := f.sample(t, "programming_duration_seconds", kind); n != 0 {
		t.Errorf("%v observations of what was there before", n)
	}
	now := slice("pets", host("cat", true, "10.244.0.1"), host("dog", true, "10.244.0.2"))
	now.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)}
	if _, err := f.client.DiscoveryV1().EndpointSlices("default").Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the new endpoint", func() bool { return len(f.ask(t, "pets.default.svc.cluster.local.", dns.TypeA).Answer) == 2 })
	wait(t, "one observation", func() bool { return f.sample(t, "programming_duration_seconds", kind) == 1 })
	f.programming.mu.Lock()
	if sum := f.programming.kinds["headless_with_selector"].sum; sum > time.Minute {
		t.Errorf("it took %s", sum)
	}
	f.programming.mu.Unlock()
	svc = svc.DeepCopy()
	svc.Labels = map[string]string{"touched": "yes"}
	if _, err := f.client.CoreV1().Services("default").Update(t.Context(), svc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := f.catalog.Drained(ctx, netip.MustParseAddr("10.244.9.9")); err != nil {
		t.Fatal(err)
	}
	if n := f.sample(t, "programming_duration_seconds", kind); n != 1 {
		t.Errorf("%v observations of one change", n)
	}
}

func TestHealthAndReady(t *testing.T) {
	needNetns(t)
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{}, HTTP: netip.MustParseAddrPort("127.0.0.1:8080")}, clusterIP("web", "10.96.0.1"))
	code := func(path string) int {
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	if h, r := code("/health"), code("/ready"); h != 503 || r != 503 {
		t.Errorf("before Run: /health %d, /ready %d", h, r)
	}
	f.start()
	stop := f.run(t)
	for _, path := range []string{"/health", "/ready"} {
		resp, err := http.Get("http://127.0.0.1:8080" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if h := code("/health"); h != 503 {
		t.Errorf("after Run: /health %d", h)
	}
}

// TestExplain: each answer comes with its reasons.
func TestExplain(t *testing.T) {
	u := serveUpstream(t, 172, answering("www.example.com. 60 IN A 192.0.2.1"))
	cfg := specConfig()
	cfg.Pods = podsOf(t, searchingPod("default", "10.244.0.9"))
	cfg.Stubs = map[string][]netip.AddrPort{"corp.example": {u.addr}}
	cfg.Clients = []netip.Prefix{}
	f := synced(t, cfg, cluster()...)
	f.forward.use([]netip.AddrPort{u.addr})
	for _, tt := range []struct {
		name, typ, from, rcode string
		why                    []string
	}{
		{"web.default.svc.cluster.local", "A", "10.244.0.9", "NOERROR", []string{"zone cluster.local.", "service default/web has here: 1 A"}},
		{"web.default.svc.cluster.local", "AAAA", "10.244.0.9", "NOERROR", []string{"NODATA"}},
		{"nobody.default.svc.cluster.local", "A", "", "NXDOMAIN", []string{"headless without a ready endpoint", "left to the resolver"}},
		{"_x._tcp.web.default.svc.cluster.local", "SRV", "10.244.0.9", "NXDOMAIN", []string{"no port, endpoint or host of that name"}},
		{"_tcp.web.default.svc.cluster.local", "SRV", "10.244.0.9", "NOERROR", []string{"only a step"}},
		{"db.default.svc.cluster.local", "CNAME", "10.244.0.9", "NOERROR", []string{"ExternalName", "db.example.com."}},
		{"www.example.com.default.svc.cluster.local", "A", "10.244.0.9", "NOERROR", []string{"walk along the search path", "www.example.com.", "127.0.0.172:53"}},
		{"www.example.com", "a", "10.244.0.9", "NOERROR", []string{"not a name of the cluster", "the cache has the answer"}},
		{"other.example.com", "a", "10.244.0.9", "NOERROR", []string{"not in the cache", "upstream 127.0.0.172:53 answers in"}},
		{"x.corp.example", "a", "", "NOERROR", []string{"--dns-stub corp.example"}},
		{"www.example.com", "A", "192.0.2.66", "REFUSED", []string{"neither on this node nor in --dns-allow"}},
		{"1.0.96.10.in-addr.arpa", "PTR", "", "NOERROR", []string{"reverse name"}},
		{"cluster.local", "AXFR", "", "REFUSED", []string{"--dns-axfr"}},
	} {
		from, _ := netip.ParseAddr(tt.from)
		e, err := f.Explain(t.Context(), tt.name, tt.typ, from)
		if err != nil {
			t.Fatal(err)
		}
		why := strings.Join(e.Why, "; ")
		if e.Rcode != tt.rcode || e.Exists() != (tt.rcode == "NOERROR") {
			t.Errorf("%s %s: %s", tt.name, tt.typ, e.Rcode)
		}
		for _, part := range tt.why {
			if !strings.Contains(why, part) {
				t.Errorf("%s %s: %q lacks %q", tt.name, tt.typ, why, part)
			}
		}
	}
	if _, err := f.Explain(t.Context(), "web", "NONSENSE", netip.Addr{}); err == nil || !strings.Contains(err.Error(), "NONSENSE") {
		t.Errorf("an unknown type: %v", err)
	}
}

// TestTransfer: those who may have the zone get all of it over TCP, others are refused.
func TestTransfer(t *testing.T) {
	needNetns(t)
	cfg := Config{Upstreams: []netip.AddrPort{}, Transfer: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
	f := newFixture(t, cfg, append(cluster(), crowd(150)...)...)
	f.start()
	f.run(t)
	transfer := func(from string, zone string) ([]dns.RR, error) {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", "10.96.0.10:53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		q := new(dns.Msg)
		q.SetAxfr(zone)
		tr := &dns.Transfer{Conn: &dns.Conn{Conn: conn}}
		parts, err := tr.In(q, "")
		if err != nil {
			return nil, err
		}
		var all []dns.RR
		for part := range parts {
			if part.Error != nil {
				return nil, part.Error
			}
			all = append(all, part.RR...)
		}
		return all, nil
	}
	if all, err := transfer("127.0.0.3", "cluster.local."); err == nil {
		t.Errorf("a stranger got %d records", len(all))
	}
	if all, err := transfer("127.0.0.2", "default.svc.cluster.local."); err == nil {
		t.Errorf("what is no zone gave %d records", len(all))
	}
	all, err := transfer("127.0.0.2", "cluster.local.")
	if err != nil {
		t.Fatal(err)
	}
	first, last := all[0].Header().Rrtype, all[len(all)-1].Header().Rrtype
	if first != dns.TypeSOA || last != dns.TypeSOA {
		t.Errorf("it begins with %d and ends with %d", first, last)
	}
	got := texts(all)
	for _, tt := range specification {
		if tt.section == "2.6" || tt.section == "2.1 (case)" || tt.typ == dns.TypePTR || strings.HasPrefix(tt.section, "2.5 (") {
			continue // not in the zone, or not so
		}
		for _, record := range tt.answer {
			if !slices.Contains(got, record) {
				t.Errorf("%s is missing", record)
			}
		}
	}
	members := 0
	for _, rr := range all {
		if rr.Header().Name == "crowd.default.svc.cluster.local." && rr.Header().Rrtype == dns.TypeA {
			members++
		}
	}
	if members != 150 {
		t.Errorf("%d of 150 addresses", members)
	}
}

// TestRepliesAreLimited: whoever asks in a victim's name makes us send it little; by TCP nobody can.
func TestRepliesAreLimited(t *testing.T) {
	cfg := specConfig()
	cfg.Clients, cfg.ReplyLimit = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, 4096
	f := synced(t, cfg, append(cluster(), crowd(100)...)...)
	now := time.Now()
	f.forward.now = func() time.Time { return now }
	query := new(dns.Msg)
	query.SetQuestion("crowd.default.svc.cluster.local.", dns.TypeA)
	query.SetEdns0(1232, false)
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	sent := func(from string, n int) (octets, records int) {
		w := &scratch{from: netip.MustParseAddr(from)}
		for range n {
			reply, _ := f.respond(nil, wire, w, false)
			octets += len(reply)
			m := new(dns.Msg)
			if err := m.Unpack(reply); err != nil {
				t.Fatal(err)
			}
			if records += len(m.Answer); len(m.Answer) == 0 && !m.Truncated && m.Rcode == dns.RcodeSuccess {
				t.Fatalf("neither an answer nor a reason to come by TCP: %v", m)
			}
		}
		return octets, records
	}
	if octets, records := sent("192.0.2.7", 100); octets > 4096+100*len(wire) || records == 0 {
		t.Errorf("%d octets, %d records", octets, records)
	}
	if _, records := sent("192.0.2.8", 10); records > 0 {
		t.Errorf("%d records for a neighbour of the same network", records)
	}
	if octets, _ := sent("203.0.113.1", 100); octets > 100*len(wire) {
		t.Errorf("%d octets for a stranger who sent %d", octets, 100*len(wire))
	}
	if octets, _ := sent("10.244.0.9", 100); octets < 100*1000 {
		t.Errorf("%d octets for a pod, which nobody can speak for", octets)
	}
	now = now.Add(time.Second)
	if _, records := sent("192.0.2.7", 1); records == 0 {
		t.Error("nothing a second later")
	}
	if f.limiter.limited.Load() == 0 {
		t.Error("it was not counted")
	}
}

// TestQuestionsAreLogged, one of so many.
func TestQuestionsAreLogged(t *testing.T) {
	f := synced(t, Config{LogEvery: 10}, cluster()...)
	w := new(scratch)
	m := new(dns.Msg)
	m.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		reply, _ := f.respond(nil, wire, w, false)
		f.record(f.slow, w, reply, false, time.Now())
	}
	if n := f.logged.Load(); n != 10 {
		t.Errorf("%d of 100 were logged", n)
	}
}

// TestUpstreamsAreChecked: one that failed is not asked by a question again until it was tried and works; the faster
// one is asked.
func TestUpstreamsAreChecked(t *testing.T) {
	var down, slow = make(chan struct{}), answering("www.example.com. 0 IN A 192.0.2.2")
	first := serveUpstream(t, 173, func(w dns.ResponseWriter, q *dns.Msg) {
		select {
		case <-down:
			answering("www.example.com. 0 IN A 192.0.2.1")(w, q)
		default:
		}
	})
	second := serveUpstream(t, 174, func(w dns.ResponseWriter, q *dns.Msg) {
		time.Sleep(20 * time.Millisecond)
		slow(w, q)
	})
	f, clock := forwarding(t, first.addr, second.addr)
	f.forward.now = clock.running // which of them is faster has to be seen
	answer := func() string {
		m := f.ask(t, www, dns.TypeA)
		if len(m.Answer) != 1 {
			t.Fatalf("%v", m)
		}
		return m.Answer[0].(*dns.A).A.String()
	}
	if got := answer(); got != "192.0.2.2" {
		t.Fatalf("the silent one said %s", got)
	}
	for range 5 {
		asked, start := first.udp.Load(), time.Now()
		if got := answer(); got != "192.0.2.2" {
			t.Fatalf("the silent one said %s", got)
		}
		if took := time.Since(start); first.udp.Load() != asked && took < failover { // a slow one gets company
			t.Errorf("the silent one was asked again, within %s", took)
		}
	}
	close(down)
	wait(t, "the recovered, faster one to be asked", func() bool {
		clock.advance(recheck)
		f.forward.probe(t.Context())
		f.forward.workers.Wait()
		return answer() == "192.0.2.1"
	})
}
