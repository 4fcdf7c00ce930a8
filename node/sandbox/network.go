package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcplane/node/process"
)

// Gateway is every pod's default gateway: no interface has it, the host end of the veth answers for it.
var Gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

const podLink = "eth0"

// Network joins pods to the network namespace it is used in.
type Network struct {
	NodeIP netip.Addr // source address of the node towards its pods; may be zero: the kernel then chooses
	MTU    int        // of the veths; 0 takes that of the default route's link
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

// Attach makes the veth of sandbox id between this namespace and ns, and routes addr to it. What an
// earlier, interrupted Attach left is replaced.
func (n Network) Attach(id string, ns *os.File, addr netip.Addr) error {
	if err := n.Detach(id); err != nil {
		return err
	}
	if err := n.attach(id, ns, addr); err != nil {
		return errors.Join(fmt.Errorf("join pod %s to the network as %s: %w", Short(id), addr, err), n.Detach(id))
	}
	return nil
}

func (n Network) attach(id string, ns *os.File, addr netip.Addr) error {
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
	if err := hostSysctls(attrs.Name); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return fmt.Errorf("bring link %s up: %w", attrs.Name, err)
	}
	route := &netlink.Route{LinkIndex: host.Attrs().Index, Dst: single(addr), Scope: netlink.SCOPE_LINK}
	if n.NodeIP.Is4() {
		route.Src = n.NodeIP.AsSlice()
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to link %s: %w", addr, attrs.Name, err)
	}
	gatewayMAC := host.Attrs().HardwareAddr
	return process.InNet(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), func() error { return setupPod(addr, gatewayMAC) })
}

// setupPod configures the pod's end, from within its namespace.
func setupPod(addr netip.Addr, gatewayMAC net.HardwareAddr) error {
	link, err := netlink.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find the pod's link %s: %w", podLink, err)
	}
	index := link.Attrs().Index
	if err := podSysctls(); err != nil {
		return err
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: single(addr)}); err != nil {
		return fmt.Errorf("add the pod's address %s: %w", addr, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the pod's link up: %w", err)
	}
	// Proxy ARP on the host answers only while the host has some route towards 169.254.1.1; a permanent
	// entry makes pods independent of the host having a default route.
	neighbour := &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: Gateway.AsSlice(), HardwareAddr: gatewayMAC}
	if err := netlink.NeighSet(neighbour); err != nil {
		return fmt.Errorf("add the gateway's neighbour entry: %w", err)
	}
	route := &netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
		Gw: Gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("add the pod's default route: %w", err)
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
