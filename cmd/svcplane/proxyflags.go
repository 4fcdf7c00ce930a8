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
	Bypass            string
}

// presentName lets command lines and config files that have a flag's former name go on working.
func presentName(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if name == "ebpf-shortcut" {
		name = "ebpf-bypass"
	}
	return pflag.NormalizedName(name)
}

func (o *proxyOptions) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.NodePortAddresses, "node-port-addresses", nil, "address ranges: NodePorts answer on those addresses of this machine that lie in them (default: on --node-ip only)")
	fs.BoolVar(&o.Loopback, "node-port-loopback", false, "make NodePorts answer on 127.0.0.1, too, through a listener in this process")
	fs.BoolVar(&o.ExternalIPs, "external-ips", true, "serve spec.externalIPs of Services; false refuses them with an Event")
	fs.DurationVar(&o.Drain, "proxy-drain-timeout", time.Hour, "how long connections may stay with a data plane after another one has replaced it")
	fs.StringVar(&o.Scheduler, "ebpf-scheduler", ebpf.Random.String(), "how eBPF chooses the endpoint of a new connection: random; round-robin; least-connections (of at most 8 endpoints the one with the fewest open connections); maglev (the same endpoint on every node for the same addresses and ports, except for connections of the node itself, which get any)")
	fs.StringVar(&o.Bypass, "ebpf-bypass", valueAuto, "auto: with eBPF, packets between pods and of Services' clients bypass the node's network stack while it has no rules about them; off: they never do")
	fs.StringVar(&o.XDP, "xdp", valueOff, "auto: with eBPF, packets that source ranges and traffic policies refuse are dropped by XDP, before the kernel allocates anything for them, on outward links whose drivers support it; off: they are dropped later")
	fs.StringVar(&o.Health, "proxy-health-address", "0.0.0.0:10256", "address and port of /healthz and /livez of the Service proxy, which answer as kube-proxy's do; empty: none")
}

// The values of --xdp and --ebpf-bypass.
const (
	valueAuto = "auto"
	valueOff  = "off"
)

func (o *proxyOptions) check(c *server.Config) error {
	p := server.ProxyConfig{NoExternalIPs: !o.ExternalIPs, LoopbackNodePorts: o.Loopback, Drain: o.Drain, XDP: o.XDP == valueAuto, NoBypass: o.Bypass == valueOff}
	if o.XDP != valueAuto && o.XDP != valueOff {
		return fmt.Errorf("--xdp %q: must be auto or off", o.XDP)
	}
	if o.Bypass != valueAuto && o.Bypass != valueOff {
		return fmt.Errorf("--ebpf-bypass %q: must be auto or off", o.Bypass)
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
