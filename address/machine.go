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

// Read lists the machine's global addresses, as the network namespace of the caller has them. What comes or goes meanwhile
// makes it read again.
func Read() (all []Candidate, err error) {
	for range 10 {
		if all, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing the machine's addresses: %w", err)
	}
	return all, nil
}

func read() ([]Candidate, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	out4, err4 := wayOut(netlink.FAMILY_V4)
	out6, err6 := wayOut(netlink.FAMILY_V6)
	if err := errors.Join(err4, err6); err != nil {
		return nil, err
	}
	ways := map[bool]way{true: out4, false: out6}
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
func wayOut(family int) (way, error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return way{}, err
	}
	if err != nil { // a kernel without the family
		return way{}, nil
	}
	best := -1
	for i, r := range routes {
		if r.Flags&unix.RTNH_F_LINKDOWN == 0 && (best < 0 || r.Priority < routes[best].Priority) {
			best = i
		}
	}
	if best < 0 {
		return way{}, nil
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
	return way{link: index, source: ip.Unmap()}, nil
}
