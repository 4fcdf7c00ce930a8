package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"svcplane/address"
	"svcplane/diagnose"
	"svcplane/dns"
	"svcplane/usage"
)

// Options are the flags of `svcplane server` as they were written.
type Options struct {
	DataDir, NodeName, NodeIP, ServiceCIDR, PodCIDR, Domain, DNSIP string
	NodePorts, ProxyMode, API, IngressHTTP, IngressHTTPS, Cgroup   string
	Etcd, Disable                                                  []string
	Verbosity                                                      int
	DNS                                                            dnsOptions
	Ingress                                                        ingressOptions
	Proxy                                                          proxyOptions
	Node                                                           nodeOptions
	Metrics                                                        metricsOptions
}

// register declares the flags; their names are also the keys of the config file.
func (o *Options) register(fs *pflag.FlagSet) {
	usage.Group(fs, "Node", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.NodeName, "node-name", "", "name of this node (default: what it was called before, else the host's name)")
		fs.StringVar(&o.NodeIP, "node-ip", "", "this node's address, IPv4[,IPv6] (default: those the default routes leave from, followed)")
		fs.StringVar(&o.Cgroup, "cgroup", "", "cgroup v2 folder whose processes are this node's (default: the root)")
		fs.StringSliceVar(&o.Disable, "disable", nil, "parts to leave out: dns, ingress, node, proxy")
		o.Node.register(fs)
	})
	usage.Group(fs, "Addresses of the cluster", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.ServiceCIDR, "service-cidr", "10.96.0.0/16", "range that ClusterIPs come from, IPv4[,IPv6]")
		fs.StringVar(&o.PodCIDR, "pod-cidr", "10.244.0.0/16", "range that pod addresses come from, IPv4[,IPv6]; with two ranges pods and Services have both families")
		fs.StringVar(&o.NodePorts, "node-port-range", "30000-32767", "ports that NodePorts come from")
	})
	usage.Group(fs, "API and store", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.API, "api-address", "0.0.0.0:6443", "where the API listens")
		fs.StringSliceVar(&o.Etcd, "etcd-endpoints", nil, "URLs of an external etcd instead of the embedded one")
	})
	usage.Group(fs, "Service proxy", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.ProxyMode, "proxy-mode", modeAuto, "data plane of Services: ebpf, iptables, or auto: eBPF where it can be proven to work, else iptables")
		o.Proxy.register(fs)
	})
	usage.Group(fs, "DNS", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.Domain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
		fs.StringVar(&o.DNSIP, "dns-ip", "10.96.0.10", "address of the cluster's DNS server in the service range, IPv4[,IPv6]; the tenth of the range if the IPv6 one is left out")
		o.DNS.register(fs)
	})
	usage.Group(fs, "Ingress", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.IngressHTTP, "ingress-http", "0.0.0.0:80", "where the ingress listens for HTTP")
		fs.StringVar(&o.IngressHTTPS, "ingress-https", "0.0.0.0:443", "where the ingress listens for HTTPS")
		o.Ingress.register(fs)
	})
	usage.Group(fs, "Metrics", o.Metrics.register)
	usage.Group(fs, "Logging", func(fs *pflag.FlagSet) {
		fs.IntVarP(&o.Verbosity, "verbosity", "v", 0, "log level; 0 logs what needs attention, 2 what happens, 4 and more every detail")
	})
}

// notInFile are flags that are for the command line alone.
var notInFile = []string{"config", "check", "help"}

// loadFile sets the flags that a YAML file names and the command line does not.
func loadFile(path string, fs *pflag.FlagSet) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	var keys map[string]any
	if err := yaml.UnmarshalStrict(data, &keys); err != nil {
		return fmt.Errorf("config file %s: %w: it must be YAML of the form `flag-name: value`", path, err)
	}
	for key, value := range keys {
		flag := fs.Lookup(key)
		if flag == nil || slices.Contains(notInFile, key) {
			names := flagNames(fs)
			hint := cmp.Or(diagnose.Hint(key, names), ": known keys are "+strings.Join(names, ", "))
			return fmt.Errorf("config file %s: unknown key %q%s", path, key, hint)
		}
		if flag.Changed {
			continue // the command line wins
		}
		if err := fs.Set(key, flagText(value)); err != nil {
			return fmt.Errorf("config file %s: key %q: %w", path, key, err)
		}
	}
	return nil
}

func flagNames(fs *pflag.FlagSet) []string {
	var names []string
	fs.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(notInFile, f.Name) {
			names = append(names, f.Name)
		}
	})
	return names
}

func flagText(value any) string {
	list, ok := value.([]any)
	if !ok {
		return fmt.Sprint(value)
	}
	var texts []string
	for _, v := range list {
		texts = append(texts, fmt.Sprint(v))
	}
	return strings.Join(texts, ",")
}

// Config is the checked form of Options.
type Config struct {
	DataDir  string
	NodeName string
	// One of each of these, IPv4, or two with the IPv6 one second: the cluster then is dual-stack (KEP-563).
	NodeIPs, DNSIPs        []netip.Addr // the node's are those at the start
	Addresses              address.Wish
	ServiceCIDRs, PodCIDRs []netip.Prefix
	Domain                 string
	KubernetesIP           netip.Addr
	NodePorts              string
	DNS                    dns.Config // what the flags say
	API, HTTP, HTTPS       netip.AddrPort
	Etcd                   []string
	disabled               []string
	ProxyMode, Cgroup      string
	Ingress                ingressConfig
	Proxy                  proxyConfig
	Node                   nodeConfig
	Metrics                []netip.AddrPort
}

