package switchover

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"svcplane/proxy"
)

// pollShare is how many times longer than a look at the connections the pause after it is at least.
const pollShare = 20

// Run drains what is on its way out, and runs what the data planes have to run, until ctx ends. The kernel keeps
// everything.
func (s *Switch) Run(ctx context.Context, loop Loop) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.runner.open(ctx)
	defer s.runner.wait()
	current, other := s.members()
	s.mu.Lock()
	s.loop = loop
	s.mu.Unlock()
	s.runner.start(current)
	if other != nil {
		s.runner.start(other)
	}
	select {
	case <-loop.Ready():
	case err := <-s.runner.failed:
		return err
	case <-ctx.Done():
		return nil
	}
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.runner.failed:
			return err
		case <-poll.C:
			s.fallBack(ctx)
			began := time.Now()
			if err := s.look(ctx); err != nil && ctx.Err() == nil {
				klog.ErrorS(err, "looking after the data plane that is on its way out; it is tried again")
			}
			pause := max(s.cfg.Poll, pollShare*time.Since(began))
			if _, other := s.members(); other == nil {
				pause = s.cfg.Poll // it was the removal that took the time
			}
			poll.Reset(pause)
		}
	}
}

// look counts the connections that are left, and removes a data plane that has none or whose time is over.
func (s *Switch) look(ctx context.Context) error {
	if !s.moving.TryLock() {
		return nil // it is about to change
	}
	defer s.moving.Unlock()
	current, other := s.members()
	if other == nil {
		return nil
	}
	if other.stale.Load() {
		if err := s.loop.Exclusively(func(wanted proxy.Table) error { s.refresh(ctx, other, wanted); return nil }); err != nil {
			return err
		}
	}
	if err := s.roles(ctx, current, other); err != nil {
		return err
	}
	left, err := other.plane.Left(ctx, s.loop.Table())
	if err != nil {
		return fmt.Errorf("counting the connections of %s: %w", other.name, err)
	}
	s.mu.Lock()
	s.left = left
	over := !time.Now().Before(s.state.Until)
	s.mu.Unlock()
	if left > 0 && !over {
		return nil
	}
	return s.loop.Exclusively(func(proxy.Table) error { return s.finish(ctx, current, other, left) })
}

// finish removes the data plane that does not serve any more.
func (s *Switch) finish(ctx context.Context, current, other *member, left int) error {
	ctx = context.WithoutCancel(ctx) // half of it would be a fault
	if keeper := other.plane.Capabilities().Flows; keeper != nil && left > 0 {
		// who is left learns it by an error, and not by silence
		need := func(f proxy.Flow) bool { return !f.Socket || f.Dialled.Protocol != corev1.ProtocolTCP }
		if _, err := keeper.EndFlows(ctx, need); err != nil {
			return err
		}
	}
	// the kind knows of more than the one that is open: iptables has two stores of rules
	if err := errors.Join(s.drop(ctx, other), s.cfg.Kinds[other.name].Cleanup(ctx)); err != nil {
		other.stale.Store(true)
		s.runner.start(other)
		return err
	}
	s.mu.Lock()
	s.other, s.phase, s.left = nil, Settled, 0
	s.state.Draining, s.state.Until = "", time.Time{}
	after := s.state
	s.mu.Unlock()
	klog.V(2).InfoS("A data plane is gone", "dataPlane", other.name, "connectionsLeft", left)
	return errors.Join(current.plane.Act(ctx, proxy.Sole), after.write(s.cfg.File))
}

// fallBack puts the last of the configured data planes in place of one that is not in the path any more, or that a
// Service needs more of than it can do.
func (s *Switch) fallBack(ctx context.Context) {
	current, _ := s.members()
	last := s.cfg.Modes[len(s.cfg.Modes)-1]
	if len(s.cfg.Modes) < 2 || current.name == last {
		return
	}
	s.mu.Lock()
	chosen := s.state.Chosen
	s.mu.Unlock()
	var reason error
	if unfit := current.unfit.Load(); unfit != nil {
		reason, chosen = *unfit, last // the Service will be there after a restart, too
	} else if reason = s.doubt(ctx, current); reason == nil || ctx.Err() != nil {
		return
	}
	klog.ErrorS(reason, "a data plane cannot go on serving", "dataPlane", current.name, "instead", last)
	if err := s.to(ctx, last, s.cfg.Drain, chosen, fmt.Sprintf("not %s: %v", current.name, reason)); err != nil && ctx.Err() == nil {
		klog.ErrorS(err, "nothing takes its place; it is tried again")
	}
}

// doubt is what keeps a data plane from serving that has proven itself before.
func (s *Switch) doubt(ctx context.Context, current *member) error {
	monitor := current.plane.Capabilities().Monitor
	if monitor == nil || monitor.Unproven() == nil {
		return nil
	}
	return s.prove(ctx, current) // it may have been a moment of the machine's
}
