package ebpf

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

func TestMain(m *testing.M) { proxytest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open makes a data plane for the lab, with the scheduler that SVCPLANE_EBPF_SCHEDULER names for all tests.
func open(t testing.TB, lab *proxytest.Lab) *Dataplane {
	t.Helper()
	scheduler := Random
	if name := os.Getenv("SVCPLANE_EBPF_SCHEDULER"); name != "" {
		var err error
		scheduler, err = ParseScheduler(name)
		must(t, err)
	}
	d, err := New(Config{
		Scheduler: scheduler, Own: lab.Own, PodCIDRs: lab.Node.PodCIDRs, ServiceCIDRs: lab.Node.ServiceCIDRs, Source: lab.Node.Addrs,
		NodePorts: [2]uint16{30000, 32767}, Namespaces: lab.Namespaces(t),
	})
	must(t, err)
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// swept ends flows of the past after each change, as the loop does: a client's port may come again.
type swept struct {
	proxy.Dataplane
	flows interface {
		proxy.Dataplane
		proxy.FlowKeeper
	}
}

func (s swept) Sync(ctx context.Context, c proxy.Change) error {
	return errors.Join(s.Dataplane.Sync(ctx, c), s.sweep(ctx))
}

func (s swept) Resync(ctx context.Context, table proxy.Table) error {
	return errors.Join(s.Dataplane.Resync(ctx, table), s.sweep(ctx))
}

func (s swept) sweep(ctx context.Context) error {
	table, err := s.flows.Dump(ctx)
	if err != nil {
		return err
	}
	_, err = s.flows.EndFlows(ctx, func(f proxy.Flow) bool {
		for _, fe := range table.Frontends {
			if fe.Address == f.Dialled && slices.Contains(fe.Endpoints, proxy.Endpoint{AddrPort: f.Answering}) {
				return false
			}
		}
		return true
	})
	return err
}

func TestContract(t *testing.T) {
	if proxytest.Apart(t) {
		return
	}
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	proxytest.Run(t, lab, swept{d, d})
}

// TestContractOfPackets is for clients whose sockets are not hooked: guests, containers of others. What it takes to
// drop some before they are packets must not be seen by the rest, nor that all others pass the node's stack by.
func TestContractOfPackets(t *testing.T) {
	if proxytest.Apart(t) {
		return
	}
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	d.cfg.XDP = true
	d.cfg.Namespaces = func() ([]string, error) { return nil, nil }
	must(t, d.Resync(t.Context(), proxy.Table{}))
	must(t, d.Bypass(true))
	proxytest.Run(t, lab, swept{d, d})
}

// TestEven: which scheduler it may be, and whether a socket chooses, its packets do, or the one for the other.
func TestEven(t *testing.T) {
	for name, c := range map[string]struct {
		scheduler       Scheduler
		older, unhooked bool
		bypass, whole   bool
	}{
		"random": {whole: true}, "maglev": {scheduler: Maglev}, "round-robin": {scheduler: RoundRobin},
		"least-connections": {scheduler: LeastConnections}, "clsact": {older: true}, "short": {bypass: true, whole: true},
		"packets": {unhooked: true}, "packets, maglev": {unhooked: true, scheduler: Maglev},
	} {
		t.Run(name, func(t *testing.T) {
			if proxytest.Apart(t) {
				return
			}
			lab := proxytest.NewLab(t)
			d := open(t, lab)
			d.cfg.Scheduler, d.cfg.older = c.scheduler, c.older
			if c.unhooked {
				d.cfg.Namespaces = func() ([]string, error) { return nil, nil }
			}
			must(t, d.Resync(t.Context(), proxy.Table{}))
			must(t, d.Bypass(c.bypass))
			proxytest.Even(t, lab, swept{d, d}, c.whole)
		})
	}
}