// NodeIP is the node's IPv4 address at the start.
func (c *Config) NodeIP() netip.Addr { return c.NodeIPs[0] }

// podCIDR6 is zero on a cluster of one address family.
func (c *Config) podCIDR6() netip.Prefix {
	if len(c.PodCIDRs) < 2 {
		return netip.Prefix{}
	}
	return c.PodCIDRs[1]
}

// The parts that --disable may leave out.
const (
	partProxy   = "proxy"
	partDNS     = "dns"
	partIngress = "ingress"
	partNode    = "node"
)

// Enabled says whether a part is to run.
func (c *Config) Enabled(part string) bool { return !slices.Contains(c.disabled, part) }

// check turns Options into a Config without looking at the machine beyond its host name and addresses.
func (o *Options) check(host Host) (*Config, error) {
	c := &Config{DataDir: o.DataDir, NodePorts: o.NodePorts, Etcd: o.Etcd, disabled: o.Disable, ProxyMode: o.ProxyMode, Cgroup: o.Cgroup, Domain: strings.TrimSuffix(o.Domain, ".")}
	var err error
	for _, f := range []struct {
		flag, text string
		to         any
	}{
		{"api-address", o.API, &c.API},
		{"ingress-http", o.IngressHTTP, &c.HTTP},
		{"ingress-https", o.IngressHTTPS, &c.HTTPS},
	} {
		if err := parseInto(f.flag, f.text, f.to); err != nil {
			return nil, err
		}
	}
	if err := c.network(o, host); err != nil {
		return nil, err
	}
	if c.NodeName, err = nodeName(o.NodeName, host); err != nil {
		return nil, err
	}
	if c.Ingress, err = o.Ingress.check(); err != nil {
		return nil, err
	}
	if c.Proxy, err = o.Proxy.check(host); err != nil {
		return nil, err
	}
	if c.Node, err = o.Node.check(); err != nil {
		return nil, err
	}
	if c.Metrics, err = o.Metrics.check(); err != nil {
		return nil, err
	}
	c.openBoth()
	if c.DNS, err = o.DNS.config(c); err != nil {
		return nil, err
	}
	if err := o.checkWords(); err != nil {
		return nil, err
	}
	return c, c.checkMetrics()
}

func parseInto(flag, text string, to any) error {
	var err error
	switch to := to.(type) {
	case *netip.AddrPort:
		if *to, err = netip.ParseAddrPort(text); err == nil && to.Port() == 0 {
			err = errors.New("the port must not be 0")
		}
	}
	if err != nil {
		return fmt.Errorf("--%s %q: %w", flag, text, err)
	}
	return nil
}

// nodeName is the flag's, or what the node was called before, or the host's name.
func nodeName(flag string, host Host) (string, error) {
	name := cmp.Or(flag, host.Node, strings.ToLower(host.Name))
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return "", fmt.Errorf("node name %q: %s: give another with --node-name", name, problems[0])
	}
	return name, nil
}

// sameNode refuses another name than the node of the data directory has.
func (c *Config) sameNode(host Host) error {
	if host.Node == "" || c.NodeName == host.Node {
		return nil
	}
	return fmt.Errorf("--node-name %s: the node of this data directory is called %s, and its pods and volumes are bound to that: start with --node-name %s, "+
		"or give it up by `svcplane cleanup`, and by `svcplane kubectl delete node %s` after the start: what it had on its volumes is bound to it for good", c.NodeName, host.Node, host.Node, host.Node)
}

// checkWords checks what is not an address.
func (o *Options) checkWords() error {
	if problems := validation.IsDNS1123Subdomain(strings.TrimSuffix(o.Domain, ".")); len(problems) > 0 {
		return fmt.Errorf("--cluster-domain %q: %s", o.Domain, problems[0])
	}
	if ports, err := utilnet.ParsePortRange(o.NodePorts); err != nil || ports.Size == 0 {
		return fmt.Errorf("--node-port-range %q: must be like 30000-32767", o.NodePorts)
	}
	for _, part := range o.Disable {
		if parts := []string{partDNS, partIngress, partNode, partProxy}; !slices.Contains(parts, part) {
			return fmt.Errorf("--disable %q: can only leave out %s%s", part, strings.Join(parts, ", "), diagnose.Hint(part, parts))
		}
	}
	if !slices.Contains([]string{modeAuto, modeEBPF, modeIPTables}, o.ProxyMode) {
		return fmt.Errorf("--proxy-mode %q: must be auto, ebpf or iptables", o.ProxyMode)
	}
	if o.Cgroup != "" && o.ProxyMode == modeIPTables {
		return errors.New("--cgroup: only the eBPF data plane attaches to a cgroup: leave out either this or --proxy-mode iptables")
	}
	if o.Proxy.XDP == valueAuto && o.ProxyMode == modeIPTables {
		return errors.New("--xdp auto: only the eBPF data plane has XDP: leave out either this or --proxy-mode iptables")
	}
	return nil
}
