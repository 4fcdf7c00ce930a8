package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcplane/node/runtime/process"
)

// Every pod's default gateways: no interface has them. The host end of the veth answers for the first; nobody asks for the
// second, since both ends know each other's link address.
var (
	Gateway  = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	gateway6 = netip.MustParseAddr("fe80::1")
)

const podLink = "eth0"

// Network joins pods to the network namespace it is used in.
type Network struct {
	NodeIPs []netip.Addr // source addresses of the node towards its pods, one of a family; without one the kernel chooses
	MTU     int          // of the veths; 0 takes that of the default route's link
}

// LinkName is the name of the host end of a sandbox's veth.
func LinkName(id string) string { return "sp" + Short(id) }

// NetnsName is the name of a sandbox's network namespace for ip-netns(8).
func NetnsName(id string) string { return "sp-" + Short(id) }

// Short abbreviates an ID to twelve digits.
func Short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

var linkPattern = regexp.MustCompile(`^sp[0-9a-f]{12}$`)

// Attach makes the veth of sandbox id between this namespace and ns, and routes addrs, one of a family, to it. What an
// earlier, interrupted Attach left is replaced.
func (n Network) Attach(id string, ns *os.File, addrs []netip.Addr) error {
	if err := n.Detach(id); err != nil {
		return err
	}
	if err := n.attach(id, ns, addrs); err != nil {
		return errors.Join(fmt.Errorf("join pod %s to the network as %s: %w", Short(id), addrs, err), n.Detach(id))
	}
	return nil
}

func (n Network) attach(id string, ns *os.File, addrs []netip.Addr) error {
	mtu := n.MTU
	if mtu == 0 {
		mtu = defaultMTU()
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = LinkName(id), mtu
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podLink, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(int(ns.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s: %w", attrs.Name, err)
	}
	host, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", attrs.Name, err)
	}
	if err := hostSysctls(attrs.Name, slices.ContainsFunc(addrs, netip.Addr.Is6)); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return fmt.Errorf("bring link %s up: %w", attrs.Name, err)
	}
	var podMAC net.HardwareAddr
	err = process.InNet(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), func() error {
		podMAC, err = setupPod(addrs, host.Attrs().HardwareAddr)
		return err
	})
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := n.route(host, addr); err != nil {
			return err
		}
		if addr.Is4() {
			continue
		}
		if err := neighbour(host.Attrs().Index, addr, podMAC); err != nil {
			return err
		}
	}
	return nil
}

// spareMetric is that of the route which leads to a pod when the one with the node's address is not there.
const spareMetric = 4096

// Reroute puts the routes of sandbox id to what Attach would make now.
func (n Network) Reroute(id string, addrs []netip.Addr) error {
	host, err := netlink.LinkByName(LinkName(id))
	if err != nil {
		return fmt.Errorf("find link %s: %w", LinkName(id), err)
	}
	for _, addr := range addrs {
		if err := n.route(host, addr); err != nil {
			return err
		}
	}
	return nil
}

// route leads addr to a pod by the host end of its veth. The kernel takes away an IPv4 route with an address that the
// machine loses, at a time when nobody of us may be running: a second one, without, leads to the pod then.
func (n Network) route(host netlink.Link, addr netip.Addr) error {
	route := &netlink.Route{LinkIndex: host.Attrs().Index, Dst: single(addr), Scope: netlink.SCOPE_LINK}
	spare := *route
	spare.Priority = spareMetric
	for _, own := range n.NodeIPs {
		if own.Is4() == addr.Is4() {
			route.Src = own.AsSlice()
		}
	}
	var err error
	if addr.Is4() {
		err = netlink.RouteReplace(&spare)
	}
	if err == nil {
		err = netlink.RouteReplace(route)
	}
	if err != nil {
		return fmt.Errorf("route %s to link %s: %w", addr, host.Attrs().Name, err)
	}
	return nil
}

// neighbour tells the kernel the link address of addr for good.
func neighbour(index int, addr netip.Addr, mac net.HardwareAddr) error {
	n := &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}
	if addr.Is6() {
		n.Family = netlink.FAMILY_V6
	}
	if err := netlink.NeighSet(n); err != nil {
		return fmt.Errorf("add the neighbour entry of %s: %w", addr, err)
	}
	return nil
}

// setupPod configures the pod's end, from within its namespace, and returns its link address.
func setupPod(addrs []netip.Addr, gatewayMAC net.HardwareAddr) (net.HardwareAddr, error) {
	link, err := netlink.LinkByName(podLink)
	if err != nil {
		return nil, fmt.Errorf("find the pod's link %s: %w", podLink, err)
	}
	if err := podSysctls(slices.ContainsFunc(addrs, netip.Addr.Is6)); err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		a := &netlink.Addr{IPNet: single(addr)}
		if addr.Is6() {
			a.Flags = unix.IFA_F_NODAD // it is ours to give, and the pod must not wait for it
		}
		if err := netlink.AddrReplace(link, a); err != nil {
			return nil, fmt.Errorf("add the pod's address %s: %w", addr, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("bring the pod's link up: %w", err)
	}
	for _, addr := range addrs {
		if err := defaultRoute(link.Attrs().Index, addr.Is4(), gatewayMAC); err != nil {
			return nil, err
		}
	}
	return link.Attrs().HardwareAddr, nil
}

// defaultRoute leads a pod's packets of one family to the host end of its veth.
func defaultRoute(index int, ipv4 bool, gatewayMAC net.HardwareAddr) error {
	gateway := Gateway
	if !ipv4 {
		gateway = gateway6
	}
	// Proxy ARP on the host answers only while the host has some route towards 169.254.1.1; a permanent
	// entry makes pods independent of the host having a default route.
	if err := neighbour(index, gateway, gatewayMAC); err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: make(net.IP, gateway.BitLen()/8), Mask: net.CIDRMask(0, gateway.BitLen())},
		Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("add the pod's default route by %s: %w", gateway, err)
	}
	return nil
}

// Detach removes the veth of sandbox id, and with it its routes; that there is none is no error.
func (n Network) Detach(id string) error { return removeLink(LinkName(id)) }

// Prune removes the veths of sandboxes that keep does not know: what a crash or a lost data directory left.
func (n Network) Prune(keep func(link string) bool) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, link := range links {
		name := link.Attrs().Name
		if link.Type() == "veth" && linkPattern.MatchString(name) && !keep(name) {
			errs = append(errs, removeLink(name))
		}
	}
	return errors.Join(errs...)
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

func setupLoopback() error {
	link, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the pod's loopback: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the pod's loopback up: %w", err)
	}
	return nil
}

// defaultMTU is the MTU of the link that the default route leaves by, so that what pods send fits it.
func defaultMTU() int {
	const ethernet = 1500
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return ethernet
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			return link.Attrs().MTU
		}
	}
	return ethernet
}

func single(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}
