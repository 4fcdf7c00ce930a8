package switchover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
)

// ebpfPlane is the eBPF data plane on a host with netfilter rules of its own: some of them may drop what the programs forward,
// and while there are any about packets in transit, no packet takes the bypass.
type ebpfPlane struct {
	*ebpf.Dataplane
	forward iptables.ForwardChain
}

// Capabilities are those of the programs; Run does more here.
func (p ebpfPlane) Capabilities() proxy.Capabilities {
	can := p.Dataplane.Capabilities()
	can.Runner = p
	return can
}

// Resync writes the rules by which forwarded packets pass, too.
func (p ebpfPlane) Resync(ctx context.Context, table proxy.Table) error {
	if err := p.Dataplane.Resync(ctx, table); err != nil {
		return err
	}
	return errors.Join(p.forward.Ensure(ctx), p.updateBypass())
}

// Act looks whether the rules of the other data plane are gone, which keep packets from the bypass.
func (p ebpfPlane) Act(ctx context.Context, role proxy.Role) error {
	if err := p.Dataplane.Act(ctx, role); err != nil {
		return err
	}
	return p.updateBypass()
}

// Dump notes when rules are missing.
func (p ebpfPlane) Dump(ctx context.Context) (proxy.Table, error) {
	table, err := p.Dataplane.Dump(ctx)
	if err != nil {
		return table, err
	}
	faults, err := p.forward.Faults(ctx)
	table.Faults = append(table.Faults, faults...)
	return table, errors.Join(err, p.updateBypass())
}

// updateBypass lets packets take the bypass while no rule of netfilter is about them. While that cannot be found out, as when
// rules change at this moment, they pass the node's stack, which takes longer and is always right; the next Dump looks again.
func (p ebpfPlane) updateBypass() error {
	who, err := iptables.Bystander()
	if err != nil {
		klog.V(2).InfoS("Packets do not take the bypass: reading the rules of netfilter failed", "err", err)
	}
	return p.Bypass(err == nil && who == "")
}

// rulePause gathers the events of one change of rules.
const rulePause = 50 * time.Millisecond

// Run ends the bypass as soon as there are rules, beside what the programs need. Of legacy iptables there are no events: its
// rules are found by the next Dump.
func (p ebpfPlane) Run(ctx context.Context) error {
	events, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return fmt.Errorf("watching nf_tables: %w", err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		for {
			// an overrun buffer is an event, too
			if _, _, err := events.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	done := make(chan error, 1)
	go func() {
		defer events.Close()
		done <- p.Dataplane.Run(ctx)
	}()
	due := time.NewTimer(rulePause)
	defer due.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-changed:
			due.Reset(rulePause)
		case <-due.C:
			if err := p.updateBypass(); err != nil && ctx.Err() == nil {
				klog.ErrorS(err, "switching the bypass on or off; it is tried again with the next comparison")
			}
		}
	}
}
