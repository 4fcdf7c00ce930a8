package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownLink is how the names of svcplane's links begin.
const ownLink = "sp"

// Read lists the machine's global addresses, as the network namespace of the caller has them.
func Read() ([]Candidate, error) {
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing the machine's addresses: %w", err)
	}
	ways := map[bool]way{true: wayOut(netlink.FAMILY_V4), false: wayOut(netlink.FAMILY_V6)}
	links := map[int]*netlink.LinkAttrs{}
	var all []Candidate
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		if !ok || a.Scope != unix.RT_SCOPE_UNIVERSE || ip.IsLoopback() {
			continue
		}
		if links[a.LinkIndex] == nil {
			link, err := netlink.LinkByIndex(a.LinkIndex)
			if err != nil {
				continue // it went meanwhile
			}
			links[a.LinkIndex] = link.Attrs()
		}
		all = append(all, candidate(a, ip, links[a.LinkIndex], ways[ip.Is4()]))
	}
	return all, nil
}

func candidate(a netlink.Addr, ip netip.Addr, link *netlink.LinkAttrs, out way) Candidate {
	ones, _ := a.Mask.Size()
	return Candidate{
		Prefix: netip.PrefixFrom(ip, ones), Link: link.Name, Own: strings.HasPrefix(link.Name, ownLink),
		Up: link.Flags&net.FlagUp != 0, Carrier: link.RawFlags&unix.IFF_LOWER_UP != 0,
		Pending:    a.Flags&unix.IFA_F_DADFAILED != 0 || a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0,
		Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
		Temporary:  ip.Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0,
		Outward:    out.link == a.LinkIndex, Source: out.source == ip,
	}
}

// way is where the default route of a family leaves, and with which address, as far as the kernel says.
type way struct {
	link   int
	source netip.Addr
}

// wayOut takes the default route that packets take: that with the lowest metric. None is no error.
func wayOut(family int) way {
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	})
	if err != nil {
		return way{}
	}
	best := -1
	for i, r := range routes {
		if r.Flags&unix.RTNH_F_LINKDOWN == 0 && (best < 0 || r.Priority < routes[best].Priority) {
			best = i
		}
	}
	if best < 0 {
		return way{}
	}
	r := routes[best]
	index, gateway := r.LinkIndex, r.Gw
	if index == 0 && len(r.MultiPath) > 0 {
		index, gateway = r.MultiPath[0].LinkIndex, r.MultiPath[0].Gw
	}
	source := r.Src
	if source == nil && gateway != nil && !gateway.IsLinkLocalUnicast() {
		if found, err := netlink.RouteGet(gateway); err == nil && len(found) > 0 {
			source = found[0].Src
		}
	}
	ip, _ := netip.AddrFromSlice(source)
	return way{link: index, source: ip.Unmap()}
}

// whole makes a list again if something came or went meanwhile.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 10
	for try := 1; ; try++ {
		all, err := list()
		if try == tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}
