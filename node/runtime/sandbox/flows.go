package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flows says which entries of the kernel's connection table agree with what is wanted in one address family. UDP has no
// end that the kernel could see: as long as a client sends, its packets go where the first one went, to a pod that has
// gone, or to a port that nobody had.
type Flows struct {
	Pods  netip.Prefix        // addresses of pods of this node
	Alive map[netip.Addr]bool // pods that there are
	Ports []PortMap           // host ports that there are
}

// flow is an entry as far as it matters here.
type flow struct {
	protocol  string         // TCP, UDP, or another's number
	opening   bool           // TCP that nobody has answered yet
	client    netip.Addr     // source of the first packet
	dialled   netip.AddrPort // destination of the first packet
	answering netip.AddrPort // source of the replies; another than dialled when it was translated
}

// EndStale removes the entries that hold on to a state of the past.
func (f Flows) EndStale() error {
	own, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list the node's addresses: %w", err)
	}
	local := map[netip.Addr]bool{}
	for _, a := range own {
		local[addrOf(a.IP)] = true
	}
	family := netlink.InetFamily(unix.AF_INET)
	if f.Pods.Addr().Is6() {
		family = unix.AF_INET6
	}
	filter := staleFlows{f, func(a netip.Addr) bool { return a.IsLoopback() || local[a] }}
	// one may end by itself between listing and deleting, and a busy table is never listed as it is
	_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("remove connections of pods that have gone from the kernel's table (needs nf_conntrack_netlink): %w", err)
	}
	return nil
}

// staleFlows decides, and is a filter of the netlink library.
type staleFlows struct {
	Flows
	local func(netip.Addr) bool
}

// MatchConntrackFlow says whether the entry goes.
func (s staleFlows) MatchConntrackFlow(raw *netlink.ConntrackFlow) bool {
	tcp, _ := raw.ProtoInfo.(*netlink.ProtoInfoTCP)
	const synSent = 1 // TCP_CONNTRACK_SYN_SENT of linux/netfilter/nf_conntrack_tcp.h
	f := flow{
		opening:   tcp != nil && tcp.State == synSent,
		client:    addrOf(raw.Forward.SrcIP),
		dialled:   netip.AddrPortFrom(addrOf(raw.Forward.DstIP), raw.Forward.DstPort),
		answering: netip.AddrPortFrom(addrOf(raw.Reverse.SrcIP), raw.Reverse.SrcPort),
	}
	switch raw.Forward.Protocol {
	case unix.IPPROTO_TCP:
		f.protocol = "TCP"
	case unix.IPPROTO_UDP:
		f.protocol = "UDP"
	}
	return s.stale(f)
}

// stale leaves connections of TCP that were answered to their peers: both ends notice when one has gone. What a pod that
// has gone began is nobody's, and must not be taken for the next pod's that gets its address.
func (s staleFlows) stale(f flow) bool {
	if s.gone(f.client) {
		return true
	}
	if f.protocol != "UDP" && !f.opening || !s.local(f.dialled.Addr()) {
		return false
	}
	for _, p := range s.Ports {
		if p.takes(f) {
			return f.answering != netip.AddrPortFrom(p.Pod, p.PodPort)
		}
	}
	return f.answering != f.dialled && s.gone(f.answering.Addr())
}

func (s staleFlows) gone(a netip.Addr) bool { return s.Pods.Contains(a) && !s.Alive[a] }

// takes says whether what is dialled, which is an address of the node, is the host port.
func (p PortMap) takes(f flow) bool {
	if p.Protocol != f.protocol || p.HostPort != f.dialled.Port() || p.Pod.Is4() != f.dialled.Addr().Is4() {
		return false
	}
	if f.dialled.Addr().IsLoopback() && !p.onLoopback() {
		return false
	}
	return !p.HostIP.IsValid() || p.HostIP == f.dialled.Addr()
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
