package proxytest

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/listeners"
	"svcplane/proxy"
)

// insideEnv tells the test process that it is in its own network namespace.
const insideEnv = "SVCPLANE_PROXYTEST_INSIDE"

// Main runs the tests of a package inside a new network namespace. Call it from TestMain. It needs root.
func Main(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		flag.Parse()
		// tests of Apart wait most of the time: the number of processors does not limit them
		if err := flag.Set("test.parallel", "8"); err != nil {
			fmt.Println("FAIL:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fmt.Println("SKIP: network namespaces need root")
		os.Exit(0)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Println("FAIL: entering a new network namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Host is a network namespace with one link, or the node itself.
type Host struct {
	Name string
	IPv4 netip.Addr
	IPv6 netip.Addr
	ns   netns.NsHandle
}

// Lab is the small network that scenarios run in. The test process is the node.
type Lab struct {
	Node proxy.Node
	// Own are listeners on the node: the data plane knows them and Node does not, so that it is offered Frontends with their addresses.
	Own   listeners.Set
	Hosts map[string]*Host // node, client, a, b, c
}

// serverPort is where every host but the node answers, on TCP and UDP, both families.
const serverPort = 8080

// NewLab builds the network and removes it with the test.
func NewLab(t testing.TB) *Lab {
	t.Helper()
	lab := &Lab{
		Node: proxy.Node{
			Name: "node", Zone: "zone-1",
			Addrs:        addrs("192.0.2.1", "2001:db8:1::1"),
			PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/64")},
			ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")},
		},
		Hosts: map[string]*Host{},
	}
	sysctls(t, map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
		"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0",
		// the kernel refuses one peer only so often, and all of them together 50 times at once and 1,000 times a
		// second (icmp_msgs_burst, icmp_msgs_per_sec): tests ask more often. No kind of message is to be counted
		"net/ipv4/icmp_ratemask": "0", "net/ipv6/icmp/ratemask": "\n",
	})
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	self, err := netns.Get()
	must(t, err)
	t.Cleanup(func() { self.Close() })
	lab.Hosts["node"] = &Host{Name: "node", IPv4: lab.Node.Addrs[0], IPv6: lab.Node.Addrs[1], ns: self}
	lab.addClient(t)
	for i, name := range []string{"a", "b", "c"} {
		lab.addPod(t, name, netip.AddrFrom4([4]byte{10, 244, 0, byte(11 + i)}), netip.MustParseAddr(fmt.Sprintf("fd00:244::%d", 11+i)))
	}
	for _, name := range []string{"client", "a", "b", "c"} {
		lab.Hosts[name].serve(t, netip.AddrPortFrom(netip.IPv6Unspecified(), serverPort))
	}
	lab.listen(t, lo)
	return lab
}

// ownPort is where the node itself listens on all its addresses, and ownPort+1 where it does so on those of its name
// server only.
const ownPort = 9443

// listen makes the node answer on ports of its own, as svcplane does.
func (l *Lab) listen(t testing.TB, lo netlink.Link) {
	everywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), ownPort)
	at := []netip.AddrPort{everywhere}
	for _, addr := range nameServers() {
		own := linkAddr(addr, addr.BitLen())
		// nobody's source address but for what is sent to it
		own.Scope, own.ValidLft = unix.RT_SCOPE_HOST, math.MaxInt32
		must(t, netlink.AddrAdd(lo, own))
		t.Cleanup(func() { must(t, netlink.AddrDel(lo, own)) }) // loopback stays for the next lab
		at = append(at, netip.AddrPortFrom(addr, ownPort+1))
	}
	for _, a := range at {
		l.Hosts["node"].serve(t, a)
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			l.Own = append(l.Own, listeners.Listener{At: a, Protocol: protocol, Owner: "the node"})
		}
	}
}

// nameServers are addresses of the node in the ranges of Services.
func nameServers() []netip.Addr { return addrs("10.96.0.53", "fd00:96::35") }

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sysctls(t testing.TB, values map[string]string) {
	t.Helper()
	for name, value := range values {
		must(t, os.WriteFile("/proc/sys/"+name, []byte(value), 0o644))
	}
}

