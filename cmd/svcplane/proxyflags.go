package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/pflag"

	"svcplane/proxy/ebpf"
	"svcplane/server"
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

// The values of --xdp and --ebpf-shortcut.
const (
	valueAuto = "auto"
	valueOff  = "off"
)

func (o *proxyOptions) check(c *server.Config) error {
	p := server.ProxyConfig{NoExternalIPs: !o.ExternalIPs, LoopbackNodePorts: o.Loopback, Drain: o.Drain, XDP: o.XDP == valueAuto, NoShortcut: o.Shortcut == valueOff}
	if o.XDP != valueAuto && o.XDP != valueOff {
		return fmt.Errorf("--xdp %q: must be auto or off", o.XDP)
	}
	if o.Shortcut != valueAuto && o.Shortcut != valueOff {
		return fmt.Errorf("--ebpf-shortcut %q: must be auto or off", o.Shortcut)
	}
	var err error
	if p.Scheduler, err = ebpf.ParseScheduler(o.Scheduler); err != nil {
		return fmt.Errorf("--ebpf-scheduler %w", err)
	}
	if o.Drain < 0 {
		return fmt.Errorf("--proxy-drain-timeout %s: must not be negative", o.Drain)
	}
	if o.Health != "" {
		if err := parseSocket("proxy-health-address", o.Health, &p.Health); err != nil {
			return err
		}
	}
	for _, text := range o.NodePortAddresses {
		cidr, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("--node-port-addresses %q: must be ranges like 192.0.2.0/24: %w", text, err)
		}
		if cidr.Addr().IsLoopback() {
			return errors.New("--node-port-addresses: loopback addresses are served with --node-port-loopback")
		}
		p.NodePortRanges = append(p.NodePortRanges, cidr)
	}
	c.Proxy = p
	return nil
}
