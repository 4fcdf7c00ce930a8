package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// TestLANNamesWaitForTheFirstSync: a machine of the LAN that asks early is not told that a name is absent, and one that
// may not ask does not wait.
func TestLANNamesWaitForTheFirstSync(t *testing.T) {
	f := newFixture(t, Config{
		LANDomain: "lab.example", NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Clients: []netip.Prefix{},
		Ingresses: informers.NewSharedInformerFactory(fake.NewClientset(), 0).Networking().V1().Ingresses().Informer(),
	}, loadBalancer("lb", "192.0.2.20"))
	f.holdFor = 20 * time.Millisecond
	const stranger = "192.0.2.77"
	for name, rcode := range map[string]int{"lb.default.lab.example.": dns.RcodeServerFailure, "lb.default.svc.cluster.local.": dns.RcodeRefused} {
		if m := f.askFrom(t, stranger, name, dns.TypeA); m.Rcode != rcode {
			t.Errorf("%s: %v", name, m)
		}
	}
}

// TestReverseNamesBelowAddresses: what is below an address of the cluster (service discovery asks for such names) is
// not there, and no upstream is asked; elsewhere they know.
func TestReverseNamesBelowAddresses(t *testing.T) {
	u := serveUpstream(t, 156, answering("x. 60 IN A 192.0.2.1"))
	f, _ := forwarding(t, u.addr)
	f.reverse = newReverse(specConfig().Networks, f.zones[0].domain, 5)
	for name, rcode := range map[string]int{
		"lb._dns-sd._udp.0.0.96.10.in-addr.arpa.": dns.RcodeNameError,
		"1.0.0.96.10.in-addr.arpa.":               dns.RcodeNameError,
		"256.0.96.10.in-addr.arpa.":               dns.RcodeNameError,
		"01.0.96.10.in-addr.arpa.":                dns.RcodeNameError,
		"x.96.10.in-addr.arpa.":                   dns.RcodeNameError,
		"0.96.10.in-addr.arpa.":                   dns.RcodeSuccess, // others are below it
	} {
		m := f.ask(t, name, dns.TypePTR)
		if m.Rcode != rcode || len(m.Answer) != 0 || len(m.Ns) != 1 || !strings.HasSuffix(name, "."+m.Ns[0].Header().Name) && name != m.Ns[0].Header().Name {
			t.Errorf("%s: %v", name, m)
		}
	}
	if n := u.udp.Load(); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
	f.ask(t, "lb._dns-sd._udp.0.2.0.192.in-addr.arpa.", dns.TypePTR)
	if u.udp.Load() != 1 {
		t.Error("the upstream was not asked for a name of elsewhere")
	}
}

// TestTTLsAreCut: a negative answer is good for what the SOA record says, also for those who ask us (RFC 2308 section 5),
// and a TTL with the highest bit is none (RFC 2181 section 8).
func TestTTLsAreCut(t *testing.T) {
	u := serveUpstream(t, 157, func(w dns.ResponseWriter, q *dns.Msg) {
		switch q.Question[0].Name {
		case "absent.example.com.":
			negative(dns.RcodeNameError)(w, q) // the record's own TTL is 3600, its minimum 60
		case "odd.example.com.":
			m := reply(q, "odd.example.com. 60 IN A 192.0.2.1")
			m.Answer[0].Header().Ttl = 1<<31 + 60
			_ = w.WriteMsg(m)
		default:
			answering(q.Question[0].Name+" 604800 IN A 192.0.2.1")(w, q)
		}
	})
	f, clock := forwarding(t, u.addr)
	ttl := func(name string) uint32 {
		m := f.ask(t, name, dns.TypeA)
		return slices.Concat(m.Answer, m.Ns)[0].Header().Ttl
	}
	f.ask(t, "absent.example.com.", dns.TypeA)
	clock.advance(50 * time.Second)
	if got := ttl("absent.example.com."); got == 0 || got > 10 {
		t.Errorf("50 s into a negative answer of 60 s its TTL is %d", got)
	}
	if got := ttl("odd.example.com."); got != 0 {
		t.Errorf("a TTL with the highest bit became %d", got)
	}
	if got := ttl("long.example.com."); got != uint32(maxPositiveTTL/time.Second) {
		t.Errorf("a week became %d s", got)
	}
}

// TestValidationIsPassedOn: who asks for it (AD, DO) learns that an upstream has validated the answer, others do not.
func TestValidationIsPassedOn(t *testing.T) {
	u := serveUpstream(t, 158, func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1")
		m.AuthenticatedData = q.AuthenticatedData || q.IsEdns0().Do()
		_ = w.WriteMsg(m)
	})
	f, _ := forwarding(t, u.addr)
	for i, ad := range []bool{true, false, true} {
		if m := f.ask(t, www, dns.TypeA, func(q *dns.Msg) { q.AuthenticatedData = ad }); m.AuthenticatedData != ad {
			t.Errorf("question %d with AD %t: %v", i, ad, m)
		}
	}
}

