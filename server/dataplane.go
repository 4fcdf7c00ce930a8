package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
	"svcplane/proxy/switchover"
)

// openPlanes opens the data plane that a switch has chosen, or else the one that the flags ask for. It fails where
// that cannot work on this machine, and takes nothing away then: what an earlier process left goes on.
func openPlanes(ctx context.Context, cfg *Config) (*switchover.Switch, error) {
	modes := []string{cfg.ProxyMode}
	if cfg.ProxyMode == ModeAuto {
		modes = []string{ModeEBPF, ModeIPTables}
	}
	planes, err := kinds(cfg)
	if err != nil {
		return nil, err
	}
	s, err := switchover.New(ctx, switchover.Config{
		Kinds: planes, Modes: modes, File: filepath.Join(cfg.DataDir, "proxy.json"), Drain: cfg.Proxy.Drain,
	})
	if err != nil && cfg.ProxyMode == ModeEBPF {
		return nil, fmt.Errorf("--proxy-mode ebpf: %w; --proxy-mode iptables works without", err)
	}
	return s, err
}

// kinds are the data planes that there are.
func kinds(cfg *Config) (map[string]switchover.Kind, error) {
	ports, err := utilnet.ParsePortRange(cfg.NodePorts)
	if err != nil {
		return nil, fmt.Errorf("--node-port-range %q: %w", cfg.NodePorts, err)
	}
	return switchover.Kinds(
		iptables.Config{PodCIDRs: cfg.PodCIDRs, ServiceCIDRs: cfg.ServiceCIDRs, Source: cfg.NodeIPs, Own: cfg.listeners(), IPv6: hasIPv6()},
		ebpf.Config{
			Cgroup: cfg.Cgroup, Own: cfg.listeners(), PodCIDRs: cfg.PodCIDRs, ServiceCIDRs: cfg.ServiceCIDRs, Source: cfg.NodeIPs,
			XDP: cfg.Proxy.XDP, NoBypass: cfg.Proxy.NoBypass, Scheduler: cfg.Proxy.Scheduler, NodePorts: [2]uint16{uint16(ports.Base), uint16(ports.Base + ports.Size - 1)},
		}), nil
}

// proxyPart runs the proxy together with its data planes.
type proxyPart struct {
	*proxy.Proxy
	planes *switchover.Switch
}

func (p proxyPart) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	runs := []func(context.Context) error{p.Proxy.Run, func(ctx context.Context) error { return p.planes.Run(ctx, p.Proxy) }}
	done := make(chan error, len(runs))
	for _, run := range runs {
		go func() { done <- run(ctx) }()
	}
	var problems []error
	for range runs {
		if err := <-done; err != nil {
			problems = append(problems, err)
			cancel()
		}
	}
	return errors.Join(problems...)
}

// Figure says also who serves, and what is wrong.
func (p proxyPart) Figure() string { return p.Proxy.Figure() + ", " + p.planes.Status().String() }