// newHost makes a namespace joined to the node by a veth pair, and returns the node's end.
func (l *Lab) newHost(t testing.TB, name string) (*Host, netlink.Link) {
	t.Helper()
	h := &Host{Name: name}
	l.Hosts[name] = h
	done := make(chan error)
	go func() {
		// the thread is not unlocked: it ends with the goroutine, and nobody else runs in its namespace
		runtime.LockOSThread()
		var err error
		h.ns, err = netns.New()
		done <- err
	}()
	must(t, <-done)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sp" + name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.ns)}
	must(t, netlink.LinkAdd(link))
	t.Cleanup(func() {
		_ = netlink.LinkDel(link)
		h.ns.Close()
	})
	must(t, netlink.LinkSetUp(link))
	return h, link
}

// inside configures the link of a host within its namespace.
func (h *Host) inside(t testing.TB, configure func(nl *netlink.Handle, eth0 netlink.Link)) {
	t.Helper()
	nl, err := netlink.NewHandleAt(h.ns)
	must(t, err)
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	must(t, err)
	must(t, nl.LinkSetUp(lo))
	eth0, err := nl.LinkByName("eth0")
	must(t, err)
	must(t, nl.LinkSetUp(eth0))
	configure(nl, eth0)
	h.awaitLink(t, nl, "eth0")
	own, err := netlink.NewHandle()
	must(t, err)
	defer own.Close()
	h.awaitLink(t, own, "sp"+h.Name)
}

// awaitLink waits until the kernel sends on a link: that it came up is noticed up to a second later, and
// packets are lost until then.
func (h *Host) awaitLink(t testing.TB, nl *netlink.Handle, name string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		link, err := nl.LinkByName(name)
		must(t, err)
		if link.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("link %s of %s is %s and not up", name, h.Name, link.Attrs().OperState)
		}
	}
}

func ipNet(addr netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
}

func linkAddr(addr netip.Addr, bits int) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(addr, bits)}
	if addr.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// addClient makes the host on the LAN. It routes the addresses of Services and pods to the node, and the node
// what is unknown to it.
func (l *Lab) addClient(t testing.TB) {
	h, link := l.newHost(t, "client")
	h.IPv4, h.IPv6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:1::2")
	h.inside(t, func(nl *netlink.Handle, eth0 netlink.Link) {
		for i, own := range []netip.Addr{h.IPv4, h.IPv6} {
			bits, node := []int{24, 64}[i], l.Node.Addrs[i]
			must(t, netlink.AddrAdd(link, linkAddr(node, bits)))
			must(t, nl.AddrAdd(eth0, linkAddr(own, bits)))
			for _, dst := range [][]string{{"10.96.0.0/16", "10.244.0.0/16", "198.51.100.0/24"}, {"fd00:96::/112", "fd00:244::/64", "2001:db8:2::/64"}}[i] {
				p := netip.MustParsePrefix(dst)
				must(t, nl.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: ipNet(p.Addr(), p.Bits()), Gw: node.AsSlice()}))
			}
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: own.AsSlice()}))
		}
	})
}

// addPod joins a pod as the node does: an address of its own, routed, without a bridge.
func (l *Lab) addPod(t testing.TB, name string, v4, v6 netip.Addr) {
	h, link := l.newHost(t, name)
	h.IPv4, h.IPv6 = v4, v6
	// ARP on behalf of others is answered after up to 0.8 s otherwise
	sysctls(t, map[string]string{"net/ipv4/conf/" + link.Attrs().Name + "/proxy_arp": "1", "net/ipv4/neigh/" + link.Attrs().Name + "/proxy_delay": "0"})
	gw4, gw6 := netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1")
	must(t, netlink.AddrAdd(link, linkAddr(gw6, 64)))
	h.inside(t, func(nl *netlink.Handle, eth0 netlink.Link) {
		for i, own := range []netip.Addr{v4, v6} {
			gw := []netip.Addr{gw4, gw6}[i]
			must(t, nl.AddrAdd(eth0, linkAddr(own, own.BitLen())))
			must(t, nl.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: ipNet(gw, gw.BitLen()), Scope: netlink.SCOPE_LINK}))
			must(t, nl.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gw.AsSlice()}))
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(own, own.BitLen()), Scope: netlink.SCOPE_LINK}))
		}
	})
}

// Do runs f on a thread in the host's namespace; sockets made in it stay there.
func (h *Host) Do(f func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good, see newHost
		err := netns.Set(h.ns)
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}
