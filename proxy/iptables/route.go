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

// ensureRoutes makes the routes to ranges, with source as the address of packets that have none yet.
func ensureRoutes(ranges []netip.Prefix, source netip.Addr) error {
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
		route := &netlink.Route{
			LinkIndex: link.Attrs().Index,
			Dst:       &net.IPNet{IP: r.Addr().AsSlice(), Mask: net.CIDRMask(r.Bits(), r.Addr().BitLen())},
			Scope:     unix.RT_SCOPE_LINK,
		}
		if source.IsValid() && source.Is4() == r.Addr().Is4() {
			route.Src = source.AsSlice()
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("routing service range %s to link %s: %w", r, routeLink, err)
		}
	}
	return nil
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
