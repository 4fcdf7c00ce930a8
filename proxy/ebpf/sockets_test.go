package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// web is a Service of both families and protocols on pods a, b or whoever is named.
func web(lab *proxytest.Lab, pods ...string) []*catalog.Service {
	svc := &catalog.Service{
		Key: catalog.Key{Namespace: "default", Name: "web"}, Type: corev1.ServiceTypeNodePort,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.5"), netip.MustParseAddr("fd00:96::5")},
		Ports: []catalog.Port{
			{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080},
			{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30080},
		},
	}
	for i := range svc.Ports {
		for _, pod := range pods {
			for _, addr := range []netip.Addr{lab.Hosts[pod].IPv4, lab.Hosts[pod].IPv6} {
				svc.Ports[i].Endpoints = append(svc.Ports[i].Endpoints, catalog.Endpoint{AddrPort: netip.AddrPortFrom(addr, 8080), Ready: true, Serving: true, Node: "node"})
			}
		}
	}
	return []*catalog.Service{svc}
}

// lived is a lab with a plane that has the Service on pod a.
func lived(t *testing.T) (*proxytest.Lab, *Dataplane) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	must(t, d.Resync(t.Context(), lab.Table(web(lab, "a")...)))
	return lab, d
}

// in runs f in the namespace of a host and fails with its error.
func in(t *testing.T, h *proxytest.Host, f func() error) {
	t.Helper()
	var err error
	must(t, errors.Join(h.Do(func() { err = f() }), err))
	must(t, err)
}

// TestNamesOfPeers: a program that asks whom it talks to gets the address it dialled, also an IPv4 one through an IPv6 socket.
func TestNamesOfPeers(t *testing.T) {
	lab, _ := lived(t)
	for _, from := range []string{"node", "c"} {
		for _, to := range []string{"10.96.0.5:80", "[fd00:96::5]:80"} {
			for _, network := range []string{"tcp", "udp"} {
				in(t, lab.Hosts[from], func() error {
					conn, err := net.Dial(network, to)
					if err != nil {
						return err
					}
					defer conn.Close()
					if got := conn.RemoteAddr().String(); got != to {
						t.Errorf("%s from %s to %s: the peer is %s", network, from, to, got)
					}
					return nil
				})
			}
		}
	}
	in(t, lab.Hosts["c"], func() error {
		fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		mapped := syscall.SockaddrInet6{Port: 80, Addr: netip.MustParseAddr("::ffff:10.96.0.5").As16()}
		if err := syscall.Connect(fd, &mapped); err != nil {
			return err
		}
		peer, err := syscall.Getpeername(fd)
		if got, ok := peer.(*syscall.SockaddrInet6); !ok || got.Addr != mapped.Addr || got.Port != 80 {
			t.Errorf("the peer of a mapped address is %+v", peer)
		}
		return err
	})
}

// TestUnconnectedDatagrams: one socket asks two Services and an endpoint itself, and each answers under the address asked.
func TestUnconnectedDatagrams(t *testing.T) {
	lab, _ := lived(t)
	for _, from := range []string{"node", "c"} {
		in(t, lab.Hosts[from], func() error {
			socket, err := net.ListenPacket("udp", "[::]:0")
			if err != nil {
				return err
			}
			defer socket.Close()
			for _, to := range []string{"10.96.0.5:80", "[fd00:96::5]:80", "10.244.0.11:8080", "10.96.0.5:80", "10.244.0.12:8080"} {
				addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
				if _, err := socket.WriteTo([]byte("hello"), addr); err != nil {
					return err
				}
				if err := socket.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
					return err
				}
				_, peer, err := socket.ReadFrom(make([]byte, 100))
				if err != nil {
					return fmt.Errorf("asking %s: %w", to, err)
				}
				if got := netip.MustParseAddrPort(peer.String()); netip.AddrPortFrom(got.Addr().Unmap(), got.Port()).String() != to {
					t.Errorf("from %s: %s was asked, and %s answered", from, to, peer)
				}
			}
			return nil
		})
	}
}

