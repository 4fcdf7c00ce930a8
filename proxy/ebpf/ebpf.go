package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"svcplane/listeners"
	"svcplane/proxy"
)

// Config says what a Dataplane works with.
type Config struct {
	// Cgroup is the cgroup v2 folder whose processes are served at the socket; the root of the hierarchy when empty.
	Cgroup string
	// PodCIDRs tell pods from other clients; ServiceCIDRs are where an address without a Service is refused.
	PodCIDRs     []netip.Prefix
	ServiceCIDRs []netip.Prefix
	// Source are the node's addresses that masqueraded clients get: at most one of a family.
	Source []netip.Addr
	// Own are svcplane's own listeners: what dials them is not translated, whatever Frontends say.
	Own listeners.Set
	// NodePorts are the first and last port that a program of the node may not take when a Service has it.
	NodePorts [2]uint16
	// Draining makes a start where no earlier process has left anything leave new connections to others, until Act.
	Draining bool
	// Namespaces lists files of network namespaces that may be pods' of this node; PodNamespaces when nil.
	Namespaces func() ([]string, error)
	// Scheduler says which endpoint a client gets.
	Scheduler Scheduler
	// NoBypass has all packets pass the node's own stack, whatever the method Bypass is called with.
	NoBypass bool
	// XDP drops what may not reach a Service before the kernel makes packets of it, where drivers can.
	XDP bool
	// older does without tcx and bpf_set_retval, for tests of what kernels get that have neither
	older bool
}

// Dataplane keeps programs and maps in the kernel for the network namespace of the calling process. It is safe
// for concurrent use.
type Dataplane struct {
	cfg Config
	// cgroup is open as long as the Dataplane is used, where Config.Cgroup names it
	cgroup *os.File

	mu     sync.Mutex
	kernel *kernel     // nil until the first Resync
	store  store       // the kernel
	model  *model      // nil when it is not known what the kernel holds
	role   *proxy.Role // nil until the programs are loaded
	// bypass is what was written to the programs' settings last
	bypass bypass
	fault  func(store) store
	// draining is since when it has been, patience for how long after that answers may come to those who asked before
	draining time.Time
	patience time.Duration
	quiet    map[counterKey]counters // of the past, as the last look found them

	problem  atomic.Pointer[string] // what Run found
	unproven atomic.Pointer[error]  // what the last probe found
	noXDP    atomic.Pointer[string] // which devices have none, and why
}

var _ proxy.Exchangeable = (*Dataplane)(nil)

// Capabilities are all but finding another proxy's leftovers, which programs do not meet.
func (d *Dataplane) Capabilities() proxy.Capabilities {
	return proxy.Capabilities{Runner: d, Monitor: d, Flows: d, Counters: d, Affinity: d, Explainer: d, Metrics: d}
}

// New checks cfg and finds the cgroup. It changes nothing in the kernel.
func New(cfg Config) (*Dataplane, error) {
	if cfg.Namespaces == nil {
		cfg.Namespaces = PodNamespaces
	}
	var cgroup *os.File
	if cfg.Cgroup == "" {
		var err error
		if cfg.Cgroup, cgroup, err = defaultCgroup(); err != nil {
			return nil, err
		}
	}
	return &Dataplane{cfg: cfg, cgroup: cgroup, patience: answerPatience}, nil
}

// supported names the first Frontend that this data plane cannot do.
func supported(frontends []proxy.Frontend) error {
	for _, f := range frontends {
		if _, ok := protocolNumbers[f.Protocol]; !ok {
			return unsupported("service %s has the protocol %s: eBPF serves TCP and UDP; --proxy-mode iptables serves SCTP also", f.Origin(), f.Protocol)
		}
		if len(f.Origin()) >= originSize {
			return unsupported("service %s has a name that is too long for the kernel's table", f.Origin())
		}
	}
	return nil
}

func unsupported(format string, args ...any) error {
	return proxy.UnsupportedError(fmt.Sprintf(format, args...))
}

