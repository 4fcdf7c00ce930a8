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
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inPod runs do on a thread in a network namespace of its own, joined by a veth as pods are: 10.244.0.9/32, everything
// by way of 169.254.1.1. Processes that do starts are in it too. It goes away with the thread.
func inPod(t *testing.T, do func()) {
	t.Helper()
	// of this thread: the process's own is the first thread's, which a goroutine that keeps its thread may have moved
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	done := make(chan error, 1)
	go func() {
		defer close(done)      // also when do gives the test up
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := joinPod(here)
		if err == nil {
			do()
			if eth0, e := netlink.LinkByName("eth0"); e == nil { // now, and not some time after the namespace
				err = netlink.LinkDel(eth0)
			}
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
	if err := carried("sppod"); err != nil {
		return err
	}
	if err := unix.Setns(int(pod.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return carried("eth0")
}

// carried waits until the kernel has noticed that a link is up: before, it drops what is sent.
func carried(name string) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("link %s: %s", name, link.Attrs().OperState)
		}
	}
}

func host32(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)} }

func up(link netlink.Link, ip net.IP) error {
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: host32(ip)}); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// clients are the resolvers that pods have: each is a command that prints a name's addresses first in its lines.
func clients(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"glibc": "getent ahosts", "Go": ownLookup + "=1 " + os.Args[0]}
	compiler, err := exec.LookPath("musl-gcc")
	if err != nil {
		t.Log("no musl client: needs musl-gcc (musl-tools)")
		return all
	}
	all["musl"] = filepath.Join(t.TempDir(), "lookup")
	if out, err := exec.Command(compiler, "-static", "-o", all["musl"], "testdata/lookup.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return all
}

// resolve runs a client with a resolv.conf and gives the addresses, each once, sorted.
func resolve(t *testing.T, conf, client, name string) []string {
	cmd := exec.Command("unshare", "-m", "sh", "-c", "mount --bind "+conf+" /etc/resolv.conf && exec env "+client+" "+name)
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) > 0 {
		t.Errorf("%s %s: %v\n%s", client, name, err, out)
	}
	var first []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if _, err := netip.ParseAddr(fields[0]); err == nil && !slices.Contains(first, fields[0]) {
			first = append(first, fields[0])
		}
	}
	slices.Sort(first)
	return first
}

// TestFromPod: glibc, musl and Go resolve short names from a pod, A and AAAA at once on one socket, and nothing in
// between translates addresses; with the search path answered in one trip and without.
func TestFromPod(t *testing.T) {
	needNetns(t)
	u := serveUpstream(t, 161, func(w dns.ResponseWriter, q *dns.Msg) {
		switch {
		case q.Question[0].Name == "dual.example.com." && q.Question[0].Qtype == dns.TypeA:
			_ = w.WriteMsg(reply(q, "dual.example.com. 60 IN A 192.0.2.1"))
		case q.Question[0].Name == "dual.example.com.":
			_ = w.WriteMsg(reply(q, "dual.example.com. 60 IN AAAA 2001:db8::1"))
		case q.Question[0].Name == "four.example.com." && q.Question[0].Qtype == dns.TypeA:
			_ = w.WriteMsg(reply(q, "four.example.com. 60 IN CNAME edge.example.net.", "edge.example.net. 60 IN A 192.0.2.4"))
		case q.Question[0].Name == "four.example.com.":
			negative(dns.RcodeSuccess)(w, q)
		default:
			negative(dns.RcodeNameError)(w, q)
		}
	})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:2 attempts:1\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	all := clients(t)
	for _, autopath := range []bool{true, false} {
		f := newFixture(t, Config{
			Upstreams: []netip.AddrPort{u.addr}, Pods: podsOf(t, searchingPod("default", "10.244.0.9")), NoAutopath: !autopath,
		}, append(cluster(), crowd(100)...)...)
		f.start()
		stop := f.run(t)
		inPod(t, func() {
			for name, want := range map[string][]string{
				"web":              {"10.96.0.1"},
				"web.default":      {"10.96.0.1"},
				"dual.default.svc": {"10.96.0.2", "fd00:96::2"},
				"cat.pets":         {"10.244.0.1", "fd00:244::1"},
				"dual.example.com": {"192.0.2.1", "2001:db8::1"},
				"four.example.com": {"192.0.2.4"},
				"absent":           nil,
			} {
				for client, command := range all {
					if got := resolve(t, conf, command, name); !slices.Equal(got, want) {
						t.Errorf("autopath %t: %s %s: %q, expected %q", autopath, client, name, got, want)
					}
				}
			}
			if got := resolve(t, conf, "getent ahostsv4", "crowd"); len(got) != 100 {
				t.Errorf("%d of 100 addresses, glibc retries over TCP", len(got))
			}
			if got := resolve(t, conf, "getent hosts", "10.96.0.1"); !slices.Equal(got, []string{"10.96.0.1"}) {
				t.Errorf("reverse: %q", got)
			}
			if got := dig(t, "@10.96.0.10", "web.default.svc.cluster.local", "A"); len(got) != 1 {
				t.Errorf("dig: %q", got)
			}
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}
