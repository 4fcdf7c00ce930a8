package iptables

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

// routeLink carries the routes to the Service ranges and to the address of probes. A packet that starts on the node is routed before the
// OUTPUT chain translates it: on a node without a default route there would be no way, and connect() would
// fail with ENETUNREACH. Nothing is ever sent on the link: what has no Service is refused in filter OUTPUT.
const routeLink = "sp-svc"

// spareMetric is that of the route which is left when the kernel takes the one with the node's address away with it.
const spareMetric = 4096

// ensureRoutes makes the routes to ranges, with sources as the address of packets that have none yet.
func ensureRoutes(ranges []netip.Prefix, sources []netip.Addr) error {
	link, err := netlink.LinkByName(routeLink)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = routeLink
		// a port-less bridge: kernels without dummy links have it too
		if err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(false)}); err == nil {
			link, err = netlink.LinkByName(routeLink)
		}
	}
	if err != nil {
		return fmt.Errorf("making link %s for the service ranges, run as root or with CAP_NET_ADMIN: %w", routeLink, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting link %s up: %w", routeLink, err)
	}
	probe := netip.PrefixFrom(proxy.ProbeAddress.Addr(), proxy.ProbeAddress.Addr().BitLen())
	for _, r := range append(slices.Clone(ranges), probe) {
		if err := ensureRoute(link.Attrs().Index, r, sources); err != nil {
			return fmt.Errorf("routing service range %s to link %s: %w", r, routeLink, err)
		}
	}
	return nil
}

func ensureRoute(link int, to netip.Prefix, sources []netip.Addr) error {
	route := &netlink.Route{
		LinkIndex: link, Scope: unix.RT_SCOPE_LINK, Priority: spareMetric,
		Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
	}
	if to.Addr().Is4() { // an IPv6 route stays when its address goes
		if err := netlink.RouteReplace(route); err != nil {
			return err
		}
	}
	route.Priority = 0
	for _, source := range sources {
		if source.Is4() == to.Addr().Is4() {
			route.Src = source.AsSlice()
		}
	}
	return netlink.RouteReplace(route)
}

// removeRoutes removes the link, and with it its routes.
func removeRoutes() error {
	link, err := netlink.LinkByName(routeLink)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("removing link %s: %w", routeLink, err)
	}
	return nil
}
