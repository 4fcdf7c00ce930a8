package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inPod runs do on a thread in a network namespace of its own, joined by a veth as pods are: 10.244.0.9/32, everything
// by way of 169.254.1.1. Processes that do starts are in it too. It goes away with the thread.
func inPod(t *testing.T, do func()) {
	t.Helper()
	here, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := joinPod(here)
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("making a pod's namespace: %v", err)
	}
}

// joinPod moves the thread into a new namespace; node is the one it came from.
func joinPod(node *os.File) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "sppod"}
	veth.PeerNamespace = netlink.NsFd(int(node.Fd()))
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	own, gateway := net.IPv4(10, 244, 0, 9), net.IPv4(169, 254, 1, 1)
	if err := up(eth0, own); err != nil {
		return err
	}
	for _, route := range []netlink.Route{
		{LinkIndex: eth0.Attrs().Index, Dst: host32(gateway), Scope: netlink.SCOPE_LINK},
		{LinkIndex: eth0.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: gateway},
	} {
		if err := netlink.RouteAdd(&route); err != nil {
			return fmt.Errorf("route %v: %w", route, err)
		}
	}
	pod, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer pod.Close()
	if err := unix.Setns(int(node.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	peer, err := netlink.LinkByName("sppod")
	if err != nil {
		return err
	}
	if err := up(peer, gateway); err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: peer.Attrs().Index, Dst: host32(own), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	return unix.Setns(int(pod.Fd()), unix.CLONE_NEWNET)
}

func host32(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)} }

func up(link netlink.Link, ip net.IP) error {
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: host32(ip)}); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// TestFromPod: glibc resolves short names from a pod, A and AAAA at once on one socket, and nothing in between
// translates addresses.
func TestFromPod(t *testing.T) {
	needNetns(t)
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{}}, append(cluster(), crowd(100)...)...)
	f.start()
	f.run(t)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:2 attempts:1\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	getent := func(args string) []string {
		cmd := exec.Command("unshare", "-m", "sh", "-c", "mount --bind "+conf+" /etc/resolv.conf && getent "+args)
		out, err := cmd.CombinedOutput()
		if err != nil && len(out) > 0 {
			t.Errorf("getent %s: %v\n%s", args, err, out)
		}
		var first []string
		for line := range strings.Lines(string(out)) {
			if fields := strings.Fields(line); len(fields) > 0 && !slices.Contains(first, fields[0]) {
				first = append(first, fields[0])
			}
		}
		slices.Sort(first)
		return first
	}
	inPod(t, func() {
		for args, want := range map[string][]string{
			"ahosts web":              {"10.96.0.1"},
			"ahosts web.default":      {"10.96.0.1"},
			"ahosts dual.default.svc": {"10.96.0.2", "fd00:96::2"},
			"ahosts cat.pets":         {"10.244.0.1", "fd00:244::1"},
			"ahosts absent":           nil,
			"hosts 10.96.0.1":         {"10.96.0.1"},
		} {
			if got := getent(args); !slices.Equal(got, want) {
				t.Errorf("getent %s: %q, expected %q", args, got, want)
			}
		}
		if got := getent("ahostsv4 crowd"); len(got) != 100 {
			t.Errorf("%d of 100 addresses, glibc retries over TCP", len(got))
		}
		if got := dig(t, "@10.96.0.10", "web.default.svc.cluster.local", "A"); len(got) != 1 {
			t.Errorf("dig: %q", got)
		}
	})
}
