package ebpf

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

// openNow counts open connections, by the key under which they are counted in total. With seen, only those of which the
// programs see the end. d.mu is held.
func (d *Dataplane) openNow(seen bool) (map[counterKey]uint64, error) {
	if d.kernel == nil || d.model == nil {
		return nil, nil
	}
	open := map[counterKey]uint64{}
	if err := d.openSockets(open); err != nil {
		return nil, err
	}
	return open, d.openFlows(open, seen)
}

// openSockets adds the sockets that are connected to the endpoint which they got. One of UDP that is not connected
// has no connection: each datagram goes where a new one goes.
func (d *Dataplane) openSockets(open map[counterKey]uint64) error {
	peers, err := d.kernel.read(mapSocketRevnat)
	if err != nil || len(peers) == 0 {
		return err
	}
	type end struct {
		cookie   uint64
		endpoint netip.AddrPort
	}
	dialled := map[byte]map[end]proxy.Address{unix.IPPROTO_TCP: {}, unix.IPPROTO_UDP: {}}
	for key, value := range peers {
		protocol := value[18]
		if of, ok := dialled[protocol]; ok {
			of[end{native.Uint64([]byte(key)), getAddrPort([]byte(key)[8:])}] = proxy.Address{AddrPort: getAddrPort([]byte(value)), Protocol: protocolOf(protocol)}
		}
	}
	for protocol, of := range dialled {
		if len(of) == 0 {
			continue
		}
		err := d.eachSocket(protocol, func(s *netlink.Socket) error {
			if s.ID.DestinationPort == 0 {
				return nil
			}
			at := end{cookieOfSocket(s), remote(s)}
			if to, ok := of[at]; ok {
				delete(of, at)
				if origin, ok := d.model.origin(to); ok {
					open[servingKey(origin, at.endpoint)]++
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// origin is the port of a Service that clients of the cluster reach at an address.
func (m *model) origin(addr proxy.Address) (uint64, bool) {
	for _, f := range m.groups[addr] {
		if f.Scope&proxy.Internal != 0 {
			return originID(f), true
		}
	}
	return 0, false
}

// openFlows adds the connections of packets that have not ended; seen leaves out those of datagrams.
func (d *Dataplane) openFlows(open map[counterKey]uint64, seen bool) error {
	all, err := d.kernel.read(mapFlows)
	if err != nil {
		return err
	}
	for key, value := range all {
		t, ok := trackedOf(key, value)
		if ok && !(seen && t.protocol == unix.IPPROTO_UDP) && !ended([]byte(value), []byte(all[t.back()]), t.protocol) {
			open[servingKey(native.Uint64([]byte(value)[originOffset:]), t.flow.Answering)]++
		}
	}
	return nil
}
