package loadbalancer

import "net/netip"

// PortOwner names the process of this network namespace that takes what arrives at addr, as in "process nginx
// (pid 123)"; ok is false when there is none.
func PortOwner(addr netip.Addr, port PortKey) (name string, ok bool) {
	all, err := sockets("/proc/thread-self/net")
	if err != nil {
		return "", false
	}
	for _, s := range all {
		if s.takes(addr, port) || addr.IsUnspecified() && s.local.Port() == port.Port && s.protocol == port.Protocol {
			return processOf("/proc", s.inode), true
		}
	}
	return "", false
}
