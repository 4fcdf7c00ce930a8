package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureLink makes addrs local to the node: those that no other link has are put on the link of the given
// name, which is made if it is missing and adopted if not. A port-less bridge does where the kernel has no dummy
// links: its addresses are local as long as it is up.
func ensureLink(name string, addrs []netip.Addr) error {
	wanted, err := notLocal(name, addrs)
	if err != nil {
		return err
	}
	if len(wanted) == 0 {
		return nil
	}
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		link, err = makeLink(name)
	}
	if err != nil {
		return fmt.Errorf("making link %s for the cluster DNS address, run as root or with CAP_NET_ADMIN: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting link %s up: %w", name, err)
	}
	return syncAddrs(link, wanted)
}

// notLocal leaves out what another link has, or every host has.
func notLocal(name string, addrs []netip.Addr) ([]netip.Addr, error) {
	present, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing the node's addresses: %w", err)
	}
	own := -1
	if link, err := netlink.LinkByName(name); err == nil {
		own = link.Attrs().Index
	}
	var wanted []netip.Addr
	for _, addr := range addrs {
		elsewhere := slices.ContainsFunc(present, func(a netlink.Addr) bool {
			return a.LinkIndex != own && a.IP.Equal(net.IP(addr.AsSlice()))
		})
		if !elsewhere && !addr.IsLoopback() {
			wanted = append(wanted, addr)
		}
	}
	return wanted, nil
}

func makeLink(name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
	if errors.Is(err, unix.EOPNOTSUPP) {
		snooping := false // nobody to snoop on
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping})
	}
	if err != nil {
		return nil, err
	}
	return netlink.LinkByName(name)
}

// syncAddrs gives link exactly the wanted addresses, besides what the kernel puts there itself.
func syncAddrs(link netlink.Link, wanted []netip.Addr) error {
	present, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("listing the addresses of link %s: %w", link.Attrs().Name, err)
	}
	for _, a := range present {
		addr, _ := netip.AddrFromSlice(a.IP)
		if i := slices.Index(wanted, addr.Unmap()); i >= 0 {
			wanted = slices.Delete(slices.Clone(wanted), i, i+1)
			continue
		}
		if a.IP.IsLinkLocalUnicast() {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("removing the former address %s from link %s: %w", addr, link.Attrs().Name, err)
		}
	}
	for _, addr := range wanted {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
		if addr.Is6() {
			a.Flags = unix.IFA_F_NODAD // a link without a carrier would never finish the detection
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("adding the cluster DNS address %s to link %s: %w", addr, link.Attrs().Name, err)
		}
	}
	return nil
}

// Cleanup removes the link of the default name, which carries the cluster DNS addresses, if it is there.
func Cleanup() error { return CleanupLink(defaultLink) }

// CleanupLink does what Cleanup does for a server whose Config.LinkName was set.
func CleanupLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("dns: removing link %s, run as root or with CAP_NET_ADMIN: %w", name, err)
	}
	return nil
}
