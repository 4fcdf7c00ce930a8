package ebpf

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

var webTCP = proxy.Address{AddrPort: netip.MustParseAddrPort("10.96.0.5:80"), Protocol: corev1.ProtocolTCP}

// answered fails the test unless everybody is answered by the named pod.
func answered(t *testing.T, lab *proxytest.Lab, name string) {
	t.Helper()
	for _, from := range []string{"node", "c", "client"} {
		if got, err := lab.Hosts[from].Dial(webTCP); err != nil || got.Name != name {
			t.Errorf("%s should be answered by %s: %v %v", from, name, got, err)
		}
	}
}

func attachedIn(path string, h hook) ([]ebpf.ProgramID, error) {
	cgroup, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	return h.attached(cgroup)
}

// ownAt are svcplane's programs of this network namespace at a hook.
func ownAt(t *testing.T, cgroup string, h hook) (own []ebpf.ProgramID) {
	t.Helper()
	inv, err := takeInventory()
	must(t, err)
	all, err := attachedIn(cgroup, h)
	must(t, err)
	for _, id := range all {
		if _, ok := inv.own[id]; ok {
			own = append(own, id)
		}
	}
	return own
}

// unseat takes the programs of d away from hooks, as anybody with the right can.
func unseat(t *testing.T, d *Dataplane, hooks ...hook) {
	t.Helper()
	cgroup, err := os.Open(d.cfg.Cgroup)
	must(t, err)
	defer cgroup.Close()
	for _, h := range hooks {
		if h.packets() && d.kernel.clsact {
			f, err := h.found()
			must(t, err)
			must(t, netlink.FilterDel(f))
			continue
		}
		must(t, h.drop(cgroup, d.kernel.ids[h.program]))
	}
}

// second is a data plane with maps of its own that serves table, attached behind what is there: what a start did that
// found no pins.
func second(t *testing.T, d *Dataplane, table proxy.Table) *Dataplane {
	t.Helper()
	next, err := New(d.cfg)
	must(t, err)
	k := &kernel{cfg: d.cfg}
	must(t, k.load(nil))
	k.clsact = d.kernel.clsact
	next.kernel, next.store, next.role = k, k, new(proxy.Sole)
	t.Cleanup(k.close)
	must(t, write(k, correction(newContents(), render(table))))
	settings, err := next.settings()
	must(t, err)
	must(t, k.put(settings))
	namespaces, err := next.namespaces(nil)
	must(t, err)
	must(t, replaceEntries(k, contents{mapNetns: namespaces}))
	cgroup, err := os.Open(d.cfg.Cgroup)
	must(t, err)
	defer cgroup.Close()
	hooks, _, err := d.hooks()
	must(t, err)
	for _, h := range hooks {
		if !h.packets() || !k.clsact {
			must(t, h.put(cgroup, k.prog[h.program], nil))
		}
	}
	return next
}

// TestTwoSetsOfPrograms: where another start has left programs that come first, those are what is shown; a start adopts
// them, and whoever serves already replaces them.
func TestTwoSetsOfPrograms(t *testing.T) {
	lab, d := lived(t)
	if d.kernel.clsact {
		t.Skip("the kernel has no tcx (Linux 6.6), and of filters there are no two at one place")
	}
	past, now := lab.Table(web(lab, "a")...), lab.Table(web(lab, "b")...)
	next := second(t, d, now)
	have, err := next.Dump(t.Context())
	must(t, err)
	if !slices.EqualFunc(have.Frontends, past.Frontends, proxy.Frontend.Equal) {
		t.Errorf("in force is what came first, and shown is %v", have.Frontends)
	}
	if text := strings.Join(have.Faults, "\n"); !strings.Contains(text, "another start") || !strings.Contains(text, "connect4") || !strings.Contains(text, "ingress-spclient") {
		t.Errorf("two sets are attached, and the faults are %v", have.Faults)
	}
	answered(t, lab, "a")
	must(t, next.Resync(t.Context(), now))
	proxytest.CheckDump(t, next, now)
	answered(t, lab, "b")
	hooks, _, err := d.hooks()
	must(t, err)
	for _, h := range hooks {
		if own := ownAt(t, d.cfg.Cgroup, h); len(own) != 1 || own[0] != next.kernel.ids[h.program] {
			t.Errorf("at %s are %v", h.label(), own)
		}
	}
}

