package ebpf

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// scheduled is a plane with one Service of some endpoints that are nobody.
type scheduled struct {
	*target
	t        *testing.T
	affinity time.Duration
}

func newScheduled(t *testing.T, by Scheduler, endpoints int) scheduled {
	s := scheduled{target: &target{plane: open(t, proxytest.NewLab(t))}, t: t}
	s.plane.cfg.Scheduler = by
	s.serve(endpoints, -1)
	return s
}

// serve gives the Service so many endpoints, without one of them.
func (s scheduled) serve(endpoints, without int) {
	s.t.Helper()
	f := proxy.Frontend{Service: catalog.Key{Namespace: "default", Name: "web"}, Affinity: s.affinity}
	f.Address, f.Scope = proxy.Address{AddrPort: netip.MustParseAddrPort("10.96.0.5:80"), Protocol: corev1.ProtocolTCP}, proxy.Everywhere
	for i := range endpoints {
		if i != without {
			f.Endpoints = append(f.Endpoints, proxy.Endpoint{AddrPort: numbered(i)})
		}
	}
	must(s.t, s.plane.Resync(s.t.Context(), proxy.NewTable(f)))
}

func numbered(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(1 + i/250), byte(1 + i%250)}), 8080)
}

// client is the nth of many.
func client(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + n%200)}), uint16(1024+n/200))
}

// send sends a packet of a client, and returns to whom it goes.
func (s scheduled) send(from netip.AddrPort, flags byte) netip.AddrPort {
	s.t.Helper()
	_, out := s.run(s.t, "svc_ingress", frame{src: from, dst: netip.MustParseAddrPort("10.96.0.5:80"), proto: protoTCP, flags: flags}.bytes())
	got, ok := look(out)
	if !ok {
		s.t.Fatalf("the packet of %s came out as %x", from, out)
	}
	return got.dst
}

const syn, reset = 2, 4

// ask opens connections of clients and forgets them; it returns who got which endpoint.
func (s scheduled) ask(clients int) map[int]netip.AddrPort {
	s.t.Helper()
	all := map[int]netip.AddrPort{}
	for n := range clients {
		all[n] = s.send(client(n), syn)
	}
	s.forget()
	return all
}

func (s scheduled) forget() {
	s.t.Helper()
	_, err := s.plane.EndFlows(context.Background(), func(proxy.Flow) bool { return true })
	must(s.t, err)
}

func counts(all map[int]netip.AddrPort) map[netip.AddrPort]int {
	n := map[netip.AddrPort]int{}
	for _, ep := range all {
		n[ep]++
	}
	return n
}

// TestMaglev: each endpoint has its share of the clients, which is the same after a restart, and when an endpoint
// goes, nobody else's clients do. Nothing is left to chance here: the tuples are always the same.
func TestMaglev(t *testing.T) {
	const endpoints, clients = 10, 20000
	s := newScheduled(t, Maglev, endpoints)
	before := s.ask(clients)
	for ep, n := range counts(before) {
		if share := float64(n) * endpoints / clients; share < 0.95 || share > 1.05 {
			t.Errorf("%s has %.3f of its share", ep, share)
		}
	}
	s.plane.kernel.close()
	s.plane.kernel = nil
	s.serve(endpoints, -1)
	if again := s.ask(clients); !maps.Equal(before, again) {
		t.Error("after a restart some clients get another endpoint")
	}
	s.serve(endpoints, 3)
	for n, ep := range s.ask(clients) {
		if before[n] != numbered(3) && before[n] != ep {
			t.Fatalf("%s is there, and its client %d goes to %s", before[n], n, ep)
		}
	}
}

// TestSharesOfPackets: of whichever number of endpoints each has its share, also of clients that stay with theirs.
func TestSharesOfPackets(t *testing.T) {
	for _, by := range []Scheduler{Random, Maglev} {
		t.Run(by.String(), func(t *testing.T) {
			s := newScheduled(t, by, 2)
			for _, endpoints := range []int{2, 3, 4, 7, 60} {
				for _, affinity := range []time.Duration{0, time.Hour} {
					s.affinity = affinity
					s.serve(endpoints, -1)
					proxytest.CheckEven(t, fmt.Sprintf("%d endpoints, affinity %s", endpoints, affinity), s.shares(3000), endpoints)
				}
			}
		})
	}
}

// shares counts who gets how many of so many clients, each with an address of its own, and forgets them.
func (s scheduled) shares(clients int) map[string]int {
	s.t.Helper()
	all := map[string]int{}
	for n := range clients {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), 4000)
		all[s.send(from, syn).String()]++
	}
	s.forget()
	affine, err := s.plane.kernel.read(mapAffinity)
	must(s.t, err)
	for key := range affine {
		must(s.t, s.plane.kernel.remove(entry{table: mapAffinity, key: key}))
	}
	return all
}

