package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"svcplane/listeners"
	"svcplane/proxy"
)

// DefaultMark is the bit set on packets to be masqueraded. kube-proxy's are 0x4000 and 0x8000.
const DefaultMark = 0x2000

// Config says what a Dataplane works with.
type Config struct {
	// Mark is the bit of the packet mark that is ours; DefaultMark when zero.
	Mark uint32
	// PodCIDRs tell pods from other clients; ServiceCIDRs are where an address without a Service is refused.
	PodCIDRs     []netip.Prefix
	ServiceCIDRs []netip.Prefix
	// Source are the node's addresses, at most one of a family: packets that it sends to ServiceCIDRs carry them. The
	// kernel chooses where there is none.
	Source []netip.Addr
	// Own are svcplane's own listeners: what comes for them is not translated, whatever Frontends say.
	Own listeners.Set
	// IPv6 programs ip6tables also. Without it a Frontend with an IPv6 address is an error.
	IPv6 bool
	// Variant is found out when empty.
	Variant Variant
}

// Dataplane writes iptables rules into the network namespace of the calling process.
type Dataplane struct {
	cfg      Config
	source   atomic.Pointer[[]netip.Addr]
	routing  sync.Mutex // held while routes are made: the newest source is what stays
	families []*family
	meters   *meters
}

type family struct {
	tool
	meters *meters
	render renderer // the model's; read without asking who writes
	model  *model
}

var _ proxy.Exchangeable = (*Dataplane)(nil)

// Capabilities leave out what the kernel's connection table does for rules: flows are ended and counted there.
func (d *Dataplane) Capabilities() proxy.Capabilities {
	return proxy.Capabilities{Affinity: d, Explainer: d, Leftovers: d, Metrics: d}
}

