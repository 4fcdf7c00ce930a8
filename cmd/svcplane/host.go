package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is what the checks need to know of the machine, read once.
type Host struct {
	Name  string
	Addrs []netip.Prefix          // global addresses with their prefix lengths
	links map[netip.Prefix]string // which link has it
	// where the default route leaves from, else the first of Addrs; IPv4 and IPv6
	Default, Default6 netip.Addr
}

// ownLink is how the names of our links begin (design: links and routes named sp*).
const ownLink = "sp"

func readHost() (Host, error) {
	h := Host{links: map[netip.Prefix]string{}}
	var err error
	if h.Name, err = os.Hostname(); err != nil {
		return h, fmt.Errorf("reading the host name: %w", err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return h, fmt.Errorf("listing network links: %w", err)
	}
	for _, link := range links {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return h, fmt.Errorf("listing the addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			ip = ip.Unmap()
			if !ok || a.Scope != unix.RT_SCOPE_UNIVERSE || ip.IsLoopback() || a.Flags&unix.IFA_F_DADFAILED != 0 {
				continue
			}
			ones, _ := a.Mask.Size()
			p := netip.PrefixFrom(ip, ones)
			h.Addrs = append(h.Addrs, p)
			h.links[p] = link.Attrs().Name
			first := &h.Default
			if ip.Is6() {
				first = &h.Default6
			}
			if !first.IsValid() && !h.own(p) {
				*first = ip
			}
		}
	}
	if ip, ok := defaultRouteSource(netlink.FAMILY_V4); ok {
		h.Default = ip
	}
	if ip, ok := defaultRouteSource(netlink.FAMILY_V6); ok {
		h.Default6 = ip
	}
	return h, nil
}

// own says whether an address is on a link of ours, left from an earlier run.
func (h *Host) own(p netip.Prefix) bool { return strings.HasPrefix(h.links[p], ownLink) }

func (h *Host) addrTexts() string {
	var texts []string
	for _, a := range h.Addrs {
		if !h.own(a) {
			texts = append(texts, a.Addr().String())
		}
	}
	return strings.Join(texts, ", ")
}

// defaultRouteSource asks the kernel which address a packet to the outside would carry.
func defaultRouteSource(family int) (netip.Addr, bool) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil || len(routes) == 0 {
		return netip.Addr{}, false
	}
	source, via := routes[0].Src, routes[0].Gw
	if via != nil && !via.IsLinkLocalUnicast() {
		found, err := netlink.RouteGet(via)
		if err != nil || len(found) == 0 {
			return netip.Addr{}, false
		}
		source = found[0].Src
	}
	ip, ok := netip.AddrFromSlice(source)
	return ip.Unmap(), ok && !(ip.Is6() && ip.IsLinkLocalUnicast())
}
