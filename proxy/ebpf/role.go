package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

// Act gives new connections to the programs, or to another data plane, by one write to map config. Connections that are under
// way stay with the data plane that began them.
func (d *Dataplane) Act(ctx context.Context, role proxy.Role) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(); err != nil {
		return err
	}
	same := *d.role == role
	if role != proxy.Sole {
		// the other one is to see both directions of what it does not translate
		if err := d.setBypass(false); err != nil {
			return err
		}
	}
	// before and after: connections are made at any time
	if err := d.respect(ctx, role); err != nil {
		return err
	}
	d.role = &role
	if role != proxy.Draining {
		d.draining = time.Time{}
	} else if d.draining.IsZero() {
		d.draining = time.Now()
	}
	if err := d.writeSettings(); err != nil {
		return err
	}
	if same && len(d.kernel.found.older()) == 0 {
		return nil
	}
	if err := d.takeOver(); err != nil {
		return err
	}
	return d.respect(ctx, role)
}

// writeSettings makes the programs do what role and bypass say.
func (d *Dataplane) writeSettings() error {
	settings, err := d.settings()
	if err != nil {
		return err
	}
	return d.store.put(settings)
}

// respect makes what this data plane and netfilter translate keep out of each other's way.
func (d *Dataplane) respect(ctx context.Context, role proxy.Role) error {
	switch role {
	case proxy.Active:
		return errors.Join(d.yield(ctx, true), d.reserve())
	case proxy.Sole:
		return d.reclaim()
	}
	return errors.Join(d.yield(ctx, false), d.reserve())
}

// yield lets the packets of connections pass that netfilter translates: those that could be taken for the first
// of a new one, and those that come back to an address and port of this node: programs' and masqueraded clients'.
// While all that is new passes anyway, only entries of connections that have ended are in their way.
func (d *Dataplane) yield(ctx context.Context, active bool) error {
	theirs, err := proxy.Translations(ctx)
	if err != nil {
		return err
	}
	if err := d.known(); err != nil {
		return err
	}
	ours := d.model.endpoints()
	flows := d.kernel.maps[mapFlows]
	for _, t := range theirs {
		if !ours[t.Endpoint] {
			continue // nothing here leads to that address and port
		}
		protocol := protocolNumbers[t.Dialled.Protocol]
		var keys []string
		if t.Endpoint != t.Dialled.AddrPort && (protocol == unix.IPPROTO_UDP || t.Opening) {
			keys = append(keys, flowKey(end(t.Client), end(t.Dialled.AddrPort), protocol, stageIn))
		}
		if t.Seen.Addr() == d.source(t.Seen.Addr().Is4()) {
			keys = append(keys, flowKey(end(t.Endpoint), end(t.Seen), protocol, stageIn))
		}
		for _, key := range keys {
			var have []byte
			err := flows.Lookup([]byte(key), &have)
			if err != nil && !active || err == nil && (isForeign(have) || !ended(have, nil, protocol)) {
				continue
			}
			if err := flows.Put([]byte(key), []byte(foreign())); err != nil {
				return fmt.Errorf("noting a connection of netfilter: %w", err)
			}
		}
	}
	return nil
}

// reclaim forgets what yield has noted.
func (d *Dataplane) reclaim() error {
	all, err := d.kernel.read(mapFlows)
	if err != nil {
		return err
	}
	for key, value := range all {
		if !isForeign([]byte(value)) {
			continue
		}
		if err := d.kernel.remove(entry{table: mapFlows, key: key}); err != nil {
			return err
		}
	}
	return nil
}

// reservation is how long netfilter keeps away from a port that a masqueraded client has here, from the last look.
const reservation = 2 * time.Minute

// reserve tells netfilter's connection table of the masqueraded clients, so that it gives their ports to nobody
// else: it does not see what the programs send in their names.
func (d *Dataplane) reserve() error {
	all, err := d.kernel.read(mapFlows)
	if err != nil {
		return err
	}
	for key, value := range all {
		t, ok := trackedOf(key, value)
		if !ok {
			continue
		}
		masqueraded, ok := all[t.out()]
		if !ok {
			continue
		}
		// the entry of what comes back stands for a while after the end
		returning, ok := all[flowKey(t.endpoint, masqueraded[:18], t.protocol, stageIn)]
		if !ok || ended([]byte(returning), nil, t.protocol) {
			continue
		}
		if err := reserved(getAddrPort([]byte(masqueraded)), t.flow.Answering, t.protocol, reservation); err != nil {
			return err
		}
	}
	return nil
}

// reserved makes, or prolongs, an entry for what goes from one address to the other.
func reserved(from, to netip.AddrPort, protocol byte, during time.Duration) error {
	tuple := func(from, to netip.AddrPort) netlink.IPTuple {
		return netlink.IPTuple{
			SrcIP: net.IP(from.Addr().AsSlice()), DstIP: net.IP(to.Addr().AsSlice()),
			SrcPort: from.Port(), DstPort: to.Port(), Protocol: protocol,
		}
	}
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	flow := netlink.ConntrackFlow{
		FamilyType: uint8(family), Forward: tuple(from, to), Reverse: tuple(to, from), TimeOut: uint32(during / time.Second),
	}
	if protocol == unix.IPPROTO_TCP {
		const established = 3 // TCP_CONNTRACK_ESTABLISHED of linux/netfilter/nf_conntrack_tcp.h
		flow.ProtoInfo = &netlink.ProtoInfoTCP{State: established}
	}
	err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(family), &flow)
	// netfilter has the ports by now: that connection was first, or comes after this one
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("telling the kernel's connection table of a connection (needs nf_conntrack_netlink): %w", err)
	}
	return nil
}

// recordedRole is what an earlier process has left in the kernel; nil when the map is fresh.
func (k *kernel) recordedRole() (*proxy.Role, bypass, error) {
	var value []byte
	if err := k.maps[mapConfig].Lookup(native.AppendUint32(nil, 0), &value); err != nil {
		return nil, bypassOff, fmt.Errorf("reading map %s: %w", mapConfig, err)
	}
	// there are always ports for masqueraded clients
	if native.Uint16(value[snatOffset:]) == 0 {
		return nil, bypassOff, nil
	}
	role := proxy.Role(native.Uint32(value[roleOffset:]))
	return &role, bypass(native.Uint32(value[bypassOffset:])), nil
}
