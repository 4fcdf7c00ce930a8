package iptables

import (
	"context"
	"errors"
	"fmt"
)

// ForwardChain is chain SVCPLANE-FORWARD and the jump to it, which a Dataplane has, too. By itself it lets pass what another data
// plane forwards, on hosts whose FORWARD chain would drop it (Docker sets its policy to DROP). On a host without rules about
// forwarding it writes nothing.
type ForwardChain struct{ cfg Config }

// NewForwardChain takes the Config of the Dataplane that it stands in for.
func NewForwardChain(cfg Config) ForwardChain {
	if cfg.Mark == 0 {
		cfg.Mark = DefaultMark
	}
	return ForwardChain{cfg}
}

// want is the chain and the jump of an address family.
func (c ForwardChain) want(ipv6 bool) (ruleset, map[chainID][]string) {
	chains, _ := newRenderer(c.cfg, ipv6).static()
	id, from := chainID{filter, chainForward}, chainID{filter, "FORWARD"}
	all := jumps()[from]
	return ruleset{id: chains[id]}, map[chainID][]string{from: all[len(all)-1:]}
}

// each calls f for the rules of each variant and family that has any.
func (c ForwardChain) each(ctx context.Context, f func(t tool, have state) error) error {
	var problems []error
	for _, variant := range []Variant{NFT, Legacy} {
		for _, ipv6 := range families(true) {
			t, err := findTool(variant, ipv6)
			if err != nil || !t.used() {
				continue
			}
			have, err := t.read(ctx)
			if err == nil {
				err = f(t, have)
			}
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// used says whether the kernel has any table of ours, without running a program.
func (t tool) used() bool {
	if t.variant == Legacy {
		return len(t.existing()) > 0
	}
	tables, _, err := t.baseChains()
	return err == nil && (tables[filter] || tables[nat])
}

// needed says whether there are rules about forwarding, and no Dataplane whose own let our packets pass.
func needed(have state) bool {
	_, whole := have.ours[chainID{nat, chainServices}]
	return have.forwarding && !whole
}

// Ensure writes what is missing.
func (c ForwardChain) Ensure(ctx context.Context) error {
	return c.each(ctx, func(t tool, have state) error {
		if !needed(have) {
			return nil
		}
		chains, to := c.want(t.ipv6)
		if err := t.restore(ctx, restoreText(difference(have.ours, chains), have.jumps, to)); err != nil {
			return fmt.Errorf("letting the packets of services pass chain FORWARD: %w", err)
		}
		return nil
	})
}

// Faults are what Ensure would put right.
func (c ForwardChain) Faults(ctx context.Context) ([]string, error) {
	var lines []string
	err := c.each(ctx, func(t tool, have state) error {
		chains, to := c.want(t.ipv6)
		if needed(have) && restoreText(difference(have.ours, chains), have.jumps, to) != "" {
			lines = append(lines, fmt.Sprintf("chain FORWARD of %s may drop packets of services: %s is not as it should be", t.base, chainForward))
		}
		return nil
	})
	return lines, err
}

// Retire leaves of all that a Dataplane has written only what Ensure would write, in one step.
func (c ForwardChain) Retire(ctx context.Context) error {
	err := c.each(ctx, func(t tool, have state) error {
		if !have.forwarding {
			return t.remove(ctx)
		}
		chains, to := c.want(t.ipv6)
		if err := t.restore(ctx, restoreText(difference(have.ours, chains), have.jumps, to)); err != nil {
			return fmt.Errorf("removing svcplane's rules: %w", err)
		}
		return nil
	})
	return errors.Join(err, removeRoutes())
}
