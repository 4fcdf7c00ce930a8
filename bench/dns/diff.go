package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// explained are the differences that are meant, with the reason; a difference that is not here fails.
var explained = map[string]string{
	"_http._tcp.v4.diff.svc.cluster.local. A": "a name with SRV records only has no address: NODATA (RFC 2308); CoreDNS gives the Service's",
	"_tcp.v4.diff.svc.cluster.local. SRV":     "an empty non-terminal exists: NODATA (RFC 8020); CoreDNS says that it does not",
	"_tcp.v4.diff.svc.cluster.local. A":       "the same",
	"dns-version.cluster.local. A":            "the name exists, with a TXT record: NODATA (RFC 2308); CoreDNS says that it does not",
	"cluster.local. TXT":                      "the same, with SOA and NS",
	"v4.diff.svc.cluster.local. SRV":          "SRV records are those of named ports, at their own names (specification 2.3.2); CoreDNS has them at the Service too",
	"members.diff.svc.cluster.local. SRV":     "the same, headless (2.4.2)",
	"early.diff.svc.cluster.local. A":         "publishNotReadyAddresses holds whoever makes the slices (2.1); CoreDNS trusts the slice controller to call them ready",
	"early.diff.svc.cluster.local. AAAA":      "the same",
	"early.diff.svc.cluster.local. TXT":       "the same",
	"early.diff.svc.cluster.local. MX":        "the same",
	"outside.diff.svc.cluster.local. TXT":     "an alias is the answer for every type (RFC 1034 3.6.2); CoreDNS has it for addresses only",
	"outside.diff.svc.cluster.local. MX":      "the same",
	"1.9.244.10.in-addr.arpa. A":              "the name exists, with a PTR record: NODATA; CoreDNS asks upstreams, who know no such name",
	"V4.Diff.SVC.cluster.local. A":            "the owner is spelled as it was asked, so that case can serve against forgery (0x20)",
}

// diff asks both servers for every form of name and prints what differs.
func diff(ctx context.Context, o options) error {
	if err := diffObjects(ctx, o); err != nil {
		return err
	}
	servers := []netip.AddrPort{o.addr, o.peer}
	if err := await(ctx, servers); err != nil {
		return err
	}
	same, meant, unmeant := 0, 0, 0
	for _, q := range diffQuestions() {
		var texts [2]string
		for i, server := range servers {
			m, err := exchange(server, q.name, q.typ)
			if err != nil {
				return fmt.Errorf("%s %s at %s: %w", q.name, dns.TypeToString[q.typ], server, err)
			}
			texts[i] = canonical(m)
		}
		key := q.name + " " + dns.TypeToString[q.typ]
		switch {
		case texts[0] == texts[1]:
			same++
		case explained[key] != "":
			meant++
			fmt.Printf("%s\n  ours: %s\n  peer: %s\n  why:  %s\n", key, texts[0], texts[1], explained[key])
		default:
			unmeant++
			fmt.Printf("%s\n  ours: %s\n  peer: %s\n  NOT EXPLAINED\n", key, texts[0], texts[1])
		}
	}
	fmt.Printf("%d the same, %d differ and are explained, %d are not\n", same, meant, unmeant)
	if unmeant > 0 {
		return errors.New("answers differ without a reason")
	}
	return nil
}

func exchange(server netip.AddrPort, name string, typ uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, typ)
	m, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(q, server.String())
	return m, err
}

// canonical is what a client can act on: code, flags, and the records without order, TTL, and SRV weights, which the
// specification leaves to the server. Of a negative answer it is whose it is.
func canonical(m *dns.Msg) string {
	var lines []string
	for _, rr := range m.Answer {
		rr.Header().Ttl = 0
		if srv, ok := rr.(*dns.SRV); ok {
			srv.Priority, srv.Weight = 0, 0
		}
		if soa, ok := rr.(*dns.SOA); ok {
			*soa = dns.SOA{Hdr: soa.Hdr, Ns: soa.Ns, Mbox: soa.Mbox}
		}
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	slices.Sort(lines)
	text := dns.RcodeToString[m.Rcode] + " " + strings.Join(lines, ", ")
	if m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 {
		text = "NODATA"
	}
	return strings.TrimSpace(text)
}

// await waits until both servers know the last of the objects.
func await(ctx context.Context, servers []netip.AddrPort) error {
	for _, server := range servers {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			m, err := exchange(server, "members.diff.svc.cluster.local.", dns.TypeA)
			if err == nil && len(m.Answer) == 3 {
				break
			}
			if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("%s does not know the cluster: %v %w", server, m, err)
			}
		}
	}
	time.Sleep(time.Second) // what came with it
	return nil
}