// TestOddNames: labels with dots, colons and the like in them are not what they look like.
func TestOddNames(t *testing.T) {
	f := synced(t, Config{}, cluster()...)
	for name, rcode := range map[string]int{
		`web\.default.svc.cluster.local.`:             dns.RcodeNameError,
		`web.default\.svc.cluster.local.`:             dns.RcodeNameError,
		`web.default.svc.cluster\.local.`:             dns.RcodeServerFailure, // not ours, and nobody else is there
		`\119eb.default.svc.cluster.local.`:           dns.RcodeSuccess,       // a w
		`WEB.dEFAULT.SVC.CLUSTER.LOCAL.`:              dns.RcodeSuccess,
		`\000.default.svc.cluster.local.`:             dns.RcodeNameError,
		`_.web.default.svc.cluster.local.`:            dns.RcodeNameError,
		`10-244-0-9.default.pod.cluster.local.`:       dns.RcodeSuccess,
		`10\.244\.0\.9.default.pod.cluster.local.`:    dns.RcodeNameError,
		`2001\:db8\:\:1.default.pod.cluster.local.`:   dns.RcodeNameError,
		`10-244-0-9\%eth0.default.pod.cluster.local.`: dns.RcodeNameError,
	} {
		if m := f.ask(t, name, dns.TypeA); m.Rcode != rcode {
			t.Errorf("%s: %s", name, dns.RcodeToString[m.Rcode])
		}
	}
}

// TestAliases: in circles, to one another, to what API servers of old let pass.
func TestAliases(t *testing.T) {
	u := serveUpstream(t, 159, func(w dns.ResponseWriter, q *dns.Msg) {
		answering(q.Question[0].Name+" 60 IN A 192.0.2.1")(w, q)
	})
	f := synced(t, Config{}, append(crowd(3000),
		externalName("self", "self.default.svc.cluster.local"), externalName("ping", "pong.default.svc.cluster.local"),
		externalName("pong", "ping.default.svc.cluster.local"), externalName("first", "second.default.svc.cluster.local"),
		externalName("second", "third.default.svc.cluster.local."), externalName("third", "db.example.com."),
		externalName("under", "_db.example.com"), externalName("gone", "absent.default.svc.cluster.local"),
		externalName("many", "crowd.default.svc.cluster.local"), externalName("broken", strings.Repeat("a", 64)+".example.com"))...)
	f.forward.use([]netip.AddrPort{u.addr})
	t.Cleanup(f.forward.workers.Wait)
	for name, want := range map[string]struct{ rcode, answers int }{
		"self":   {dns.RcodeServerFailure, 0},
		"ping":   {dns.RcodeServerFailure, 0},
		"first":  {dns.RcodeSuccess, 4},
		"under":  {dns.RcodeSuccess, 2},
		"gone":   {dns.RcodeNameError, 1},
		"many":   {dns.RcodeSuccess, 3001},
		"broken": {dns.RcodeNameError, 0},
	} {
		m := f.ask(t, name+".default.svc.cluster.local.", dns.TypeA)
		if m.Rcode != want.rcode || len(m.Answer) != want.answers || m.Truncated {
			t.Errorf("%s: %s, %d records, %+v", name, dns.RcodeToString[m.Rcode], len(m.Answer), m.MsgHdr)
		}
	}
}

// TestMoreThanTCPHolds: an answer that no message can hold is cut and marked, also behind an alias.
func TestMoreThanTCPHolds(t *testing.T) {
	f := synced(t, Config{}, append(crowd(4500), externalName("many", "crowd.default.svc.cluster.local"))...)
	for _, name := range []string{"crowd", "many"} {
		m := f.ask(t, name+".default.svc.cluster.local.", dns.TypeA)
		if m.Rcode != dns.RcodeSuccess || !m.Truncated || len(m.Answer) < 4000 {
			t.Errorf("%s: %s, %d records, TC %t", name, dns.RcodeToString[m.Rcode], len(m.Answer), m.Truncated)
		}
	}
}

