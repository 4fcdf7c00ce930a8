package ebpf

import (
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

// shortcut is enum shortcut of bpf/maps.h.
type shortcut uint32

const (
	shortcutOff shortcut = iota
	shortcutOn
	shortcutEnding
)

// Shortcut lets packets to pods of this node, and what comes back to clients of Services, pass the node's own stack by,
// or no longer. The caller knows that nobody has rules about them. It counts while this data plane is alone.
func (d *Dataplane) Shortcut(on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return nil
	}
	return d.takeShortcut(on && !d.cfg.NoShortcut && *d.role == proxy.Alone)
}

// takeShortcut begins at once. It ends in steps: connections that begin from now on go the long way, then the kernel's
// connection table gets to know the others, which could be taken for new ones that an answer begins, and then they all go
// there.
func (d *Dataplane) takeShortcut(on bool) error {
	switch {
	case on && d.shortcut == shortcutOn, !on && d.shortcut == shortcutOff:
		return nil
	case on:
		d.shortcut = shortcutOn
		return d.tell()
	}
	d.shortcut = shortcutEnding
	if err := d.tell(); err != nil {
		return err
	}
	if err := d.introduce(); err != nil {
		return err
	}
	d.shortcut = shortcutOff
	return d.tell()
}

// introduce tells the kernel's connection table of the connections that it has not seen: those of clients outside, whose
// endpoint it would otherwise take for a pod that talks to the outside, and masquerade.
func (d *Dataplane) introduce() error {
	all, err := d.kernel.read(mapFlows)
	if err != nil {
		return err
	}
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
