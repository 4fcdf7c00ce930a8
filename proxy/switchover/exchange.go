package switchover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"svcplane/proxy"
)

// provePause is the time between two attempts.
const provePause = 200 * time.Millisecond

// ErrServes says that the data plane serves already.
var ErrServes = errors.New("it serves already")

// To makes the named data plane serve and leaves the connections of the other one to it for the time drain. When it
// returns an error, the other one serves as before. During a drain the only way is back.
func (s *Switch) To(ctx context.Context, name string, drain time.Duration) error {
	return s.to(ctx, name, drain, name, "")
}

// to remembers what is chosen, and says the reason for it.
func (s *Switch) to(ctx context.Context, name string, drain time.Duration, chosen, reason string) error {
	if !s.switching.CompareAndSwap(false, true) {
		return fmt.Errorf("switching to %s: another switch is under way: see `svcplane status` and try again", name)
	}
	defer s.switching.Store(false)
	s.moving.Lock()
	defer s.moving.Unlock()
	current, next := s.members()
	if s.running() == nil || !current.acts.Load() {
		return fmt.Errorf("switching to %s: the proxy has not started yet: try again", name)
	}
	if current.name == name {
		return fmt.Errorf("switching to %s: %w", name, ErrServes)
	}
	err := s.exchange(ctx, step{from: current, to: next, drain: drain, chosen: chosen, reason: reason}, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = ""
	if err != nil {
		s.problem = fmt.Sprintf("switching to %s failed: %v", name, err)
		return fmt.Errorf("switching to %s, %s serves as before: %w", name, s.current.name, err)
	}
	s.reason = reason
	klog.V(2).InfoS("Another data plane serves", "dataPlane", name)
	return nil
}

func (s *Switch) running() Loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loop
}

// step gives new connections to another data plane.
type step struct {
	from, to *member
	since    time.Time // the next one knows the clients with session affinity that came before
	drain    time.Duration
	chosen   string // what a restart is to open, whatever is configured
	reason   string
}

// exchange is To; there.to is nil unless it was on its way out.
func (s *Switch) exchange(ctx context.Context, there step, name string) error {
	s.mu.Lock()
	current, next := there.from, there.to
	there.since = s.flipped
	back := step{from: next, to: current, drain: there.drain, chosen: s.state.Chosen, reason: s.state.Reason}
	s.mu.Unlock()
	if next == nil {
		var err error
		if next, err = s.open(ctx, name); err != nil {
			return err
		}
		there.to, there.since, back.from = next, time.Time{}, next
	}
	if err := s.prepare(ctx, next); err != nil {
		return errors.Join(err, s.giveUp(ctx, next))
	}
	if err := s.flip(ctx, there); err != nil {
		return errors.Join(err, s.giveUp(ctx, next))
	}
	if err := s.prove(ctx, next); err != nil {
		back.since = time.Now()
		return errors.Join(fmt.Errorf("it took new connections, and then: %w", err), s.flip(context.WithoutCancel(ctx), back))
	}
	left, err := current.plane.Left(ctx, s.loop.Table())
	if err != nil {
		return nil // who drains it counts again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = left
	return nil
}

// prepare gives a data plane the table and proves it; it takes no connections yet.
func (s *Switch) prepare(ctx context.Context, next *member) error {
	s.mu.Lock()
	if s.other == nil {
		s.phase = Proving
	}
	s.mu.Unlock()
	err := s.loop.Exclusively(func(wanted proxy.Table) error {
		if err := next.plane.Resync(ctx, wanted); err != nil {
			return err
		}
		have, err := next.plane.Dump(ctx)
		if err != nil {
			return fmt.Errorf("reading back what it has in force: %w", err)
		}
		if lines := wanted.Diff(have); len(lines) > 0 {
			return fmt.Errorf("what it has in force differs from what is wanted in %d lines, first %s", len(lines), lines[0])
		}
		next.acts.Store(true)
		next.stale.Store(false)
		s.mu.Lock()
		s.other = next // from now on it gets changes
		s.mu.Unlock()
		return nil
	})
	if err != nil {
		return err
	}
	s.runner.start(next)
	return s.prove(ctx, next)
}

// prove tries until the time for it is over: what fails once may be a moment of the machine's.
func (s *Switch) prove(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Proof)
	defer cancel()
	for {
		err := s.loop.Exclusively(func(proxy.Table) error { return m.plane.Prove(ctx) })
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(provePause):
		}
	}
}

// giveUp removes a data plane that never served; one that was on its way out goes on with that.
func (s *Switch) giveUp(ctx context.Context, next *member) error {
	s.mu.Lock()
	draining := s.phase == Draining
	s.mu.Unlock()
	if draining {
		return nil
	}
	err := s.loop.Exclusively(func(proxy.Table) error { return s.drop(context.WithoutCancel(ctx), next) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.other = Settled, nil
	return err
}

// flip gives new connections from one to the other.
func (s *Switch) flip(ctx context.Context, st step) error {
	return s.loop.Exclusively(func(wanted proxy.Table) error {
		if st.to.stale.Load() {
			return errors.New("it missed a change: try again")
		}
		began := time.Now()
		if err := s.carryOver(ctx, wanted, st.from, st.to, st.since); err != nil {
			return err
		}
		s.mu.Lock()
		before := s.state
		s.state = state{Chosen: st.chosen, Asked: asked(s.cfg.Modes), Reason: st.reason, Draining: st.from.name, Until: time.Now().Add(st.drain)}
		after := s.state
		s.mu.Unlock()
		if err := after.write(s.cfg.File); err != nil {
			return s.revert(before, err)
		}
		if err := s.roles(ctx, st.to, st.from); err != nil {
			return s.revert(before, errors.Join(err, s.roles(context.WithoutCancel(ctx), st.from, st.to)))
		}
		s.mu.Lock()
		s.current, s.other, s.phase, s.flipped, s.left = st.to, st.from, Draining, time.Now(), 0
		s.mu.Unlock()
		if err := s.carryOver(ctx, wanted, st.from, st.to, began); err != nil {
			klog.ErrorS(err, "clients with session affinity that came during the switch may get another endpoint")
		}
		return nil
	})
}

// revert puts the file back to what it was.
func (s *Switch) revert(before state, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = before
	return errors.Join(err, before.write(s.cfg.File))
}