type question struct {
	name string
	typ  uint16
}

func diffQuestions() []question {
	var all []question
	add := func(name string, types ...uint16) {
		for _, typ := range types {
			all = append(all, question{name, typ})
		}
	}
	const svc = ".diff.svc.cluster.local."
	for _, name := range []string{"v4", "unnamed", "members", "nobody", "early", "absent", "a.members", "10-244-9-2.members", "10-244-9-1.members", "sick.members", "outside"} {
		add(name+svc, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX)
	}
	add("V4.Diff.SVC.cluster.local.", dns.TypeA)
	for _, name := range []string{"_http._tcp.v4", "_dns._udp.v4", "_http._udp.v4", "_none._tcp.v4", "_http._tcp.members", "_http._tcp.nobody", "_tcp.v4"} {
		add(name+svc, dns.TypeSRV)
	}
	add("_tcp.v4"+svc, dns.TypeA)
	add("_http._tcp.v4"+svc, dns.TypeA)
	add("v4"+svc, dns.TypeSRV)
	add("members"+svc, dns.TypeSRV)
	add("outside"+svc, dns.TypeCNAME)
	add("77.77.96.10.in-addr.arpa.", dns.TypePTR)
	add("1.9.244.10.in-addr.arpa.", dns.TypePTR, dns.TypeA)
	add("2.9.244.10.in-addr.arpa.", dns.TypePTR)
	add("3.9.244.10.in-addr.arpa.", dns.TypePTR)
	add("dns-version.cluster.local.", dns.TypeTXT, dns.TypeA)
	add("cluster.local.", dns.TypeSOA, dns.TypeA, dns.TypeTXT)
	add("svc.cluster.local.", dns.TypeA)
	add("diff.svc.cluster.local.", dns.TypeA)
	add("no-such.svc.cluster.local.", dns.TypeA)
	add("v4.no-such.svc.cluster.local.", dns.TypeA)
	add("10-244-9-1.diff.pod.cluster.local.", dns.TypeA)
	add("www-1.example.diff.svc.cluster.local.", dns.TypeA)
	add("www-1.example.svc.cluster.local.", dns.TypeA)
	add("www-1.example.cluster.local.", dns.TypeA)
	add("www-1.example.", dns.TypeA, dns.TypeAAAA)
	add("absent.test.", dns.TypeA)
	return all
}

// diffObjects makes one Service of every kind.
func diffObjects(ctx context.Context, o options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "diff"}}
	_, err = client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	} else if err != nil {
		return err
	}
	service := func(name, ip string, edit func(*corev1.ServiceSpec)) *corev1.Service {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "diff", Name: name}}
		svc.Spec.ClusterIP = ip
		svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}
		edit(&svc.Spec)
		return svc
	}
	nothing := func(*corev1.ServiceSpec) {}
	for _, svc := range []*corev1.Service{
		service("v4", "10.96.77.77", nothing),
		service("unnamed", "10.96.77.78", func(s *corev1.ServiceSpec) { s.Ports = []corev1.ServicePort{{Port: 80}} }),
		service("members", corev1.ClusterIPNone, nothing),
		service("nobody", corev1.ClusterIPNone, nothing),
		service("early", corev1.ClusterIPNone, func(s *corev1.ServiceSpec) { s.PublishNotReadyAddresses = true }),
		service("outside", "", func(s *corev1.ServiceSpec) {
			*s = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www-1.example"}
		}),
	} {
		if _, err := client.CoreV1().Services("diff").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for _, s := range []*discoveryv1.EndpointSlice{
		diffSlice("nobody", diffHost("", false, "10.244.9.10")), diffSlice("early", diffHost("", false, "10.244.9.11")),
		diffSlice("members", diffHost("a", true, "10.244.9.1"), diffHost("", true, "10.244.9.2"), diffHost("sick", false, "10.244.9.3"), diffHost("b", true, "10.244.9.4")),
	} {
		if _, err := client.DiscoveryV1().EndpointSlices("diff").Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func diffHost(hostname string, ready bool, addr string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	if hostname != "" {
		e.Hostname = &hostname
	}
	return e
}

func diffSlice(svc string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := sliceOf(svc, "diff", 0, 0)
	s.Endpoints = endpoints
	return s
}
