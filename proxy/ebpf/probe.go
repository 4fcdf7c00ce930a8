package ebpf

import (
	"context"
	"fmt"
	"net/netip"

	"svcplane/proxy"
)

// Prove loads and attaches what is not there, and makes a real connection through an address that only the
// programs can translate. It is an error that says what is wrong when that fails. The Table stays as it is.
func (d *Dataplane) Prove(ctx context.Context) error {
	err := d.prove(ctx)
	d.unproven.Store(&err)
	return err
}

// Unproven is what the last probe found wrong.
func (d *Dataplane) Unproven() error {
	if err := d.unproven.Load(); err != nil {
		return *err
	}
	return nil
}

func (d *Dataplane) prove(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := inCgroup(d.cfg.Cgroup); err != nil {
		return err
	}
	if err := d.open(); err != nil {
		return err
	}
	if err := d.surround(); err != nil {
		return err
	}
	there := func(f proxy.Frontend) error {
		return write(d.kernel, correction(newContents(), render(proxy.NewTable(f))))
	}
	away := func(f proxy.Frontend) error {
		err := write(d.kernel, correction(render(proxy.NewTable(f)), newContents()))
		if err != nil {
			d.model = nil
		}
		return err
	}
	if err := proxy.Probe(ctx, netip.AddrFrom4([4]byte{127, 0, 0, 1}), there, away); err != nil {
		return fmt.Errorf("the programs are attached to cgroup %s, but a connection of this process was not as it should be: %w", d.cfg.Cgroup, err)
	}
	return nil
}
