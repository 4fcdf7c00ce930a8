package names

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

var (
	cluster = []netip.Addr{netip.MustParseAddr("10.96.0.10")}
	host    = Resolver{Servers: []string{"192.0.2.1"}, Searches: []string{"lan"}, Options: []string{"timeout:1"}}
)

func TestDNSByPolicy(t *testing.T) {
	ours := []string{"team.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"}
	for _, c := range []struct {
		name string
		spec corev1.PodSpec
		want Resolver
	}{
		{"cluster first", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, Resolver{[]string{"10.96.0.10"}, ours, []string{"ndots:5"}}},
		{"cluster first in the host's network", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, host},
		{"with host net", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, Resolver{[]string{"10.96.0.10"}, ours, []string{"ndots:5"}}},
		{"default", corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, host},
		{"none", corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.9"}, Searches: []string{"x"}}}, Resolver{[]string{"192.0.2.9"}, []string{"x"}, nil}},
		{"config adds and replaces", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{
			Nameservers: []string{"10.96.0.10", "192.0.2.9"}, Searches: []string{"x", "lan"},
			Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}},
		}}, Resolver{[]string{"10.96.0.10", "192.0.2.9"}, append(slices.Clone(ours), "x"), []string{"ndots:2", "edns0"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: c.spec}
			pod.Namespace = "team"
			got, warnings := DNS(pod, cluster, "cluster.local", host)
			if fmt.Sprint(got) != fmt.Sprint(c.want) || warnings != nil {
				t.Errorf("got %v and %q, want %v", got, warnings, c.want)
			}
		})
	}
	if host.Servers[0] != "192.0.2.1" || len(host.Options) != 1 {
		t.Errorf("the host's resolver was changed: %v", host)
	}
}

func TestDNSKeepsTheLimits(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{}}}
	for i := range 40 {
		pod.Spec.DNSConfig.Nameservers = append(pod.Spec.DNSConfig.Nameservers, fmt.Sprintf("192.0.2.%d", i))
		pod.Spec.DNSConfig.Searches = append(pod.Spec.DNSConfig.Searches, fmt.Sprintf("%s%d.example", strings.Repeat("a", 100), i))
	}
	got, warnings := DNS(pod, nil, "cluster.local", Resolver{})
	if len(got.Servers) != 3 || len(strings.Join(got.Searches, " ")) > 2048 || len(got.Searches) < 15 || len(warnings) != 2 {
		t.Errorf("%d servers, %d searches, warnings %q", len(got.Servers), len(got.Searches), warnings)
	}
}

func TestParseResolvConf(t *testing.T) {
	got := ParseResolvConf([]byte("# x\nnameserver 192.0.2.1\nsearch a.example\n\nsearch lan. .\nnameserver fe80::1%eth0\noptions ndots:1 rotate\noptions ndots:2\nsortlist 1\nnameserver\n"))
	want := Resolver{[]string{"192.0.2.1", "fe80::1%eth0"}, []string{"lan"}, []string{"ndots:2", "rotate"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if again := ParseResolvConf(want.File()); fmt.Sprint(again) != fmt.Sprint(want) {
		t.Errorf("written and read again it is %v", again)
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 60) + "---tail"
	for _, c := range []struct {
		spec         corev1.PodSpec
		name         string
		host, domain string
	}{
		{corev1.PodSpec{}, "web-1", "web-1", ""},
		{corev1.PodSpec{Hostname: "db", Subdomain: "peers"}, "web-1", "db", "peers.team.svc.cluster.local"},
		{corev1.PodSpec{}, long, strings.Repeat("a", 60), ""},
		{corev1.PodSpec{HostnameOverride: ptr.To("x.example"), Subdomain: "peers"}, "web-1", "x.example", ""},
	} {
		pod := &corev1.Pod{Spec: c.spec}
		pod.Name, pod.Namespace = c.name, "team"
		if h, d := Hostname(pod, "cluster.local"); h != c.host || d != c.domain {
			t.Errorf("%s: got %q and %q, want %q and %q", c.name, h, d, c.host, c.domain)
		}
	}
}

func TestKernelHostname(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{SetHostnameAsFQDN: ptr.To(true)}}
	if got, err := KernelHostname(pod, "db", "peers.team.svc.cluster.local"); err != nil || got != "db.peers.team.svc.cluster.local" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := KernelHostname(pod, strings.Repeat("d", 60), "peers.team.svc.cluster.local"); err == nil {
		t.Error("a name of more than 64 characters must be refused")
	}
}

func TestHosts(t *testing.T) {
	ips := []netip.Addr{netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("fd00::5")}
	aliases := []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"a", "b"}}}
	got := string(Hosts(ips, "db", "peers.team.svc.cluster.local", aliases))
	for _, want := range []string{
		"127.0.0.1\tlocalhost\n",
		"10.244.0.5\tdb.peers.team.svc.cluster.local\tdb\n",
		"fd00::5\tdb.peers.team.svc.cluster.local\tdb\n",
		"# Entries added by HostAliases.\n192.0.2.7\ta\tb\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	own := string(HostNetworkHosts([]byte("127.0.0.1 box\n"), nil))
	if own != "# Kubernetes-managed hosts file (host network).\n127.0.0.1 box\n" {
		t.Errorf("got %q", own)
	}
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nsearch a b\noptions x:1"))
	f.Fuzz(func(t *testing.T, file []byte) {
		r := ParseResolvConf(file)
		if again := ParseResolvConf(r.File()); len(again.Servers) != len(r.Servers) {
			t.Errorf("%q gives %v, and read again %v", file, r, again)
		}
	})
}
