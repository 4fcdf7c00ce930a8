package ebpf

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// What a program says of a packet that is none yet (enum xdp_action of linux/bpf.h).
const (
	xdpDrop = 1
	xdpPass = 2
)

// fenced is a lab with XDP whose Service may be used from elsewhere than where the client is.
func fenced(t *testing.T) (*proxytest.Lab, *Dataplane) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	d.cfg.XDP = true
	must(t, d.Resync(t.Context(), fence(lab.Table(web(lab, "a")...))))
	return lab, d
}

// fence gives all Frontends a range that no host of the lab is in, and the TCP ones the verdict to drop.
func fence(table proxy.Table) proxy.Table {
	for i := range table.Frontends {
		f := &table.Frontends[i]
		f.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:9::/64")}
		if f.Protocol == "TCP" {
			f.SourceRanges, f.Verdict, f.Masquerade, f.Endpoints = nil, proxy.Drop, 0, nil
		}
	}
	return proxy.NewTable(table.Frontends...)
}

// TestEarlyDrops: what may not reach a Service is dropped and counted with the programs behind XDP out of the way,
// and passes when XDP is taken away.
func TestEarlyDrops(t *testing.T) {
	lab, d := fenced(t)
	proxytest.CheckDump(t, d, fence(lab.Table(web(lab, "a")...)))
	if p := d.Problem(); p != "" {
		t.Error(p)
	}
	early := func() (names []string) {
		links, err := linkList()
		must(t, err)
		for _, l := range links {
			if attachedEarly(l) {
				names = append(names, l.Attrs().Name)
			}
		}
		return names
	}
	if got := early(); !slices.Equal(got, []string{"spclient"}) {
		t.Errorf("XDP is on %v, and only the client's link leads outward", got)
	}
	unseat(t, d, packetHooks(linkOf(t, "spclient"))...)
	for _, to := range []string{"10.96.0.5:80", "[fd00:96::5]:80", "192.0.2.1:30080", "[2001:db8:1::1]:30080"} {
		for network, reason := range map[string]string{"udp": "packet_out_of_source_ranges", "tcp": "packet_dropped_by_policy"} {
			before := d.events()[reason]
			in(t, lab.Hosts["client"], func() error { return knock(network, to) })
			for deadline := time.Now().Add(10 * time.Second); d.events()[reason] == before; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s to %s was not dropped: %v", network, to, d.events())
				}
			}
		}
	}
	d.cfg.XDP = false
	must(t, d.follow())
	if got := early(); len(got) > 0 {
		t.Errorf("XDP is off, and stays on %v", got)
	}
	proxytest.CheckDump(t, d, fence(lab.Table(web(lab, "a")...)))
}

// knock sends the first packet of a connection and does not wait for what comes of it.
func knock(network, to string) error {
	addr := netip.MustParseAddrPort(to)
	domain, kind := syscall.AF_INET6, syscall.SOCK_STREAM
	var peer syscall.Sockaddr = &syscall.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if addr.Addr().Is4() {
		domain, peer = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	if network == "udp" {
		kind = syscall.SOCK_DGRAM
	}
	fd, err := syscall.Socket(domain, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Connect(fd, peer); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return err
	}
	if network == "udp" {
		_, err = syscall.Write(fd, []byte("knock"))
	}
	return err
}

// TestDriverWithoutXDP: where the driver cannot, or somebody else has a program, that is said and nothing else is lost.
func TestDriverWithoutXDP(t *testing.T) {
	lab := proxytest.NewLab(t)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "spbridge"}}
	must(t, netlink.LinkAdd(bridge))
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	must(t, netlink.LinkSetUp(bridge))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: bridge.Attrs().Index, Priority: 4242, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}))
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "MIT", Instructions: passing(xdpPass)})
	must(t, err)
	defer other.Close()
	client, err := netlink.LinkByName("spclient")
	must(t, err)
	must(t, netlink.LinkSetXdpFd(client, other.FD()))
	d := open(t, lab)
	d.cfg.XDP = true
	table := lab.Table(web(lab, "a")...)
	must(t, d.Resync(t.Context(), table))
	proxytest.CheckDump(t, d, table)
	want := "no XDP: spbridge: its driver has none; spclient: somebody else has a program there"
	if p := d.Problem(); p != want {
		t.Errorf("the problem is %q, and should be %q", p, want)
	}
	must(t, netlink.LinkSetXdpFd(client, -1))
	must(t, d.follow())
	proxytest.CheckDump(t, d, table)
	if p := d.Problem(); strings.Contains(p, "spclient") || !strings.Contains(p, "spbridge") {
		t.Errorf("the other program is gone, and the problem is %q", p)
	}
}