// New finds the programs and fails when there are none, or when both variants hold rules of others. It
// changes nothing in the kernel.
func New(cfg Config) (*Dataplane, error) {
	if cfg.Mark == 0 {
		cfg.Mark = DefaultMark
	}
	if cfg.Mark&(cfg.Mark-1) != 0 || cfg.Mark == 0x4000 || cfg.Mark == 0x8000 {
		return nil, fmt.Errorf("using packet mark 0x%x: it must be a single bit, and not 0x4000 or 0x8000, which are kube-proxy's", cfg.Mark)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if cfg.Variant == "" {
		var err error
		if cfg.Variant, err = detect(ctx); err != nil {
			return nil, err
		}
	}
	d := &Dataplane{cfg: cfg, meters: &meters{}}
	d.source.Store(&cfg.Source)
	for _, ipv6 := range families(cfg.IPv6) {
		t, err := findTool(cfg.Variant, ipv6)
		if err != nil {
			return nil, err
		}
		random, err := t.randomFully()
		if err != nil {
			return nil, err
		}
		render := newRenderer(cfg, ipv6)
		render.randomFully, render.loopMatch = random, t.matchesLoops(ctx)
		d.families = append(d.families, &family{tool: t, meters: d.meters, render: render, model: newModel(render)})
	}
	return d, nil
}

func newRenderer(cfg Config, ipv6 bool) renderer {
	r := renderer{ipv6: ipv6, mark: cfg.Mark}
	of := func(all []netip.Prefix) (kept []netip.Prefix) {
		for _, p := range all {
			if p.Addr().Is4() != ipv6 {
				kept = append(kept, p.Masked())
			}
		}
		return kept
	}
	r.podCIDRs, r.serviceCIDR = of(cfg.PodCIDRs), of(cfg.ServiceCIDRs)
	r.own = r.spare(cfg.Own)
	return r
}

// Variant is the store of rules that is in use.
func (d *Dataplane) Variant() Variant { return d.cfg.Variant }

// supported names the first Frontend that this data plane cannot do.
func (d *Dataplane) supported(frontends []proxy.Frontend) error {
	for _, f := range frontends {
		if f.Addr().Is6() && !d.cfg.IPv6 {
			return fmt.Errorf("service %s has the IPv6 address %s, and this node has IPv6 off: give the server IPv6 CIDRs, or the service an IPv4 address", f.Origin(), f.Addr())
		}
		if _, ok := protocolDigits[f.Protocol]; !ok {
			return fmt.Errorf("service %s has the protocol %s: iptables serves TCP, UDP and SCTP", f.Origin(), f.Protocol)
		}
	}
	return nil
}

// Sync applies one change with one iptables-restore for each address family that it concerns.
func (d *Dataplane) Sync(ctx context.Context, change proxy.Change) error {
	if err := d.supported(change.Set); err != nil {
		return err
	}
	for i, f := range d.families {
		inverse := f.model.apply(change)
		if inverse.Empty() {
			continue
		}
		if err := f.sync(ctx); err != nil {
			f.model.apply(inverse)
			f.model.forget()
			// what an earlier family took already goes back with the next change or comparison
			for _, earlier := range d.families[:i] {
				earlier.model.forget()
			}
			return fmt.Errorf("changing %s: %w", describe(change), err)
		}
	}
	return nil
}

func describe(change proxy.Change) string {
	if len(change.Set) == 1 && len(change.Remove) == 0 {
		return "the rules of " + change.Set[0].Origin()
	}
	return fmt.Sprintf("the rules of %d frontends", len(change.Set)+len(change.Remove))
}

// sync writes what the model has pending, or, after a failure left the kernel's state unknown, what differs.
func (f *family) sync(ctx context.Context) error {
	if f.model.written == nil {
		return f.resync(ctx)
	}
	changed := f.model.pending()
	fresh := func(id chainID) bool { _, there := f.model.written[id]; return !there }
	early, rest := f.staged(changed, fresh, nil)
	f.meters.wrote(f.variant)
	if err := f.restore(ctx, early+restoreText(rest, nil, nil)); err != nil {
		i, _ := f.number()
		f.meters.partial[i].Add(1)
		return err
	}
	f.model.confirm(changed)
	return nil
}

// Resync makes the kernel hold exactly table.
func (d *Dataplane) Resync(ctx context.Context, table proxy.Table) error {
	if err := d.supported(table.Frontends); err != nil {
		return err
	}
	if err := d.route(); err != nil {
		return err
	}
	for _, f := range d.families {
		before := f.model
		f.model = modelOf(f.render, table)
		if err := f.resync(ctx); err != nil {
			f.model = before
			f.model.forget()
			return fmt.Errorf("programming %d frontends: %w", len(table.Frontends), err)
		}
	}
	return nil
}

// SetSource follows the node's addresses. It changes nothing where nothing is in force.
func (d *Dataplane) SetSource(_ context.Context, source []netip.Addr) error {
	d.source.Store(&source)
	if _, err := netlink.LinkByName(routeLink); errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	return d.route()
}

func (d *Dataplane) route() error {
	d.routing.Lock()
	defer d.routing.Unlock()
	return ensureRoutes(d.cfg.ServiceCIDRs, *d.source.Load())
}

func (f *family) resync(ctx context.Context) error {
	have, err := f.read(ctx)
	if err != nil {
		return err
	}
	marks, err := f.missingBase(have)
	if err != nil {
		return err
	}
	want := f.model.all()
	changed := difference(have.ours, want)
	fresh := func(id chainID) bool { _, there := have.ours[id]; return !there }
	early, rest := f.staged(changed, fresh, marks)
	f.meters.wrote(f.variant)
	if err := f.restore(ctx, early+restoreText(rest, have.jumps, jumps())); err != nil {
		i, _ := f.number()
		f.meters.full[i].Add(1)
		return err
	}
	f.model.forget()
	f.model.confirm(want)
	return nil
}

// Dump reads the rules back into Frontends; whatever does not follow from those is a fault.
func (d *Dataplane) Dump(ctx context.Context) (proxy.Table, error) {
	var all []proxy.Frontend
	var faults []string
	for _, f := range d.families {
		have, err := f.read(ctx)
		if err != nil {
			return proxy.Table{}, err
		}
		d.meters.holds(f.tool, have.ours)
		if len(have.ours) == 0 && len(have.jumps) == 0 {
			continue
		}
		found := frontendsIn(have.ours)
		all = append(all, found...)
		faults = append(faults, f.faults(have, modelOf(f.render, proxy.NewTable(found...)))...)
	}
	table := proxy.NewTable(all...)
	table.Faults = faults
	return table, nil
}

// Close removes every trace from the kernel.
func (d *Dataplane) Close(ctx context.Context) error {
	var problems []error
	for _, f := range d.families {
		problems = append(problems, f.remove(ctx))
		f.model = newModel(f.render)
	}
	return errors.Join(append(problems, removeRoutes())...)
}

// Cleanup removes every trace of any Dataplane from the kernel, of both variants and address families, also
// when none is running. Programs that are not installed have left nothing.
func Cleanup(ctx context.Context) error {
	var problems []error
	for _, variant := range []Variant{NFT, Legacy} {
		for _, ipv6 := range families(true) {
			if t, err := findTool(variant, ipv6); err == nil {
				problems = append(problems, t.remove(ctx))
			}
		}
	}
	return errors.Join(append(problems, removeRoutes())...)
}
