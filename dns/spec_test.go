package dns

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// cluster holds every kind of Service that the specification tells apart.
func cluster() []runtime.Object {
	notReady := headless("early")
	notReady.Spec.PublishNotReadyAddresses = true
	unnamed := clusterIP("unnamed", "10.96.0.9")
	unnamed.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
	return []runtime.Object{
		clusterIP("web", "10.96.0.1"),
		slice("web", host("", true, "10.244.0.9"), host("", false, "10.244.0.10")),
		clusterIP("dual", "10.96.0.2", "fd00:96::2"),
		clusterIP("six", "fd00:96::6"),
		unnamed,
		headless("pets"),
		slice("pets", host("cat", true, "10.244.0.1"), host("", true, "10.244.0.2"), host("sick", false, "10.244.0.3")),
		slice("pets", host("cat", true, "fd00:244::1"), host("", true, "fd00:244::2")),
		headless("nobody"),
		slice("nobody", host("dog", false, "10.244.0.4")),
		notReady,
		slice("early", host("bird", false, "10.244.0.5")),
		headless("four"),
		slice("four", host("", true, "10.244.0.6")),
		externalName("db", "DB.example.com"),
		externalName("alias", "dual.default.svc.cluster.local"),
		externalName("circle", "circle.default.svc.cluster.local"),
	}
}

