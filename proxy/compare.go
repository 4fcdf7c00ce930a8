package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"
)

// overtaken is how often changes may overtake a comparison before one holds them up.
const overtaken = 5

// errOvertaken says that something was written to the kernel while it was read.
var errOvertaken = errors.New("services changed while the kernel was read: ask again")

// Diff compares the kernel with what is wanted: a line for each difference, none when it is the same.
func (p *Proxy) Diff(ctx context.Context) ([]string, error) {
	lines, _, err := p.diff(ctx)
	return lines, err
}

// Repair puts right what Diff finds, and returns it.
func (p *Proxy) Repair(ctx context.Context) ([]string, error) {
	for range overtaken {
		lines, version, err := p.diff(ctx)
		if err != nil || len(lines) == 0 {
			return lines, err
		}
		p.mu.Lock()
		if p.version == version {
			defer p.mu.Unlock()
			return lines, p.resync(ctx)
		}
		p.mu.Unlock()
	}
	return nil, errOvertaken
}

// Exclusively runs f with the wanted Table while the Proxy changes nothing in the kernel.
func (p *Proxy) Exclusively(f func(wanted Table) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version++ // a comparison that runs meanwhile does not count
	return f(p.ledger.table())
}

// resync writes the whole table; p.mu is held.
func (p *Proxy) resync(ctx context.Context) error {
	if err := p.cfg.Dataplane.Resync(ctx, p.ledger.table()); err != nil {
		return fmt.Errorf("repairing the kernel's rules: %w", err)
	}
	p.cfg.Metrics.repairs.Inc()
	return nil
}

// diff reads the kernel while changes go on, because reading a large one takes seconds, and looks again when
// there were some. After that has happened a few times it holds them up.
func (p *Proxy) diff(ctx context.Context) (lines []string, version uint64, err error) {
	for range overtaken {
		p.mu.Lock()
		version = p.version
		wanted := p.ledger.frontends()
		p.mu.Unlock()
		have, err := p.cfg.Dataplane.Dump(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("reading the kernel's rules: %w", err)
		}
		p.mu.Lock()
		same := p.version == version
		p.mu.Unlock()
		if same {
			return NewTable(wanted...).Diff(have), version, nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	have, err := p.cfg.Dataplane.Dump(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the kernel's rules: %w", err)
	}
	return p.ledger.table().Diff(have), p.version, nil
}

// compare repairs drift and logs what it was.
func (p *Proxy) compare(ctx context.Context) {
	lines, err := p.Repair(ctx)
	switch {
	case ctx.Err() != nil, errors.Is(err, errOvertaken):
	case err != nil:
		p.cfg.Metrics.failures.Inc()
		klog.ErrorS(err, "comparing the kernel with what is wanted; it is tried again", "period", p.cfg.ComparePeriod)
	case len(lines) > 0:
		klog.InfoS("repaired rules that somebody changed", "differences", len(lines), "first", lines[0])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweepFlows(ctx)
	p.observePorts(p.ledger.keys())
	p.notices.report(p.cfg.Recorder, time.Now())
}