// Sync writes what differs, entry by entry: the sets that are new, then the frontends, and then the sets that
// nobody has any more go.
func (d *Dataplane) Sync(_ context.Context, change proxy.Change) error {
	if err := supported(change.Set); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return errors.New("changing the maps: nothing is loaded; the whole table comes first")
	}
	if err := d.known(); err != nil {
		return err
	}
	if err := write(d.store, d.model.apply(change)); err != nil {
		d.model = nil
		return fmt.Errorf("changing %d frontends: %w", len(change.Set)+len(change.Remove), err)
	}
	return nil
}

// known reads, after a failure, what the kernel holds, and mends what no frontend explains.
func (d *Dataplane) known() error {
	if d.model != nil {
		return nil
	}
	have, err := readAll(d.store)
	if err != nil {
		return err
	}
	table := parse(have)
	if err := write(d.store, correction(have, render(table))); err != nil {
		return err
	}
	d.model = newModel(table)
	return nil
}

// Resync loads and attaches what is not there and makes the maps hold exactly table.
func (d *Dataplane) Resync(_ context.Context, table proxy.Table) error {
	if err := supported(table.Frontends); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(); err != nil {
		return err
	}
	d.model = nil
	have, err := readAll(d.store)
	if err != nil {
		return err
	}
	if err := write(d.store, correction(have, render(table))); err != nil {
		return fmt.Errorf("programming %d frontends: %w", len(table.Frontends), err)
	}
	d.model = newModel(table)
	if err := d.surround(); err != nil || *d.role == proxy.Draining || len(d.kernel.found.older()) == 0 {
		return err
	}
	return d.takeOver()
}

// open loads the programs once.
func (d *Dataplane) open() error {
	if d.kernel != nil {
		return nil
	}
	hooks, _, err := d.hooks()
	if err != nil {
		return err
	}
	k, err := load(d.cfg, hooks)
	if err != nil {
		return err
	}
	if d.role == nil {
		if d.role, d.bypass, err = k.recordedRole(); err != nil {
			k.close()
			return err
		}
	}
	if d.role == nil {
		d.role = new(proxy.Sole)
		if d.cfg.Draining {
			d.role = new(proxy.Draining)
		}
	}
	d.kernel, d.store, d.model = k, k, nil
	if d.fault != nil {
		d.store = d.fault(k)
	}
	return nil
}

// surround brings to the kernel what surrounds the Table: which namespaces and addresses are ours, the hooks.
func (d *Dataplane) surround() error {
	settings, err := d.settings()
	if err != nil {
		return err
	}
	if err := d.store.put(settings); err != nil {
		return err
	}
	routes, err := podRoutes(d.cfg.PodCIDRs)
	if err != nil {
		return err
	}
	namespaces, err := d.namespaces(routes)
	if err != nil {
		return err
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("listing the node's addresses: %w", err)
	}
	if err := replaceEntries(d.store, contents{mapOwnListeners: d.own(addrs), mapCIDRs: d.cidrs(addrs), mapNetns: namespaces, mapPodRoutes: podLinks(routes)}); err != nil {
		return err
	}
	hooks, links, err := d.hooks()
	if err != nil {
		return err
	}
	if err := d.kernel.attach(d.cfg.Cgroup, hooks, links); err != nil {
		return err
	}
	without := d.kernel.withoutEarly()
	d.noXDP.Store(&without)
	return nil
}

// SetSource follows the node's addresses.
func (d *Dataplane) SetSource(_ context.Context, source []netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.Source = source
	if d.kernel == nil {
		return nil
	}
	return d.surround()
}

// source is the node's address of a family.
func (d *Dataplane) source(v4 bool) netip.Addr {
	for _, a := range d.cfg.Source {
		if a.Is4() == v4 {
			return a
		}
	}
	return netip.Addr{}
}

// settings is struct settings.
func (d *Dataplane) settings() (entry, error) {
	local, err := localPorts()
	if err != nil {
		return entry{}, err
	}
	snat := freePorts(local, d.cfg.NodePorts)
	b := putOptional(putOptional(nil, d.source(true)), d.source(false))
	for _, port := range []uint16{snat[0], snat[1], d.cfg.NodePorts[0], d.cfg.NodePorts[1]} {
		b = native.AppendUint16(b, port)
	}
	b = native.AppendUint32(native.AppendUint32(b, uint32(*d.role)), uint32(d.bypass))
	return entry{mapConfig, string(native.AppendUint32(nil, 0)), string(b)}, nil
}