// TestFragments sends datagrams larger than the links carry, through socket and packet level.
func TestFragments(t *testing.T) {
	lab, _ := lived(t)
	for _, from := range []string{"client", "c"} {
		for _, to := range []string{"10.96.0.5:80", "[fd00:96::5]:80", "192.0.2.1:30080", "[2001:db8:1::1]:30080"} {
			in(t, lab.Hosts[from], func() error {
				conn, err := net.Dial("udp", to)
				if err != nil {
					return err
				}
				defer conn.Close()
				if _, err := conn.Write(make([]byte, 5000)); err != nil {
					return err
				}
				got, err := proxytest.Receive(conn)
				if err == nil && got.Name != "a" {
					t.Errorf("%s to %s: %s", from, to, got)
				}
				return err
			})
		}
	}
}

// TestNodePortsAreKept: no program of the node takes the port of a Service, and pods may.
func TestNodePortsAreKept(t *testing.T) {
	lab, _ := lived(t)
	for _, c := range []struct {
		host, at string
		kept     bool
	}{
		{"node", "0.0.0.0:30080", true}, {"node", "[::]:30080", true}, {"node", "192.0.2.1:30080", true},
		{"node", "0.0.0.0:30081", false}, {"node", "127.0.0.1:30080", false}, {"a", "0.0.0.0:30080", false},
	} {
		in(t, lab.Hosts[c.host], func() error {
			l, err := net.Listen("tcp", c.at)
			if err == nil {
				l.Close()
			}
			if errors.Is(err, syscall.EADDRINUSE) != c.kept {
				t.Errorf("%s at %s: %v", c.host, c.at, err)
			}
			return nil
		})
	}
}

// TestFlowsOfThePast: what goes to an endpoint that is gone ends, everything else goes on.
func TestFlowsOfThePast(t *testing.T) {
	lab, d := lived(t)
	dial := func(from, network, to string) (conn net.Conn) {
		in(t, lab.Hosts[from], func() (err error) { conn, err = net.Dial(network, to); return err })
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	ask := func(conn net.Conn) (proxytest.Outcome, error) {
		if _, err := conn.Write([]byte("hello")); err != nil {
			return proxytest.Outcome{}, err
		}
		return proxytest.Receive(conn)
	}
	hooked, passing := dial("c", "udp", "10.96.0.5:80"), dial("client", "udp", "192.0.2.1:30080")
	for _, conn := range []net.Conn{hooked, passing} {
		if got, err := ask(conn); err != nil || got.Name != "a" {
			t.Fatalf("%v %v", got, err)
		}
	}
	must(t, swept{d, d}.Resync(t.Context(), lab.Table(web(lab, "a", "b")...)))
	for _, conn := range []net.Conn{hooked, passing} {
		if got, err := ask(conn); err != nil || got.Name != "a" {
			t.Errorf("a's connection should have stayed: %v %v", got, err)
		}
	}
	must(t, swept{d, d}.Resync(t.Context(), lab.Table(web(lab, "b")...)))
	if got, err := ask(passing); err != nil || got.Name != "b" {
		t.Errorf("a datagram of the same client should go to b: %v %v", got, err)
	}
	if got, err := ask(hooked); err == nil {
		t.Errorf("the socket is connected to an endpoint that is gone, and got %v", got)
	}
	if ended, err := d.EndFlows(t.Context(), func(proxy.Flow) bool { return true }); err != nil || ended == 0 {
		t.Errorf("ended %d: %v", ended, err)
	}
	all, err := d.kernel.read(mapFlows)
	must(t, err)
	if len(all) > 0 {
		t.Errorf("%d entries stay of connections that all have ended", len(all))
	}
}

// TestWithoutAProcess: what is attached serves on, and the next process takes it over without a gap.
func TestWithoutAProcess(t *testing.T) {
	lab, d := lived(t)
	served := func(when string) {
		t.Helper()
		for _, from := range []string{"node", "c", "client"} {
			got, err := lab.Hosts[from].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort("10.96.0.5:80"), Protocol: corev1.ProtocolTCP})
			if err != nil || got.Name != "a" {
				t.Errorf("%s, from %s: %v %v", when, from, got, err)
			}
		}
	}
	served("at first")
	d.kernel.close()
	served("without a process")
	next, err := New(d.cfg)
	must(t, err)
	proxytest.CheckDump(t, next, lab.Table(web(lab, "a")...))
	must(t, next.Resync(t.Context(), lab.Table(web(lab, "a")...)))
	served("with the next")
	d.kernel = nil
	d.kernel, d.store, d.model = next.kernel, next.store, next.model
}

