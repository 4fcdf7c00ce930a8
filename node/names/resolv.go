package names

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Limits of resolv.conf as Kubernetes keeps them (pkg/apis/core/validation).
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchChars = 2048
	maxSearchLen   = 253
)

// Resolver is the content of a resolv.conf.
type Resolver struct {
	Servers  []string
	Searches []string
	Options  []string
}

// ParseResolvConf reads what a resolver would: servers add up, the last search line counts, options merge.
// Lines it does not know are skipped, as resolv.conf(5) has it.
func ParseResolvConf(file []byte) Resolver {
	var r Resolver
	for line := range strings.Lines(string(file)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.Servers = append(r.Servers, fields[1])
		case "search", "domain":
			r.Searches = nil
			for _, s := range fields[1:] {
				if s != "." {
					r.Searches = append(r.Searches, strings.TrimSuffix(s, "."))
				}
			}
		case "options":
			for _, o := range fields[1:] {
				r.Options = setOption(r.Options, o)
			}
		}
	}
	return r
}

// setOption replaces the option of the same name, or appends.
func setOption(options []string, o string) []string {
	name, _, _ := strings.Cut(o, ":")
	for i, old := range options {
		if n, _, _ := strings.Cut(old, ":"); n == name {
			options[i] = o
			return options
		}
	}
	return append(options, o)
}

// DNS gives the resolver of a pod by its dnsPolicy and dnsConfig. cluster are the addresses of the cluster's
// DNS, host is the resolver of the node. warnings say what did not fit into the limits.
func DNS(pod *corev1.Pod, cluster []netip.Addr, domain string, host Resolver) (r Resolver, warnings []string) {
	switch policy(pod, len(cluster) > 0) {
	case corev1.DNSNone:
	case corev1.DNSClusterFirst:
		for _, a := range cluster {
			r.Servers = append(r.Servers, a.String())
		}
		r.Searches = append([]string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}, host.Searches...)
		r.Options = []string{"ndots:5"}
	default:
		r = Resolver{slices.Clone(host.Servers), slices.Clone(host.Searches), slices.Clone(host.Options)}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.Servers = append(r.Servers, c.Nameservers...)
		r.Searches = append(r.Searches, c.Searches...)
		for _, o := range c.Options {
			text := o.Name
			if v := ptr.Deref(o.Value, ""); v != "" {
				text += ":" + v
			}
			r.Options = setOption(r.Options, text)
		}
	}
	return fit(Resolver{unique(r.Servers), unique(r.Searches), r.Options})
}

// ByCluster says whether a pod asks the cluster's DNS first.
func ByCluster(pod *corev1.Pod, cluster []netip.Addr) bool {
	return policy(pod, len(cluster) > 0) == corev1.DNSClusterFirst
}

// policy reduces the policies to None, ClusterFirst and Default.
func policy(pod *corev1.Pod, haveCluster bool) corev1.DNSPolicy {
	switch pod.Spec.DNSPolicy {
	case corev1.DNSNone:
		return corev1.DNSNone
	case corev1.DNSDefault:
		return corev1.DNSDefault
	case corev1.DNSClusterFirst:
		if pod.Spec.HostNetwork {
			return corev1.DNSDefault
		}
	}
	if !haveCluster {
		return corev1.DNSDefault
	}
	return corev1.DNSClusterFirst
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func fit(r Resolver) (Resolver, []string) {
	var warnings []string
	if len(r.Servers) > maxServers {
		r.Servers = r.Servers[:maxServers]
		warnings = append(warnings, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(r.Servers, " "))
	}
	before := len(r.Searches)
	r.Searches = slices.DeleteFunc(r.Searches, func(s string) bool { return len(s) > maxSearchLen })
	r.Searches = r.Searches[:min(len(r.Searches), maxSearches)]
	for len(strings.Join(r.Searches, " ")) > maxSearchChars {
		r.Searches = r.Searches[:len(r.Searches)-1]
	}
	if len(r.Searches) < before {
		warnings = append(warnings, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(r.Searches, " "))
	}
	return r, warnings
}

// File renders a resolv.conf.
func (r Resolver) File() []byte {
	var b bytes.Buffer
	if len(r.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Searches, " "))
	}
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.Bytes()
}
