package main

import (
	"context"
	"errors"
	"fmt"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/klog/v2"

	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
)

// The values of --proxy-mode.
const (
	modeAuto     = "auto"
	modeIPTables = "iptables"
	modeEBPF     = "ebpf"
)

// plane is the data plane of this process.
type plane struct {
	proxy.Dataplane
	mode string
	// other removes what a process with the other mode has left.
	other func(context.Context) error
}

// openPlane makes the data plane that the flags ask for. It fails where that cannot work on this machine.
func openPlane(ctx context.Context, cfg *Config) (*plane, error) {
	if cfg.ProxyMode != modeEBPF {
		return openIPTables(cfg)
	}
	d, err := openEBPF(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("--proxy-mode ebpf: %w; --proxy-mode iptables works without", err)
	}
	return &plane{Dataplane: d, mode: modeEBPF, other: iptables.Cleanup}, nil
}

func openIPTables(cfg *Config) (*plane, error) {
	d, err := iptables.New(iptables.Config{
		PodCIDRs: cfg.PodCIDRs, ServiceCIDRs: cfg.ServiceCIDRs, Source: cfg.NodeIP(), IPv6: hasIPv6(),
	})
	if err != nil {
		return nil, err
	}
	return &plane{Dataplane: d, mode: modeIPTables, other: func(context.Context) error { return ebpf.Cleanup("") }}, nil
}

// openEBPF takes nothing away when it fails: what an earlier process left goes on.
func openEBPF(ctx context.Context, cfg *Config) (*ebpf.Dataplane, error) {
	ports, err := utilnet.ParsePortRange(cfg.NodePorts)
	if err != nil {
		return nil, fmt.Errorf("--node-port-range %q: %w", cfg.NodePorts, err)
	}
	d, err := ebpf.New(ebpf.Config{
		Cgroup: cfg.Cgroup, PodCIDRs: cfg.PodCIDRs, ServiceCIDRs: cfg.ServiceCIDRs,
		Source: cfg.NodeIPs, NodePorts: [2]uint16{uint16(ports.Base), uint16(ports.Base + ports.Size - 1)},
	})
	if err != nil {
		return nil, err
	}
	if err := d.Prove(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// proxyPart runs the proxy together with what its data plane has to run.
type proxyPart struct {
	*proxy.Proxy
	plane *plane
}

func (p proxyPart) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	runs := []func(context.Context) error{p.Proxy.Run, p.clear}
	if runner, ok := p.plane.Dataplane.(interface{ Run(context.Context) error }); ok {
		runs = append(runs, runner.Run)
	}
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

// clear removes the other data plane once this one serves.
func (p proxyPart) clear(ctx context.Context) error {
	select {
	case <-p.Ready():
	case <-ctx.Done():
		return nil
	}
	if err := p.plane.other(ctx); err != nil && ctx.Err() == nil {
		klog.ErrorS(err, "removing what another --proxy-mode has left; `svcplane cleanup` tries again")
	}
	return nil
}

// Figure says also what is wrong.
func (p proxyPart) Figure() string {
	figure := p.Proxy.Figure() + ", " + p.plane.mode
	if d, ok := p.plane.Dataplane.(*ebpf.Dataplane); ok && d.Problem() != "" {
		figure += " (" + d.Problem() + ")"
	}
	return figure
}