// TestFuzzEarly hands the frames of TestFuzzPackets to XDP and then to tc: the first changes none, and drops exactly
// what the second would have dropped for the same reasons.
func TestFuzzEarly(t *testing.T) {
	tg := newTarget(t)
	d := tg.plane
	d.cfg.XDP = true
	d.kernel.close()
	d.kernel = nil
	table := tg.table()
	for i := range table.Frontends {
		f := &table.Frontends[i]
		if f.AddrPort == tg.services[0] || f.AddrPort == tg.services[1] {
			// half of the clients
			f.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}
			continue
		}
		f.Verdict = proxy.Drop
	}
	must(t, d.Resync(t.Context(), table))
	bars := func() uint64 {
		events := d.events()
		return events["packet_out_of_source_ranges"] + events["packet_dropped_by_policy"]
	}
	r := rand.New(rand.NewPCG(11, 12))
	dropped, count := 0, bars()
	for range 15000 {
		in := tg.frame(r)
		verdict, out := tg.run(t, xdpProgram, in)
		if !bytes.Equal(in, out) {
			t.Fatalf("it was changed:\n% x\n% x", in, out)
		}
		if verdict == verdictNext {
			continue // too short for the kernel
		}
		early := bars() - count
		tg.run(t, "svc_ingress", in)
		late := bars() - count - early
		count += early + late
		if verdict != xdpPass && verdict != xdpDrop || (verdict == xdpDrop) != (early == 1) || early != late {
			t.Fatalf("XDP says %d and counts %d, tc counts %d: % x", verdict, early, late, in)
		}
		dropped += int(early)
	}
	if dropped < 500 {
		t.Errorf("only %d were dropped", dropped)
	}
}

// BenchmarkDrop is what it takes to drop a datagram of a client out of the source ranges; what the kernel has done to
// make a packet of it until tc sees it comes on top of the latter.
func BenchmarkDrop(b *testing.B) {
	lab := proxytest.NewLab(b)
	d := open(b, lab)
	d.cfg.XDP = true
	must(b, d.Resync(b.Context(), fence(lab.Table(web(lab, "a")...))))
	for family, f := range map[string]frame{
		"IPv4": {src: netip.MustParseAddrPort("192.0.2.2:4000"), dst: netip.MustParseAddrPort("10.96.0.5:80")},
		"IPv6": {src: netip.MustParseAddrPort("[2001:db8:1::2]:4000"), dst: netip.MustParseAddrPort("[fd00:96::5]:80")},
	} {
		f.proto, f.payload = protoUDP, make([]byte, 64)
		for name, want := range map[string]uint32{"svc_ingress": verdictShot, xdpProgram: xdpDrop} {
			b.Run(family+"/"+name, func(b *testing.B) {
				const repeat = 1_000_000
				options := ebpf.RunOptions{Data: f.bytes(), Repeat: repeat}
				var total time.Duration
				for b.Loop() {
					verdict, took, err := d.kernel.prog[name].Benchmark(options.Data, repeat, nil)
					must(b, err)
					if verdict != want {
						b.Fatalf("the verdict is %d", verdict)
					}
					total += took
				}
				b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/packet")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
