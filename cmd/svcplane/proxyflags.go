package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/component-base/metrics/legacyregistry"

	"svcplane/address"
	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/switchover"
)

// proxyOptions are the flags of the Service proxy as they were written.
type proxyOptions struct {
	NodePortAddresses []string
	Health            string
	ExternalIPs       bool
	Loopback          bool
	Drain             time.Duration
	XDP, Scheduler    string
	Shortcut          string
}

func (o *proxyOptions) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.NodePortAddresses, "node-port-addresses", nil, "ranges: NodePorts answer on this machine's addresses in them (default: on --node-ip only)")
	fs.BoolVar(&o.Loopback, "node-port-loopback", false, "NodePorts answer on 127.0.0.1, too, by way of a listener in this process")
	fs.BoolVar(&o.ExternalIPs, "external-ips", true, "serve spec.externalIPs; =false refuses them with an Event")
	fs.DurationVar(&o.Drain, "proxy-drain-timeout", time.Hour, "how long connections may go on with a data plane that another one has replaced")
	fs.StringVar(&o.Scheduler, "ebpf-scheduler", ebpf.Random.String(), "which endpoint a new connection gets with eBPF: random; round-robin; least-connections: of 8 at most, that with the fewest open ones; maglev: the same for the same addresses and ports on every node, but for sockets of the node itself, which get any")
	fs.StringVar(&o.Shortcut, "ebpf-shortcut", valueAuto, "auto: packets between pods, and of Services' clients, pass the node's own stack by while nobody has rules about them (eBPF); off: they never do")
	fs.StringVar(&o.XDP, "xdp", valueOff, "auto: what source ranges and traffic policies drop is dropped before the kernel makes packets of it, on links that lead outward whose drivers can (eBPF); off: with all the rest")
	fs.StringVar(&o.Health, "proxy-health-address", "0.0.0.0:10256", "where /healthz and /livez of the Service proxy answer as kube-proxy's; empty: nowhere")
}

// proxyConfig is the checked form of proxyOptions.
type proxyConfig struct {
	NodePortRanges    []netip.Prefix // none: the node's own addresses
	Health            netip.AddrPort // invalid: nowhere
	NoExternalIPs     bool
	LoopbackNodePorts bool
	Drain             time.Duration
	XDP               bool
	Scheduler         ebpf.Scheduler
	NoShortcut        bool
}

// The values of --xdp and --ebpf-shortcut.
const (
	valueAuto = "auto"
	valueOff  = "off"
)

func (o *proxyOptions) check(host Host) (proxyConfig, error) {
	c := proxyConfig{NoExternalIPs: !o.ExternalIPs, LoopbackNodePorts: o.Loopback, Drain: o.Drain, XDP: o.XDP == valueAuto, NoShortcut: o.Shortcut == valueOff}
	if o.XDP != valueAuto && o.XDP != valueOff {
		return c, fmt.Errorf("--xdp %q: must be auto or off", o.XDP)
	}
	if o.Shortcut != valueAuto && o.Shortcut != valueOff {
		return c, fmt.Errorf("--ebpf-shortcut %q: must be auto or off", o.Shortcut)
	}
	var err error
	if c.Scheduler, err = ebpf.ParseScheduler(o.Scheduler); err != nil {
		return c, fmt.Errorf("--ebpf-scheduler %w", err)
	}
	if o.Drain < 0 {
		return c, fmt.Errorf("--proxy-drain-timeout %s: must not be negative", o.Drain)
	}
	if o.Health != "" {
		if err := parseInto("proxy-health-address", o.Health, &c.Health); err != nil {
			return c, err
		}
	}
	for _, text := range o.NodePortAddresses {
		cidr, err := netip.ParsePrefix(text)
		if err != nil {
			return c, fmt.Errorf("--node-port-addresses %q: must be ranges like 192.0.2.0/24: %w", text, err)
		}
		if cidr.Addr().IsLoopback() {
			return c, errors.New("--node-port-addresses: loopback addresses are served with --node-port-loopback")
		}
		c.NodePortRanges = append(c.NodePortRanges, cidr)
	}
	if now := address.New(address.Config{}, host.Machine).State(); len(c.nodePortAddrs(now)) == 0 && len(c.NodePortRanges) > 0 && !host.Served {
		return c, fmt.Errorf("--node-port-addresses %v: no address of this machine lies in them: choose among %s", o.NodePortAddresses, host.addrTexts())
	}
	return c, nil
}

// nodePortAddrs are the addresses that NodePorts answer on.
func (c *proxyConfig) nodePortAddrs(now address.State) []netip.Addr {
	if len(c.NodePortRanges) == 0 {
		return now.Node
	}
	var all []netip.Addr
	for _, r := range c.NodePortRanges {
		for _, a := range now.Machine {
			if r.Contains(a) && !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

func (h *house) addProxy(services *catalog.Catalog, planes *switchover.Switch) error {
	cfg := proxy.Config{
		Catalog: services, Dataplane: planes, Recorder: h.recorder("svcplane-proxy"), Metrics: proxy.NewMetrics(),
		Health: h.cfg.Proxy.Health, LoopbackNodePorts: h.cfg.Proxy.LoopbackNodePorts,
		Nodes: h.api.Informers().Core().V1().Nodes().Informer(),
		Node: proxy.Node{
			Name: h.cfg.NodeName, Addrs: h.cfg.Proxy.nodePortAddrs(h.addresses.State()), NoExternalIPs: h.cfg.Proxy.NoExternalIPs,
			PodCIDRs: h.cfg.PodCIDRs, ServiceCIDRs: h.cfg.ServiceCIDRs, Own: h.cfg.listeners(),
		},
	}
	p, err := proxy.New(cfg)
	if err != nil {
		return err
	}
	legacyregistry.RawMustRegister(cfg.Metrics) // there is one server per process
	legacyregistry.RawMustRegister(planes)
	h.adminProxy(p)
	h.admin.handle("GET /proxy/explain", func(r *http.Request) (any, error) { return h.explainDial(r, p) })
	adminSwitch(h.admin, planes, h.cfg.Proxy.Drain)
	h.add("proxy", proxyPart{p, planes})
	h.mode = planes.Mode()
	h.addresses.Follow("the data plane", func(ctx context.Context, now address.State) error { return planes.SetSource(ctx, now.Node) })
	h.addresses.Follow("NodePorts", func(ctx context.Context, now address.State) error {
		return p.SetAddrs(ctx, h.cfg.Proxy.nodePortAddrs(now))
	})
	return nil
}