// TestLongClusterDomain: a negative answer has two names of it in its start of authority, which 512 octets may not hold.
func TestLongClusterDomain(t *testing.T) {
	f := synced(t, Config{Domain: strings.Repeat(strings.Repeat("d", 60)+".", 3) + "example", Pods: everybody{}}, clusterIP("web", "10.96.0.1"))
	for name, rcode := range map[string]int{"absent": dns.RcodeNameError, "web": dns.RcodeSuccess} {
		query := new(dns.Msg)
		query.SetQuestion(name+".default.svc."+f.cfg.Domain+".", dns.TypeAAAA)
		wire, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		reply, _ := f.respond(nil, wire, new(scratch), false)
		var m dns.Msg
		if err := m.Unpack(reply); err != nil || len(reply) > minUDP || !m.Truncated || m.Rcode != rcode {
			t.Errorf("%s: %d octets, %v: %v", name, len(reply), err, &m)
		}
	}
}

// TestMetricsOfBadMessages: one that does not parse is not counted as what the worker was asked before.
func TestMetricsOfBadMessages(t *testing.T) {
	f := synced(t, Config{}, clusterIP("web", "10.96.0.1"))
	query := new(dns.Msg)
	query.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	w, tally := new(scratch), f.newWorkerTally()
	for _, msg := range [][]byte{wire, wire[:20]} {
		reply, _ := f.respond(nil, msg, w, false)
		f.record(tally, w, reply, false, time.Now())
	}
	if n := f.sample(t, "responses_total", "zone=none", "proto=udp", "type=other", "rcode=FORMERR"); n != 1 {
		t.Errorf("%v malformed ones counted as such", n)
	}
}

// TestEndpointsOfAllKinds: IPv6 first, one hostname for two, ports that only some have.
func TestEndpointsOfAllKinds(t *testing.T) {
	first6 := clusterIP("first6", "fd00:96::9", "10.96.0.9")
	two := slice("two", host("same", true, "10.244.1.1"), host("same", true, "10.244.1.2"), host("", true, "10.244.1.3"))
	some := slice("some", host("a", true, "10.244.2.1"))
	other := slice("some", host("b", true, "10.244.2.2"))
	name, port := "metrics", int32(9090)
	other.Name, other.Ports[0].Name, other.Ports[0].Port = "some-2", &name, &port
	ports := headless("some")
	ports.Spec.Ports = append(ports.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 9090, Protocol: corev1.ProtocolTCP})
	f := synced(t, Config{}, first6, headless("two"), two, ports, some, other)
	for _, tt := range []struct {
		name           string
		typ            uint16
		answers, extra int
	}{
		{"first6", dns.TypeA, 1, 0}, {"first6", dns.TypeAAAA, 1, 0}, {"_http._tcp.first6", dns.TypeSRV, 1, 2},
		{"two", dns.TypeA, 3, 0}, {"same.two", dns.TypeA, 2, 0}, {"10-244-1-3.two", dns.TypeA, 1, 0},
		{"_http._tcp.two", dns.TypeSRV, 2, 3},
		{"some", dns.TypeA, 2, 0}, {"_http._tcp.some", dns.TypeSRV, 1, 1}, {"_metrics._tcp.some", dns.TypeSRV, 1, 1},
	} {
		m := f.ask(t, tt.name+".default.svc.cluster.local.", tt.typ)
		if len(m.Answer) != tt.answers || len(m.Extra) != tt.extra {
			t.Errorf("%s %s: %v", tt.name, dns.TypeToString[tt.typ], m)
		}
	}
	if m := f.ask(t, "1.1.244.10.in-addr.arpa.", dns.TypePTR); fmt.Sprint(texts(m.Answer)) != "[1.1.244.10.in-addr.arpa. 5 IN PTR same.two.default.svc.cluster.local.]" {
		t.Errorf("%v", m)
	}
}

// TestTCPDoesNotWaitInLine: a name that an upstream is slow with does not hold up the questions behind it, and who has
// closed his half of the connection gets his answers all the same (RFC 7766 section 6.2.1.1).
func TestTCPDoesNotWaitInLine(t *testing.T) {
	needNetns(t)
	ours := make(chan struct{}) // the answer from our zone has come
	come := sync.OnceFunc(func() { close(ours) })
	u := serveUpstream(t, 160, func(w dns.ResponseWriter, q *dns.Msg) {
		<-ours
		answering("www.example.com. 60 IN A 192.0.2.1")(w, q)
	})
	t.Cleanup(come)
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{u.addr}, Networks: specConfig().Networks}, clusterIP("web", "10.96.0.1"))
	f.start()
	f.run(t)
	conn, err := net.Dial("tcp", "10.96.0.10:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	for id, name := range []string{"www.example.com.", "web.default.svc.cluster.local."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		q.Id = uint16(id)
		wire, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFramed(conn, wire); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint16{1, 0} {
		wire, err := readFramed(conn)
		m := new(dns.Msg)
		if err != nil || m.Unpack(wire) != nil || m.Id != id || len(m.Answer) != 1 {
			t.Fatalf("expected the answer to question %d: %v %v", id, m, err)
		}
		if id == 1 {
			come()
		}
	}
}
