package ebpf

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// random is a table of all kinds of Frontends that Build makes: of one Address either one for everybody or one
// for each group of clients. Endpoints come from few, so that sets are shared.
func random(r *rand.Rand, size int) proxy.Table {
	var all []proxy.Frontend
	for range size {
		v6 := r.IntN(3) == 0
		addr, pods, ranges := fmt.Sprintf("10.96.%d.%d", r.IntN(3), r.IntN(256)), "10.244.0.%d:80", "198.51.100.0/24"
		if v6 {
			addr, pods, ranges = fmt.Sprintf("fd00:96::%x", r.IntN(600)), "[fd00:244::%x]:80", "2001:db8::/48"
		}
		f := proxy.Frontend{Service: catalog.Key{Namespace: "default", Name: fmt.Sprintf("svc%d", r.IntN(40))}, PortName: []string{"", "http"}[r.IntN(2)]}
		f.Address = proxy.Address{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(1+r.IntN(9))), Protocol: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)]}
		for _, scope := range [][]proxy.Scope{{proxy.Everywhere}, {proxy.Internal}, {proxy.External}, {proxy.Internal, proxy.External}}[r.IntN(4)] {
			g := f
			g.Scope, g.Verdict = scope, proxy.Verdict(r.IntN(3))
			if g.Verdict == proxy.Balance {
				g.Masquerade = proxy.Masquerade(r.IntN(3))
				for i := range 1 + r.IntN(3) {
					g.Endpoints = append(g.Endpoints, proxy.Endpoint{AddrPort: netip.MustParseAddrPort(fmt.Sprintf(pods, 10*(i+1)+r.IntN(2)))})
				}
				if r.IntN(3) == 0 {
					g.Affinity = time.Duration(1+r.IntN(20000)) * time.Second
				}
			}
			if g.Verdict != proxy.Drop && r.IntN(4) == 0 {
				g.SourceRanges = []netip.Prefix{netip.MustParsePrefix(ranges)}
			}
			// an Address has one shape only
			all = slices.DeleteFunc(all, func(h proxy.Frontend) bool { return h.Address == g.Address && h.Scope&g.Scope != 0 })
			all = append(all, g)
		}
	}
	return proxy.NewTable(all...)
}

func TestParseIsTheInverseOfRender(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		want := random(r, r.IntN(200))
		for _, line := range want.Diff(parse(render(want))) {
			t.Error(line)
		}
	}
}

// TestChangesLeadWhereAFreshStartLeads writes to maps of its own and compares them, after every change, with
// those written at once. What is referred to has to be there before, and until nothing refers to it.
func TestChangesLeadWhereAFreshStartLeads(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var now proxy.Table
	m, have := newModel(now), &memory{newContents()}
	for range 200 {
		next := random(r, r.IntN(60))
		if r.IntN(3) > 0 { // a change that keeps most of it
			next = proxy.NewTable(slices.DeleteFunc(slices.Clone(now.Frontends), func(proxy.Frontend) bool { return r.IntN(6) == 0 })...)
		}
		s := m.apply(proxytest.Step(now, next))
		for _, e := range append(slices.Clone(s.puts), s.removes...) {
			gone := slices.Contains(s.removes, e)
			must(t, write(have, map[bool]step{false: {puts: []entry{e}}, true: {removes: []entry{e}}}[gone]))
			for key, value := range have.c[mapFrontends] {
				for _, half := range []string{value[:sideSize], value[sideSize:]} {
					half := sideOf([]byte(half))
					for i := range half.count {
						if _, ok := have.c[mapEndpoints][slotKey(half.set, i)]; !ok {
							t.Fatalf("frontend %s has no endpoint %d after %v", addressOf(key), i, e.table)
						}
					}
				}
			}
		}
		now = next
		if faults := differences(render(now), have.c); len(faults) > 0 {
			t.Fatal(faults)
		}
	}
}

// memory is maps without a kernel.
type memory struct{ c contents }

func (m *memory) put(e entry) error                            { m.c[e.table][e.key] = e.value; return nil }
func (m *memory) remove(e entry) error                         { delete(m.c[e.table], e.key); return nil }
func (m *memory) read(table string) (map[string]string, error) { return m.c[table], nil }

func TestOneChangeTouchesOneService(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	table := random(r, 500)
	f := table.Frontends[0]
	f.Scope, f.Verdict, f.Endpoints = proxy.Everywhere, proxy.Balance, []proxy.Endpoint{{AddrPort: netip.MustParseAddrPort("10.244.9.9:80")}}
	f.Address.AddrPort = netip.MustParseAddrPort("10.96.9.9:80")
	s := newModel(table).apply(proxy.Change{Set: []proxy.Frontend{f}})
	if len(s.puts) > 3 || len(s.removes) > 0 {
		t.Errorf("one new address takes %d writes and %d removals", len(s.puts), len(s.removes))
	}
}

func TestFreePorts(t *testing.T) {
	for _, c := range []struct{ local, node, want [2]uint16 }{
		{[2]uint16{32768, 60999}, [2]uint16{30000, 32767}, [2]uint16{1024, 29999}},
		{[2]uint16{1024, 60999}, [2]uint16{30000, 32767}, [2]uint16{61000, 65535}},
		{[2]uint16{1024, 65535}, [2]uint16{30000, 32767}, [2]uint16{1024, 65535}},
		{[2]uint16{10000, 65535}, [2]uint16{0, 0}, [2]uint16{1024, 9999}},
	} {
		if got := freePorts(c.local, c.node); got != c.want {
			t.Errorf("sockets %v, NodePorts %v: got %v, want %v", c.local, c.node, got, c.want)
		}
	}
}

func TestCgroupRoot(t *testing.T) {
	for mounts, want := range map[string]string{
		"tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n": "/sys/fs/cgroup/unified",
		"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n":                                            "/sys/fs/cgroup",
		"cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n":                                          "",
	} {
		if got, ok := cgroupRoot(mounts); got != want || ok != (want != "") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestCgroupWithoutAMount: where no hierarchy is mounted, the same one is seen through a mount of our own.
func TestCgroupWithoutAMount(t *testing.T) {
	view, err := detachedCgroup()
	must(t, err)
	defer view.Close()
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	usual, ok := cgroupRoot(string(mounts))
	if !ok {
		t.Skip("no cgroup v2 hierarchy is mounted here")
	}
	var a, b unix.Stat_t
	must(t, unix.Fstat(int(view.Fd()), &a))
	must(t, unix.Stat(usual, &b))
	if a.Ino != b.Ino || a.Dev != b.Dev {
		t.Errorf("the view is of %d:%d, and %s of %d:%d", a.Dev, a.Ino, usual, b.Dev, b.Ino)
	}
}
