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

// gated is programs on a host with rules of its own: some may drop what the programs forward, and while there are any
// about what passes through, everything passes them.
type gated struct {
	*ebpf.Dataplane
	gate iptables.Gate
}

// Resync sees to the rules that let packets pass, too.
func (g gated) Resync(ctx context.Context, table proxy.Table) error {
	if err := g.Dataplane.Resync(ctx, table); err != nil {
		return err
	}
	return errors.Join(g.gate.Ensure(ctx), g.heed())
}

// Act sees whether the rules of the other one are gone.
func (g gated) Act(ctx context.Context, role proxy.Role) error {
	if err := g.Dataplane.Act(ctx, role); err != nil {
		return err
	}
	return g.heed()
}

// Dump notes when rules are missing.
func (g gated) Dump(ctx context.Context) (proxy.Table, error) {
	table, err := g.Dataplane.Dump(ctx)
	if err != nil {
		return table, err
	}
	faults, err := g.gate.Faults(ctx)
	table.Faults = append(table.Faults, faults...)
	return table, errors.Join(err, g.heed())
}

// heed lets packets take the short way when nobody wants to see them. Where that cannot be found out, as while rules
// change, somebody may; nothing but time is lost by the other way, and it is looked again with the next Dump.
func (g gated) heed() error {
	who, err := iptables.Bystander()
	if err != nil {
		klog.V(2).InfoS("Packets take the long way", "err", err)
	}
	return g.Bypass(err == nil && who == "")
}

// ruleSettle gathers the events of one change of rules.
const ruleSettle = 50 * time.Millisecond

// Run heeds rules as soon as they come, beside what the programs need. Legacy iptables tells nobody: its rules are
// found by the next Dump.
func (g gated) Run(ctx context.Context) error {
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
		done <- g.Dataplane.Run(ctx)
	}()
	due := time.NewTimer(ruleSettle)
	defer due.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-changed:
			due.Reset(ruleSettle)
		case <-due.C:
			if err := g.heed(); err != nil && ctx.Err() == nil {
				klog.ErrorS(err, "changing the way that packets take; it is tried again with the next comparison")
			}
		}
	}
}