// TestAdoption: a new process that has nothing but the kernel to ask gets the maps of the one before: a connection of
// packets goes on, and so does session affinity. With two sets it is those that were in force.
func TestAdoption(t *testing.T) {
	for _, form := range []struct {
		name       string
		older, two bool
	}{{"tcx", false, false}, {"clsact", true, false}, {"two sets", false, true}} {
		t.Run(form.name, func(t *testing.T) {
			lab := proxytest.NewLab(t)
			d := open(t, lab)
			d.cfg.older = form.older
			services := web(lab, "a")
			port := echoes(t, lab.Hosts["a"])
			for i := range services[0].Ports[0].Endpoints {
				e := &services[0].Ports[0].Endpoints[i]
				e.AddrPort = netip.AddrPortFrom(e.Addr(), port)
			}
			table := lab.Table(services...)
			must(t, d.Resync(t.Context(), table))
			if d.kernel.clsact && form.two {
				t.Skip("the kernel has no tcx (Linux 6.6), and of filters there are no two at one place")
			}
			var conn net.Conn
			in(t, lab.Hosts["client"], func() (err error) { conn, err = net.Dial("tcp", "192.0.2.1:30080"); return err })
			defer conn.Close()
			say := func() {
				t.Helper()
				must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
				_, err := conn.Write([]byte("x"))
				must(t, err)
				_, err = conn.Read(make([]byte, 1))
				must(t, err)
			}
			say()
			if form.two {
				second(t, d, table).kernel.close()
			}
			before, err := d.kernel.read(mapFlows)
			must(t, err)
			d.kernel.close()
			d.kernel, d.model, d.role = nil, nil, nil
			say()
			must(t, d.Resync(t.Context(), table))
			say()
			after, err := d.kernel.read(mapFlows)
			must(t, err)
			for key := range before {
				if _, ok := after[key]; !ok {
					t.Error("an entry of the table of flows is lost")
				}
			}
			if *d.role != proxy.Sole {
				t.Errorf("the role is %v", *d.role)
			}
			proxytest.CheckDump(t, d, table)
		})
	}
}

// TestWhatSomebodyTookAway: programs that are detached one by one are missed by name, and stand there again after the
// next comparison.
func TestWhatSomebodyTookAway(t *testing.T) {
	lab, d := lived(t)
	table := lab.Table(web(lab, "a")...)
	hooks, _, err := d.hooks()
	must(t, err)
	for _, h := range hooks {
		unseat(t, d, h)
		have, err := d.Dump(t.Context())
		must(t, err)
		if want := "not attached: " + h.label(); !slices.Contains(have.Faults, want) {
			t.Errorf("the faults should hold %q: %v", want, have.Faults)
		}
		must(t, d.Resync(t.Context(), table))
		proxytest.CheckDump(t, d, table)
	}
	unseat(t, d, hooks...)
	have, err := d.Dump(t.Context())
	must(t, err)
	if len(have.Frontends) > 0 || len(have.Faults) == 0 {
		t.Errorf("nothing is in force, and shown are %d frontends and %v", len(have.Frontends), have.Faults)
	}
	must(t, d.Resync(t.Context(), table))
	proxytest.CheckDump(t, d, table)
	answered(t, lab, "a")
}

// TestSomebodyElseComesFirst: a program that keeps packets from ours is noticed, and ours goes before it without a gap.
func TestSomebodyElseComesFirst(t *testing.T) {
	lab, d := lived(t)
	if d.kernel.clsact {
		t.Skip("the kernel has no tcx (Linux 6.6), and the order of filters is what people choose")
	}
	table := lab.Table(web(lab, "a")...)
	const keep = 0 // TCX_PASS: nobody else sees the packet
	theirs, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: passing(keep)})
	must(t, err)
	defer theirs.Close()
	ours := packetHooks(linkOf(t, "spclient"))[1]
	must(t, ours.put(nil, theirs, link.Head()))
	have, err := d.Dump(t.Context())
	must(t, err)
	if want := "a program of somebody else comes first: ingress-spclient"; !slices.Contains(have.Faults, want) {
		t.Errorf("the faults should hold %q: %v", want, have.Faults)
	}
	must(t, d.Resync(t.Context(), table))
	proxytest.CheckDump(t, d, table)
	answered(t, lab, "a")
	there, err := ours.attached(nil)
	must(t, err)
	info, err := theirs.Info()
	must(t, err)
	if id, _ := info.ID(); len(there) != 2 || there[1] != id {
		t.Errorf("attached are %v, and the other one is %d", there, id)
	}
}