// cidrs are the prefixes of pods and Services. An address in them that the node itself has, as its DNS server's, stands
// there as neither: the longest prefix counts.
func (d *Dataplane) cidrs(addrs []netlink.Addr) map[string]string {
	all := map[string]string{}
	for _, a := range addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); ok && (contains(d.cfg.ServiceCIDRs, addr) || contains(d.cfg.PodCIDRs, addr)) {
			all[cidrKey(netip.PrefixFrom(addr, addr.BitLen()))] = string(native.AppendUint32(nil, 0))
		}
	}
	for _, p := range d.cfg.PodCIDRs {
		all[cidrKey(p.Masked())] = string(native.AppendUint32(nil, 1))
	}
	for _, p := range d.cfg.ServiceCIDRs {
		all[cidrKey(p.Masked())] = string(native.AppendUint32(nil, 2))
	}
	return all
}

// own is where svcplane itself listens: at each of the node's addresses, where it does so at all of them.
func (d *Dataplane) own(addrs []netlink.Addr) map[string]string {
	all := map[string]string{}
	add := func(addr netip.Addr, l listeners.Listener) {
		all[frontendKey(proxy.Address{AddrPort: netip.AddrPortFrom(addr, l.At.Port()), Protocol: l.Protocol})] = string(native.AppendUint32(nil, 1))
	}
	for _, l := range d.cfg.Own {
		if !l.Everywhere() {
			add(l.At.Addr().Unmap(), l)
			continue
		}
		for _, a := range addrs {
			// no Service can have a link-local address, and every link of a pod has one
			if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.IsLinkLocalUnicast() && l.Takes(addr, l.At.Port(), l.Protocol) {
				add(addr.Unmap(), l)
			}
		}
	}
	return all
}

func (d *Dataplane) namespaces(routes []podRoute) (map[string]string, error) {
	cookie, err := namespaceCookie()
	if err != nil {
		return nil, err
	}
	paths, err := d.cfg.Namespaces()
	if err != nil {
		return nil, fmt.Errorf("listing the network namespaces of pods: %w", err)
	}
	found, err := podNamespaces(paths, routes)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, s := range append(found, namespace{cookie: cookie, host: true, v4: d.source(true), v6: d.source(false)}) {
		e := s.entry()
		all[e.key] = e.value
	}
	return all, nil
}

// Dump reads what is in force: the maps of the programs that are attached and come first, whoever attached them. What
// does not follow from Frontends, is not attached, or is attached besides, is a fault.
func (d *Dataplane) Dump(context.Context) (proxy.Table, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hooks, _, err := d.hooks()
	if err != nil {
		return proxy.Table{}, err
	}
	if d.kernel != nil {
		hooks = slices.DeleteFunc(hooks, func(h hook) bool { return d.kernel.refused[h.name] != nil })
	}
	inv, err := takeInventory()
	if err != nil {
		return proxy.Table{}, err
	}
	found, err := survey(inv, d.cfg.Cgroup, hooks)
	if err != nil {
		return proxy.Table{}, err
	}
	if d.role == nil || *d.role == proxy.Draining {
		found.older = nil // they go on until this data plane takes new connections
	}
	var table proxy.Table
	if found.first != nil {
		if table, err = found.first.table(); err != nil {
			return table, err
		}
	}
	if found.first != nil || d.kernel != nil {
		table.Faults = append(table.Faults, found.faults()...)
	}
	return table, nil
}

// table reads the maps of a program.
func (p program) table() (proxy.Table, error) {
	all, err := p.openMaps()
	if err != nil {
		return proxy.Table{}, err
	}
	defer closeAll(all)
	have, err := readAll(&kernel{maps: all})
	if err != nil {
		return proxy.Table{}, err
	}
	return parse(have), nil
}

// Close removes every trace of this instance from the kernel.
func (d *Dataplane) Close(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := remove()
	if d.kernel != nil {
		d.kernel.close()
		d.kernel, d.store, d.model, d.role = nil, nil, nil, nil
	}
	return err
}
