package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// flow is a tracked connection as far as it matters here.
type flow struct {
	dialled   Address        // destination of the first packet
	answering netip.AddrPort // source of the replies; another than dialled when it was translated
	syn       bool           // TCP that nobody has answered yet
	socket    bool           // a socket that is connected to the endpoint's own address
	closed    bool           // TCP that both ends have ended
}

// staleFlows decides which flows hold on to a state of the past. UDP has no end that the kernel could see:
// as long as the client sends, its packets go where the first one went. A TCP flow is left to its peers
// once it was answered, but for a socket whose peer is not there any more.
type staleFlows struct {
	ledger *ledger
	gone   map[Address]bool // were Frontends, and are no more
	node   Node
	// routed says whether a pod with the address is on this node.
	routed func(netip.Addr) bool
}

func (s staleFlows) match(f flow) bool {
	if f.dialled.Protocol == corev1.ProtocolTCP && !f.syn {
		return f.socket && s.peerGone(f)
	}
	translated := f.answering != f.dialled.AddrPort
	if c, ok := s.ledger.owner(f.dialled); ok {
		return !slices.Contains(c.serving, f.answering) && (translated || f.dialled.Protocol == corev1.ProtocolUDP)
	}
	return translated && (s.gone[f.dialled] || containsAddr(s.node.ServiceCIDRs, f.dialled.Addr()))
}

// peerGone says whether the other end of a connection is gone for good. A pod that is alive goes on with those that it has, also
// when it is an endpoint no more, be it that its labels changed or that its Service went.
func (s staleFlows) peerGone(f flow) bool {
	c, ok := s.ledger.owner(f.dialled)
	switch {
	case slices.Contains(c.serving, f.answering), slices.Contains(c.resting, f.answering):
		return false
	case containsAddr(s.node.PodCIDRs, f.answering.Addr()):
		return !s.routed(f.answering.Addr())
	}
	return ok
}

func containsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// MatchConntrackFlow makes staleFlows a filter of the netlink library.
func (s staleFlows) MatchConntrackFlow(raw *netlink.ConntrackFlow) bool {
	f, ok := flowOf(raw)
	return ok && s.match(f)
}

// flowOf reads a flow of TCP or UDP; ok is false for another.
func flowOf(raw *netlink.ConntrackFlow) (f flow, ok bool) {
	protocol, ok := map[uint8]corev1.Protocol{unix.IPPROTO_TCP: corev1.ProtocolTCP, unix.IPPROTO_UDP: corev1.ProtocolUDP}[raw.Forward.Protocol]
	if !ok {
		return flow{}, false
	}
	// TCP_CONNTRACK_SYN_SENT and TCP_CONNTRACK_TIME_WAIT of linux/netfilter/nf_conntrack_tcp.h
	const synSent, timeWait = 1, 7
	tcp, _ := raw.ProtoInfo.(*netlink.ProtoInfoTCP)
	return flow{
		dialled:   Address{AddrPort: addrPort(raw.Forward.DstIP, raw.Forward.DstPort), Protocol: protocol},
		answering: addrPort(raw.Reverse.SrcIP, raw.Reverse.SrcPort),
		syn:       tcp != nil && tcp.State == synSent,
		closed:    tcp != nil && tcp.State >= timeWait,
	}, true
}

// Translation is a connection of which the kernel's own tables (netfilter) translate the destination or the source.
type Translation struct {
	Client   netip.AddrPort
	Dialled  Address
	Endpoint netip.AddrPort // what was dialled when only the source is translated
	Seen     netip.AddrPort // the client as the endpoint sees it
	Opening  bool           // TCP whose handshake is not done
	Closed   bool           // TCP that both ends have ended
}

// Translations lists them from the kernel's connection table.
func Translations(ctx context.Context) ([]Translation, error) {
	const synReceived = 2 // TCP_CONNTRACK_SYN_RECV of linux/netfilter/nf_conntrack_tcp.h
	var all []Translation
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		raws, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		// a table that changed meanwhile is listed but for what came and went
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("listing the kernel's connections (needs nf_conntrack_netlink and CAP_NET_ADMIN): %w", err)
		}
		for _, raw := range raws {
			f, ok := flowOf(raw)
			client, seen := addrPort(raw.Forward.SrcIP, raw.Forward.SrcPort), addrPort(raw.Reverse.DstIP, raw.Reverse.DstPort)
			if !ok || f.answering == f.dialled.AddrPort && client == seen {
				continue
			}
			tcp, _ := raw.ProtoInfo.(*netlink.ProtoInfoTCP)
			all = append(all, Translation{
				Client: client, Dialled: f.dialled, Endpoint: f.answering, Seen: seen,
				Opening: tcp != nil && tcp.State <= synReceived, Closed: f.closed,
			})
		}
	}
	return all, nil
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// removeStaleFlows deletes the matching entries of the kernel's connection table, each by its whole tuple,
// and returns how many there were.
func removeStaleFlows(ctx context.Context, filter staleFlows) (uint, error) {
	var removed uint
	var problems []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if ctx.Err() != nil {
			break
		}
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		removed += n
		// a flow may end by itself between listing and deleting
		if err != nil && !errors.Is(err, unix.ENOENT) {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return removed, fmt.Errorf("removing stale flows from the kernel's connection table (needs nf_conntrack_netlink and CAP_NET_ADMIN): %w", err)
	}
	return removed, nil
}