// TestMaglevOfMany: of more endpoints than are looked at all are used, and few clients move when one goes.
func TestMaglevOfMany(t *testing.T) {
	const endpoints, clients = 400, 20000
	s := newScheduled(t, Maglev, endpoints)
	before := s.ask(clients)
	shares := slices.Sorted(maps.Values(counts(before)))
	if len(shares) != endpoints || shares[0] < clients/endpoints/2 || shares[endpoints-1] > 2*clients/endpoints {
		t.Errorf("%d endpoints are used, with between %d and %d clients", len(shares), shares[0], shares[len(shares)-1])
	}
	s.serve(endpoints, 200)
	moved := 0
	for n, ep := range s.ask(clients) {
		if before[n] != ep {
			moved++
		}
	}
	if share := float64(moved) / clients; share > 0.02 {
		t.Errorf("one of %d endpoints went, and %.4f of the clients moved", endpoints, share)
	}
	t.Logf("clients of an endpoint: %d to %d; %d of %d moved", shares[0], shares[endpoints-1], moved, clients)
}

func TestRoundRobin(t *testing.T) {
	s := newScheduled(t, RoundRobin, 3)
	for round := range 2 {
		for ep, n := range counts(s.ask(30)) {
			if n != 10 {
				t.Errorf("round %d: %s has %d of 30", round, ep, n)
			}
		}
	}
	if turns, err := s.plane.kernel.read(mapRRCursor); err != nil || len(turns) != 1 {
		t.Errorf("%d turns are counted: %v", len(turns), err)
	}
	s.serve(3, 1)
	s.plane.tidy()
	if turns, err := s.plane.kernel.read(mapRRCursor); err != nil || len(turns) != 0 {
		t.Errorf("%d turns are of sets that are gone: %v", len(turns), err)
	}
}

// TestLeastConnections: of flows that begin and end, also when the count of them is lost.
func TestLeastConnections(t *testing.T) {
	const endpoints = 4
	s := newScheduled(t, LeastConnections, endpoints)
	open := map[int]netip.AddrPort{}
	fill := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			open[n] = s.send(client(n), syn)
		}
		for ep, n := range counts(open) {
			if n != len(open)/endpoints {
				t.Fatalf("%s has %d of %d", ep, n, len(open))
			}
		}
	}
	fill(0, 5*endpoints)
	for n, ep := range open {
		if ep == numbered(2) {
			s.send(client(n), reset)
			delete(open, n)
		}
	}
	fill(5*endpoints, 5*endpoints+5)
	for n, ep := range open {
		if ep == numbered(1) {
			s.send(client(n), reset)
			delete(open, n)
		}
	}
	loads, err := s.plane.kernel.read(mapOpenConns)
	must(t, err)
	for key := range loads {
		must(t, s.plane.kernel.remove(entry{table: mapOpenConns, key: key}))
	}
	must(t, s.plane.kernel.put(entry{mapOpenConns, slot(numbered(1)), string(native.AppendUint64(nil, 1000))}))
	s.plane.tidy()
	fill(100, 105)
	s.forget()
	s.plane.tidy()
	if loads, err = s.plane.kernel.read(mapOpenConns); err != nil || len(loads) > 0 {
		t.Errorf("nothing is open, and %d endpoints have connections: %v", len(loads), err)
	}
}

// TestLeastConnectionsOfSockets: those of programs count until they are closed.
func TestLeastConnectionsOfSockets(t *testing.T) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	d.cfg.Scheduler = LeastConnections
	must(t, d.Resync(t.Context(), lab.Table(web(lab, "a", "b")...)))
	held := map[string][]net.Conn{}
	dial := func(network string) {
		conn := dialled(t, lab.Hosts["c"], network, "10.96.0.5:80")
		if strings.HasPrefix(network, "udp") {
			_, err := conn.Write([]byte("hello"))
			must(t, err)
		}
		got, err := proxytest.Receive(conn)
		must(t, err)
		held[got.Name] = append(held[got.Name], conn)
	}
	even := func() {
		t.Helper()
		if len(held["a"]) != len(held["b"]) {
			t.Fatalf("a has %d, b has %d", len(held["a"]), len(held["b"]))
		}
	}
	for _, network := range []string{"tcp4", "udp4"} {
		for range 6 {
			dial(network)
		}
		even()
		for _, conn := range held["a"] {
			must(t, conn.Close())
		}
		of := slot(netip.AddrPortFrom(lab.Hosts["a"].IPv4, 8080))
		// the kernel lets go of a socket a moment after it was closed
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			loads, err := d.kernel.read(mapOpenConns)
			must(t, err)
			if native.Uint64([]byte(loads[of])) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("a's connections are closed, and it has %x", loads[of])
			}
		}
		held["a"] = nil
		for range len(held["b"]) {
			dial(network)
		}
		even()
	}
	d.tidy()
	dial("tcp4")
	dial("tcp4")
	even()
}

func TestParseScheduler(t *testing.T) {
	for _, name := range schedulerNames {
		if s, err := ParseScheduler(name); err != nil || s.String() != name {
			t.Errorf("%s is read as %s: %v", name, s, err)
		}
	}
	if _, err := ParseScheduler("rr"); err == nil || !strings.Contains(err.Error(), `"rr": must be random, maglev, round-robin or least-connections`) {
		t.Errorf("rr: %v", err)
	}
}
