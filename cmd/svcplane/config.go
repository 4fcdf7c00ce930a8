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

	"svcplane/diagnose"
	"svcplane/server"
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
	fs.SetNormalizeFunc(presentName)
	usage.Group(fs, "Node", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.NodeName, "node-name", "", "name of this node (default: the name that it had before, else the host's name)")
		fs.StringVar(&o.NodeIP, "node-ip", "", "this node's address, IPv4[,IPv6] (default: the source addresses of the default routes, also when they change)")
		fs.StringVar(&o.Cgroup, "cgroup", "", "cgroup v2 directory whose processes count as this node's (default: the root)")
		fs.StringSliceVar(&o.Disable, "disable", nil, "parts to leave out: dns, ingress, node, proxy")
		o.Node.register(fs)
	})
	usage.Group(fs, "Images", o.Node.registerImages)
	usage.Group(fs, "Eviction", o.Node.registerEviction)
	usage.Group(fs, "Logs of containers", o.Node.registerLogs)
	usage.Group(fs, "Addresses of the cluster", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.ServiceCIDR, "service-cidr", "10.96.0.0/16", "range that ClusterIPs come from, IPv4[,IPv6]")
		fs.StringVar(&o.PodCIDR, "pod-cidr", "10.244.0.0/16", "range that pod addresses come from, IPv4[,IPv6]; with two ranges pods and Services have addresses of both families")
		fs.StringVar(&o.NodePorts, "node-port-range", "30000-32767", "ports that NodePorts come from")
	})
	usage.Group(fs, "API and store", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.API, "api-address", "0.0.0.0:6443", "address and port of the API")
		fs.StringSliceVar(&o.Etcd, "etcd-endpoints", nil, "URLs of an external etcd instead of the embedded one")
	})
	usage.Group(fs, "Service proxy", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.ProxyMode, "proxy-mode", server.ModeAuto, "data plane of Services: ebpf, iptables, or auto (eBPF if a test shows that it works on this machine, else iptables)")
		o.Proxy.register(fs)
	})
	usage.Group(fs, "DNS", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.Domain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
		fs.StringVar(&o.DNSIP, "dns-ip", "10.96.0.10", "address of the cluster's DNS server in the service range, IPv4[,IPv6] (default of the IPv6 one: the tenth of its range)")
		o.DNS.register(fs)
	})
	usage.Group(fs, "Ingress", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.IngressHTTP, "ingress-http", "0.0.0.0:80", "address and port of the ingress for HTTP")
		fs.StringVar(&o.IngressHTTPS, "ingress-https", "0.0.0.0:443", "address and port of the ingress for HTTPS")
		o.Ingress.register(fs)
	})
	usage.Group(fs, "Metrics", o.Metrics.register)
	usage.Group(fs, "Logging", func(fs *pflag.FlagSet) {
		fs.IntVarP(&o.Verbosity, "verbosity", "v", 0, "log level: 0 logs what needs attention, 2 what happens, 4 and more every detail")
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

// check turns Options into a Config without looking at the machine beyond its host name and addresses.
func (o *Options) check(host server.Host) (*server.Config, error) {
	c := &server.Config{
		DataDir: o.DataDir, NodeName: o.NodeName, Domain: strings.TrimSuffix(o.Domain, "."), NodePorts: o.NodePorts,
		Etcd: o.Etcd, Disabled: o.Disable, ProxyMode: o.ProxyMode, Cgroup: o.Cgroup,
	}
	for _, f := range []struct {
		flag, text string
		to         *netip.AddrPort
	}{
		{"api-address", o.API, &c.API},
		{"ingress-http", o.IngressHTTP, &c.HTTP},
		{"ingress-https", o.IngressHTTPS, &c.HTTPS},
	} {
		if err := parseSocket(f.flag, f.text, f.to); err != nil {
			return nil, err
		}
	}
	if err := o.network(c); err != nil {
		return nil, err
	}
	for _, part := range []func(*server.Config) error{o.Ingress.check, o.Proxy.check, o.Node.check, o.Metrics.check, o.DNS.check} {
		if err := part(c); err != nil {
			return nil, err
		}
	}
	if err := o.checkWords(); err != nil {
		return nil, err
	}
	return c, c.Complete(host)
}

// parseSocket reads ADDRESS:PORT.
func parseSocket(flag, text string, to *netip.AddrPort) error {
	var err error
	if *to, err = netip.ParseAddrPort(text); err == nil && to.Port() == 0 {
		err = errors.New("the port must not be 0")
	}
	if err != nil {
		return fmt.Errorf("--%s %q: %w", flag, text, err)
	}
	return nil
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
		if parts := server.OptionalParts; !slices.Contains(parts, part) {
			return fmt.Errorf("--disable %q: can only leave out %s%s", part, strings.Join(parts, ", "), diagnose.Hint(part, parts))
		}
	}
	if !slices.Contains([]string{server.ModeAuto, server.ModeEBPF, server.ModeIPTables}, o.ProxyMode) {
		return fmt.Errorf("--proxy-mode %q: must be auto, ebpf or iptables", o.ProxyMode)
	}
	if o.Cgroup != "" && o.ProxyMode == server.ModeIPTables {
		return errors.New("--cgroup: only the eBPF data plane attaches to a cgroup: leave out either this or --proxy-mode iptables")
	}
	if o.Proxy.XDP == valueAuto && o.ProxyMode == server.ModeIPTables {
		return errors.New("--xdp auto: only the eBPF data plane has XDP: leave out either this or --proxy-mode iptables")
	}
	return nil
}
