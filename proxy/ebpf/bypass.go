package ebpf

import (
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

// bypass is enum bypass of bpf/maps.h.
type bypass uint32

const (
	bypassOff bypass = iota
	bypassOn
	bypassEnding
)

// Bypass redirects packets to pods of this node, and those that come back to clients of Services, from link to link, past the
// node's own stack, or no longer. The caller sees to it that no rule of netfilter is about them. It counts while this data
// plane is the sole one.
func (d *Dataplane) Bypass(on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return nil
	}
	return d.setBypass(on && !d.cfg.NoBypass && *d.role == proxy.Sole)
}

// setBypass begins at once. It ends in steps: connections that begin from now on pass the node's stack; then the others are
// entered in the kernel's connection table, which would otherwise take the next answer for the begin of a connection; and then
// they pass the stack, too.
func (d *Dataplane) setBypass(on bool) error {
	switch {
	case on && d.bypass == bypassOn, !on && d.bypass == bypassOff:
		return nil
	case on:
		d.bypass = bypassOn
		return d.writeSettings()
	}
	d.bypass = bypassEnding
	if err := d.writeSettings(); err != nil {
		return err
	}
	flows, err := d.kernel.read(mapFlows)
	if err != nil {
		return err
	}
	if err := d.introduce(flows); err != nil {
		return err
	}
	d.bypass = bypassOff
	return d.writeSettings()
}

// introduce enters connections of map flows that took the bypass in the kernel's connection table: those of clients outside,
// whose endpoint it would otherwise take for a pod that talks to the outside, and masquerade.
func (d *Dataplane) introduce(all map[string]string) error {
	for key, value := range all {
		t, ok := trackedOf(key, value)
		if !ok || native.Uint16([]byte(value)[linkOffset:]) == 0 || ended([]byte(value), []byte(all[t.back()]), t.protocol) {
			continue
		}
		client, during := getAddrPort([]byte(t.seen())), udpIdle
		if contains(d.cfg.PodCIDRs, client.Addr()) {
			continue
		}
		if t.protocol == unix.IPPROTO_TCP {
			during = tcpIdle
		}
		if err := reserved(client, t.flow.Answering, t.protocol, during); err != nil {
			return err
		}
	}
	return nil
}