// TestNothingStays looks for programs, also those that other processes have left, and at what the links of the node run.
func TestNothingStays(t *testing.T) {
	lab, d := lived(t)
	d.kernel.close()
	if there, err := Present(); err != nil || !there {
		t.Errorf("it serves, and present is %t, %v", there, err)
	}
	must(t, Cleanup())
	if there, err := Present(); err != nil || there {
		t.Errorf("all is removed, and present is %t, %v", there, err)
	}
	got, err := lab.Hosts["client"].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort("192.0.2.1:30080"), Protocol: corev1.ProtocolTCP})
	if err != nil || !got.Refused {
		t.Errorf("nobody listens there, and: %v %v", got, err)
	}
	// the kernel lets go of programs a moment after
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		inv, err := takeInventory()
		must(t, err)
		if len(inv.own) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("programs stay: %v", inv.own)
		}
	}
	must(t, Cleanup())
}

// TestPodsComeAndGo: a link that comes while the plane runs is served, and its socket level too.
func TestPodsComeAndGo(t *testing.T) {
	_, d := lived(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	d.mu.Lock() // Run attaches at once what it finds missing
	hooks, _, err := d.hooks()
	must(t, err)
	unseat(t, d, hooks...)
	d.mu.Unlock()
	before, err := netlink.LinkByName("spa")
	must(t, err)
	must(t, netlink.LinkSetDown(before))
	must(t, netlink.LinkSetUp(before))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if have, err := d.Dump(t.Context()); err == nil && len(have.Faults) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the programs were not attached again")
		}
	}
	if p := d.Problem(); p != "" {
		t.Error(p)
	}
	cancel()
	must(t, <-done)
}

// TestNamespaceThatIsNotThereYet: a pod's file is there before its namespace is mounted on it, and hides no other pod.
func TestNamespaceThatIsNotThereYet(t *testing.T) {
	_, d := lived(t)
	paths, err := d.cfg.Namespaces()
	must(t, err)
	routes, err := podRoutes(d.cfg.PodCIDRs)
	must(t, err)
	want, err := podNamespaces(paths, routes)
	must(t, err)
	if len(want) == 0 {
		t.Fatal("there is no pod to be found")
	}
	empty := filepath.Join(t.TempDir(), "sp-0123456789ab")
	must(t, os.WriteFile(empty, nil, 0o600))
	got, err := podNamespaces(append([]string{empty}, paths...), routes)
	if err != nil || len(got) != len(want) {
		t.Errorf("with a file that is no namespace: %d of %d, %v", len(got), len(want), err)
	}
}

// TestAddressesOfTheNode: a server of the node's own on an address of the Service range, as the DNS server is, is
// reached, and may answer a client that has the same address.
func TestAddressesOfTheNode(t *testing.T) {
	lab, d := lived(t)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	own := netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 96, 0, 10), Mask: net.CIDRMask(32, 32)}}
	must(t, netlink.AddrAdd(lo, &own))
	t.Cleanup(func() { must(t, netlink.AddrDel(lo, &own)) })
	must(t, d.follow())
	server, err := net.ListenPacket("udp4", "10.96.0.10:53")
	must(t, err)
	defer server.Close()
	go func() {
		buffer := make([]byte, 100)
		for {
			n, peer, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buffer[:n], peer)
		}
	}()
	for _, from := range []string{"node", "c", "client"} {
		in(t, lab.Hosts[from], func() error {
			conn, err := net.Dial("udp4", "10.96.0.10:53")
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("question")); err != nil {
				return err
			}
			must(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				t.Errorf("%s: %v", from, err)
			}
			return nil
		})
	}
}