// TestProgramsOutOfReach: what is attached to a cgroup that this process cannot see is named, and gives new connections
// to others.
func TestProgramsOutOfReach(t *testing.T) {
	lab, d := lived(t)
	next := second(t, d, lab.Table(web(lab, "b")...))
	folder, err := os.MkdirTemp(d.cfg.Cgroup, "spt-above-")
	must(t, err)
	defer os.Remove(folder)
	cgroup, err := os.Open(folder)
	must(t, err)
	defer cgroup.Close()
	next.kernel.found, err = takeInventory()
	must(t, err)
	for _, h := range socketHooks() {
		if err := next.kernel.above(cgroup, h); err == nil || !strings.Contains(err.Error(), folder) || !strings.Contains(err.Error(), "svcplane cleanup") {
			t.Errorf("%s: %v", h.name, err)
		}
	}
	role, _, err := d.kernel.recordedRole()
	must(t, err)
	if *role != proxy.Draining {
		t.Errorf("their role is %v", *role)
	}
}

// TestLinksOfAnEarlierVersion: they serve until this process has a role, wherever they are pinned, and then go.
func TestLinksOfAnEarlierVersion(t *testing.T) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	hooks, _, err := d.hooks()
	must(t, err)
	old := earlier(t, d, hooks)
	d.cfg.Draining = true
	table := lab.Table(web(lab, "a")...)
	must(t, d.Resync(t.Context(), table))
	if there, err := Present(); err != nil || !there {
		t.Errorf("present is %t, %v", there, err)
	}
	for _, h := range hooks {
		if n := len(ownAt(t, d.cfg.Cgroup, h)); n != 2 && (!d.kernel.clsact || !h.packets()) {
			t.Errorf("at %s are %d", h.label(), n)
		}
	}
	must(t, d.Act(t.Context(), proxy.Sole))
	for _, h := range hooks {
		if own := ownAt(t, d.cfg.Cgroup, h); slices.Contains(own, old[h.program]) {
			t.Errorf("at %s the link stays", h.label())
		}
	}
	answered(t, lab, "a")
	proxytest.CheckDump(t, d, table)
}

// earlier attaches by links programs that no map marks, with what says whose they are.
func earlier(t *testing.T, d *Dataplane, hooks []hook) map[string]ebpf.ProgramID {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(code))
	must(t, err)
	must(t, tailor(spec, d.cfg))
	all, err := ebpf.NewCollection(spec)
	must(t, err)
	t.Cleanup(all.Close)
	cookie, err := namespaceCookie()
	must(t, err)
	e := namespace{cookie: cookie, host: true}.entry()
	must(t, all.Maps[mapNetns].Put([]byte(e.key), []byte(e.value)))
	ids := map[string]ebpf.ProgramID{}
	for _, h := range hooks {
		p := all.Programs[h.program]
		info, err := p.Info()
		must(t, err)
		ids[h.program], _ = info.ID()
		var l link.Link
		if h.packets() {
			if l, err = link.AttachTCX(link.TCXOptions{Interface: h.ifindex, Program: p, Attach: h.attach}); errors.Is(err, link.ErrNotSupported) {
				continue
			}
		} else {
			l, err = link.AttachCgroup(link.CgroupOptions{Path: d.cfg.Cgroup, Attach: h.attach, Program: p})
		}
		must(t, err)
		t.Cleanup(func() { l.Close() })
	}
	return ids
}

// TestPinsOfAnEarlierVersion go with what they held.
func TestPinsOfAnEarlierVersion(t *testing.T) {
	own, err := ownPins()
	must(t, err)
	if len(own) > 0 {
		t.Fatalf("there are %v", own)
	}
	dir := filepath.Join(t.TempDir(), "svcplane", "ns-1")
	must(t, os.MkdirAll(filepath.Join(dir, "v4", "maps"), 0o700))
	must(t, removePinned(dir))
	if _, err := os.Stat(filepath.Dir(dir)); err == nil {
		t.Error("the directory of all instances stays without any")
	}
}