// specification lists what each section demands: answer and additional records, sorted, in presentation form;
// none means that the name exists without such records (NODATA), nxdomain that it does not exist.
var specification = []struct {
	section string // of the Kubernetes DNS specification 1.1.0; of an RFC where that is silent
	name    string
	typ     uint16
	answer  []string
	extra   []string
	absent  bool
}{
	{section: "2.2", name: "dns-version.cluster.local.", typ: dns.TypeTXT, answer: []string{`dns-version.cluster.local. 5 IN TXT "1.1.0"`}},
	{section: "2.2", name: "dns-version.cluster.local.", typ: dns.TypeA},

	{section: "2.3.1", name: "web.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{"web.default.svc.cluster.local. 5 IN A 10.96.0.1"}},
	{section: "2.3.1", name: "web.default.svc.cluster.local.", typ: dns.TypeAAAA},
	{section: "2.3.1", name: "dual.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{"dual.default.svc.cluster.local. 5 IN A 10.96.0.2"}},
	{section: "2.3.1", name: "dual.default.svc.cluster.local.", typ: dns.TypeAAAA, answer: []string{"dual.default.svc.cluster.local. 5 IN AAAA fd00:96::2"}},
	{section: "2.3.1", name: "six.default.svc.cluster.local.", typ: dns.TypeA},
	{section: "2.3.1", name: "six.default.svc.cluster.local.", typ: dns.TypeAAAA, answer: []string{"six.default.svc.cluster.local. 5 IN AAAA fd00:96::6"}},
	{section: "2.1 (case)", name: "WeB.Default.SVC.cluster.LOCAL.", typ: dns.TypeA, answer: []string{"WeB.Default.SVC.cluster.LOCAL. 5 IN A 10.96.0.1"}},
	{section: "2.3.1", name: "absent.default.svc.cluster.local.", typ: dns.TypeA, absent: true},
	{section: "2.3.1", name: "web.other.svc.cluster.local.", typ: dns.TypeA, absent: true},

	{
		section: "2.3.2", name: "_http._tcp.web.default.svc.cluster.local.", typ: dns.TypeSRV,
		answer: []string{"_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local."},
		extra:  []string{"web.default.svc.cluster.local. 5 IN A 10.96.0.1"},
	},
	{
		section: "2.3.2", name: "_dns._udp.dual.default.svc.cluster.local.", typ: dns.TypeSRV,
		answer: []string{"_dns._udp.dual.default.svc.cluster.local. 5 IN SRV 0 100 53 dual.default.svc.cluster.local."},
		extra:  []string{"dual.default.svc.cluster.local. 5 IN A 10.96.0.2", "dual.default.svc.cluster.local. 5 IN AAAA fd00:96::2"},
	},
	{section: "2.3.2", name: "_http._udp.web.default.svc.cluster.local.", typ: dns.TypeSRV, absent: true},
	{section: "2.3.2 (unnamed)", name: "_tcp.unnamed.default.svc.cluster.local.", typ: dns.TypeSRV, absent: true},
	{section: "RFC 8020 (empty non-terminal)", name: "_tcp.web.default.svc.cluster.local.", typ: dns.TypeSRV},
	{section: "2.3.2", name: "_http._tcp.web.default.svc.cluster.local.", typ: dns.TypeA},

	{section: "2.3.3", name: "1.0.96.10.in-addr.arpa.", typ: dns.TypePTR, answer: []string{"1.0.96.10.in-addr.arpa. 5 IN PTR web.default.svc.cluster.local."}},
	{section: "2.3.3", name: reverseOf("fd00:96::2"), typ: dns.TypePTR, answer: []string{reverseOf("fd00:96::2") + " 5 IN PTR dual.default.svc.cluster.local."}},
	{section: "2.3.3", name: "1.0.96.10.in-addr.arpa.", typ: dns.TypeA},
	{section: "2.3.3", name: "77.0.96.10.in-addr.arpa.", typ: dns.TypePTR, absent: true},
	{section: "RFC 8020 (empty non-terminal)", name: "0.96.10.in-addr.arpa.", typ: dns.TypePTR},

	{section: "2.4.1", name: "pets.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{
		"pets.default.svc.cluster.local. 5 IN A 10.244.0.1", "pets.default.svc.cluster.local. 5 IN A 10.244.0.2",
	}},
	{section: "2.4.1", name: "pets.default.svc.cluster.local.", typ: dns.TypeAAAA, answer: []string{
		"pets.default.svc.cluster.local. 5 IN AAAA fd00:244::1", "pets.default.svc.cluster.local. 5 IN AAAA fd00:244::2",
	}},
	{section: "2.4.1 (hostname)", name: "cat.pets.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{"cat.pets.default.svc.cluster.local. 5 IN A 10.244.0.1"}},
	{section: "2.4.1 (hostname)", name: "cat.pets.default.svc.cluster.local.", typ: dns.TypeAAAA, answer: []string{"cat.pets.default.svc.cluster.local. 5 IN AAAA fd00:244::1"}},
	{section: "2.4.1 (assigned)", name: "10-244-0-2.pets.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{"10-244-0-2.pets.default.svc.cluster.local. 5 IN A 10.244.0.2"}},
	{section: "2.4.1 (assigned)", name: "fd00-244--2.pets.default.svc.cluster.local.", typ: dns.TypeAAAA, answer: []string{"fd00-244--2.pets.default.svc.cluster.local. 5 IN AAAA fd00:244::2"}},
	{section: "2.4.1 (assigned)", name: "10-244-0-1.pets.default.svc.cluster.local.", typ: dns.TypeA, absent: true},
	{section: "2.4.1 (not ready)", name: "sick.pets.default.svc.cluster.local.", typ: dns.TypeA, absent: true},
	{section: "2.4.1 (none ready)", name: "nobody.default.svc.cluster.local.", typ: dns.TypeA, absent: true},
	{section: "2.4.1 (none ready)", name: "_http._tcp.nobody.default.svc.cluster.local.", typ: dns.TypeSRV, absent: true},
	{section: "2.1 (publishNotReadyAddresses)", name: "early.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{"early.default.svc.cluster.local. 5 IN A 10.244.0.5"}},
	{section: "2.4.1", name: "four.default.svc.cluster.local.", typ: dns.TypeAAAA},

	{
		section: "2.4.2", name: "_http._tcp.pets.default.svc.cluster.local.", typ: dns.TypeSRV,
		answer: []string{
			"_http._tcp.pets.default.svc.cluster.local. 5 IN SRV 0 100 8080 10-244-0-2.pets.default.svc.cluster.local.",
			"_http._tcp.pets.default.svc.cluster.local. 5 IN SRV 0 100 8080 cat.pets.default.svc.cluster.local.",
			"_http._tcp.pets.default.svc.cluster.local. 5 IN SRV 0 100 8080 fd00-244--2.pets.default.svc.cluster.local.",
		},
		extra: []string{
			"10-244-0-2.pets.default.svc.cluster.local. 5 IN A 10.244.0.2",
			"cat.pets.default.svc.cluster.local. 5 IN A 10.244.0.1",
			"cat.pets.default.svc.cluster.local. 5 IN AAAA fd00:244::1",
			"fd00-244--2.pets.default.svc.cluster.local. 5 IN AAAA fd00:244::2",
		},
	},

	{section: "2.4.3", name: "1.0.244.10.in-addr.arpa.", typ: dns.TypePTR, answer: []string{"1.0.244.10.in-addr.arpa. 5 IN PTR cat.pets.default.svc.cluster.local."}},
	{section: "2.4.3", name: "2.0.244.10.in-addr.arpa.", typ: dns.TypePTR, answer: []string{"2.0.244.10.in-addr.arpa. 5 IN PTR 10-244-0-2.pets.default.svc.cluster.local."}},
	{section: "2.4.3", name: reverseOf("fd00:244::1"), typ: dns.TypePTR, answer: []string{reverseOf("fd00:244::1") + " 5 IN PTR cat.pets.default.svc.cluster.local."}},
	{section: "2.4.3 (not ready)", name: "3.0.244.10.in-addr.arpa.", typ: dns.TypePTR, absent: true},
	{section: "2.4.3 (headless only)", name: "9.0.244.10.in-addr.arpa.", typ: dns.TypePTR, absent: true},

	{section: "2.5", name: "db.default.svc.cluster.local.", typ: dns.TypeCNAME, answer: []string{"db.default.svc.cluster.local. 5 IN CNAME db.example.com."}},
	{section: "2.5 (no upstream)", name: "db.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{"db.default.svc.cluster.local. 5 IN CNAME db.example.com."}},

	{section: "2.6", name: "10-244-0-9.default.pod.cluster.local.", typ: dns.TypeA, answer: []string{"10-244-0-9.default.pod.cluster.local. 5 IN A 10.244.0.9"}},
	{section: "2.6", name: "10-244-0-9.default.pod.cluster.local.", typ: dns.TypeAAAA},
	{section: "2.6", name: "fd00-244--9.default.pod.cluster.local.", typ: dns.TypeAAAA, answer: []string{"fd00-244--9.default.pod.cluster.local. 5 IN AAAA fd00:244::9"}},
	{section: "2.6", name: "10-244-0-999.default.pod.cluster.local.", typ: dns.TypeA, absent: true},

	{section: "Kubernetes: pods exposed by a Service", name: "10-244-0-9.web.default.svc.cluster.local.", typ: dns.TypeA, answer: []string{"10-244-0-9.web.default.svc.cluster.local. 5 IN A 10.244.0.9"}},
	{section: "Kubernetes: pods exposed by a Service", name: "10-244-0-10.web.default.svc.cluster.local.", typ: dns.TypeA, absent: true},

	{section: "RFC 1034 4.2.1 (apex)", name: "cluster.local.", typ: dns.TypeNS, answer: []string{"cluster.local. 5 IN NS ns.dns.cluster.local."}},
	{section: "RFC 1034 4.2.1 (apex)", name: "ns.dns.cluster.local.", typ: dns.TypeA, answer: []string{"ns.dns.cluster.local. 5 IN A 10.96.0.10"}},
	{section: "RFC 1034 4.2.1 (apex)", name: "cluster.local.", typ: dns.TypeA},
	{section: "RFC 8020 (empty non-terminal)", name: "dns.cluster.local.", typ: dns.TypeA},
	{section: "RFC 8020 (empty non-terminal)", name: "svc.cluster.local.", typ: dns.TypeA},
	{section: "RFC 8020 (empty non-terminal)", name: "pod.cluster.local.", typ: dns.TypeA},
	{section: "RFC 8020 (empty non-terminal)", name: "default.svc.cluster.local.", typ: dns.TypeA},
	{section: "RFC 8020 (empty non-terminal)", name: "empty.svc.cluster.local.", typ: dns.TypeA, absent: true},
	{section: "search path", name: "example.com.default.svc.cluster.local.", typ: dns.TypeA, absent: true},
	{section: "search path", name: "example.com.svc.cluster.local.", typ: dns.TypeA, absent: true},
	{section: "search path", name: "example.com.cluster.local.", typ: dns.TypeA, absent: true},
}

func reverseOf(addr string) string {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		panic(err)
	}
	return name
}

func specConfig() Config {
	return Config{Networks: []netip.Prefix{
		netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:96::/64"),
	}}
}

func TestSpecification(t *testing.T) {
	f := synced(t, specConfig(), cluster()...)
	for _, tt := range specification {
		t.Run(tt.section+" "+tt.name+" "+dns.TypeToString[tt.typ], func(t *testing.T) {
			m := f.ask(t, tt.name, tt.typ)
			if want := map[bool]int{true: dns.RcodeNameError, false: dns.RcodeSuccess}[tt.absent]; m.Rcode != want {
				t.Errorf("response code %s", dns.RcodeToString[m.Rcode])
			}
			if got := texts(m.Answer); !slices.Equal(got, tt.answer) {
				t.Errorf("answer\n got  %q\n want %q", got, tt.answer)
			}
			if got := texts(m.Extra); !slices.Equal(got, tt.extra) {
				t.Errorf("additional\n got  %q\n want %q", got, tt.extra)
			}
			if !m.Authoritative || !m.RecursionDesired || m.Question[0].Name != tt.name {
				t.Errorf("authoritative %t, recursion desired %t, question %q", m.Authoritative, m.RecursionDesired, m.Question[0].Name)
			}
			checkNegative(t, m)
		})
	}
}

// checkNegative: RFC 2308 wants the SOA with a negative answer; a TTL of 0 keeps it out of caches.
func checkNegative(t *testing.T, m *dns.Msg) {
	t.Helper()
	if len(m.Answer) > 0 {
		if len(m.Ns) > 0 {
			t.Errorf("authority of a positive answer: %v", m.Ns)
		}
		return
	}
	if len(m.Ns) != 1 {
		t.Fatalf("authority of a negative answer: %v", m.Ns)
	}
	soa, ok := m.Ns[0].(*dns.SOA)
	if !ok || soa.Hdr.Ttl != 0 || soa.Minttl != 0 {
		t.Errorf("a negative answer that caches would keep: %v", m.Ns[0])
	}
	if !dns.IsSubDomain(soa.Hdr.Name, m.Question[0].Name) {
		t.Errorf("the SOA of %s has no authority over %s", soa.Hdr.Name, m.Question[0].Name)
	}
}

// texts renders records one per line, with single spaces, sorted.
func texts(records []dns.RR) []string {
	var all []string
	for _, rr := range records {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		var b []byte
		for _, c := range []byte(rr.String()) {
			if c == '\t' {
				c = ' '
			}
			b = append(b, c)
		}
		all = append(all, string(b))
	}
	slices.Sort(all)
	return all
}
