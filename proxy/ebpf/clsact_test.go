package ebpf

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// TestContractOverClsact: everything of pods is done to packets, and those come by filters as on a kernel without tcx.
func TestContractOverClsact(t *testing.T) {
	if proxytest.Apart(t) {
		return
	}
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	d.cfg.older = true
	d.cfg.Namespaces = func() ([]string, error) { return nil, nil }
	proxytest.Run(t, lab, swept{d, d})
	if left, err := withQdisc(); err != nil || len(left) > 0 {
		t.Errorf("qdiscs stay on links %v: %v", left, err)
	}
}

// overClsact is lived without tcx.
func overClsact(t *testing.T) (*proxytest.Lab, *Dataplane) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	d.cfg.older = true
	must(t, d.Resync(t.Context(), lab.Table(web(lab, "a")...)))
	return lab, d
}

// passing is a program of somebody else that always says the same.
func passing(verdict int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}
}

func linkOf(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l.Attrs().Index
}

func programAt(t *testing.T, h hook) int {
	t.Helper()
	f, err := h.found()
	must(t, err)
	if f == nil {
		return 0
	}
	return f.Id
}

// TestFiltersOutliveTheProcess: they serve while no process runs, and the next one exchanges the programs without
// taking a filter away. Some that go missing are noticed and come again.
func TestFiltersOutliveTheProcess(t *testing.T) {
	lab, d := overClsact(t)
	served := func(when string) {
		t.Helper()
		got, err := lab.Hosts["client"].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort("10.96.0.5:80"), Protocol: corev1.ProtocolTCP})
		if err != nil || got.Name != "a" {
			t.Errorf("%s: %v %v", when, got, err)
		}
	}
	served("at first")
	d.kernel.close()
	served("without a process")
	hooks := packetHooks(linkOf(t, "spclient"))
	before := []int{programAt(t, hooks[0]), programAt(t, hooks[1])}
	if before[0] == 0 || before[1] == 0 {
		t.Fatal("there are no filters")
	}
	next, err := New(d.cfg)
	must(t, err)
	proxytest.CheckDump(t, next, lab.Table(web(lab, "a")...))
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_TC)
	must(t, err)
	defer events.Close()
	must(t, next.Resync(t.Context(), lab.Table(web(lab, "a")...)))
	if n := removals(t, events); n > 0 {
		t.Errorf("%d filters or qdiscs were taken away meanwhile", n)
	}
	for i, h := range hooks {
		if programAt(t, h) == before[i] {
			t.Errorf("%s runs the program of the process before", h.name)
		}
	}
	served("with the next")
	d.kernel, d.store, d.model = next.kernel, next.store, next.model

	f, err := hooks[0].found()
	must(t, err)
	must(t, netlink.FilterDel(f))
	have, err := d.Dump(t.Context())
	must(t, err)
	if !slices.ContainsFunc(have.Faults, func(f string) bool { return strings.Contains(f, hooks[0].label()) }) {
		t.Errorf("a filter is missing, and the faults are %v", have.Faults)
	}
	must(t, d.follow())
	proxytest.CheckDump(t, d, lab.Table(web(lab, "a")...))
}

// removals counts the events about filters and qdiscs that are gone. The kernel tells before the call returns that
// was the cause.
func removals(t *testing.T, events *nl.NetlinkSocket) int {
	t.Helper()
	n := 0
	buffer := make([]byte, 1<<16)
	for {
		size, _, err := unix.Recvfrom(events.GetFd(), buffer, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		must(t, err)
		if kind := native.Uint16(buffer[4:]); size >= 16 && (kind == unix.RTM_DELTFILTER || kind == unix.RTM_DELQDISC) {
			n++
		}
	}
}

// TestForeignFiltersStay: neither a qdisc of somebody else is taken away, nor one of ours with a filter of theirs.
func TestForeignFiltersStay(t *testing.T) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	d.cfg.older = true
	theirs, shared, own := linkOf(t, "spa"), linkOf(t, "spb"), linkOf(t, "spclient")
	must(t, netlink.QdiscAdd(clsact(theirs)))
	must(t, d.Resync(t.Context(), lab.Table(web(lab, "a")...)))
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: passing(-1)})
	must(t, err)
	defer prog.Close()
	foreign := packetHooks(shared)[1].filter()
	foreign.Name, foreign.Priority, foreign.Fd = "theirs", 7, prog.FD()
	must(t, netlink.FilterAdd(foreign))
	with, err := withQdisc()
	must(t, err)
	if !slices.Contains(with, own) {
		t.Fatal("the programs are not attached to the client's link")
	}

	unseat(t, d, socketHooks()...)
	if there, err := Present(); err != nil || !there {
		t.Errorf("only filters stand there, and present is %t, %v", there, err)
	}
	must(t, d.Resync(t.Context(), lab.Table(web(lab, "a")...)))
	must(t, Cleanup())
	d.kernel.close()
	d.kernel = nil
	if there, err := Present(); err != nil || there {
		t.Errorf("all is removed, and present is %t, %v", there, err)
	}
	with, err = withQdisc()
	must(t, err)
	for _, index := range []int{theirs, shared} {
		if !slices.Contains(with, index) {
			t.Errorf("the qdisc of link %d is gone, and it is somebody else's or has a filter of somebody else", index)
		}
	}
	left, err := filters(shared, netlink.HANDLE_MIN_INGRESS)
	must(t, err)
	if len(left) != 1 || left[0].(*netlink.BpfFilter).Name != "theirs" {
		t.Errorf("on the link with a foreign filter there are %v", left)
	}
	// one that stands where ours would is not replaced
	foreign.Priority = packetHooks(shared)[1].filter().Priority
	must(t, netlink.FilterAdd(foreign))
	if err := d.Resync(t.Context(), lab.Table(web(lab, "a")...)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("somebody else has our place: %v", err)
	}
}

// TestQdiscsGoWithTheFilters: what was made is removed, also when a link is not served any more.
func TestQdiscsGoWithTheFilters(t *testing.T) {
	_, d := overClsact(t)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "spbridge"}}
	must(t, netlink.LinkAdd(bridge))
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	port, err := netlink.LinkByName("spb")
	must(t, err)
	must(t, netlink.LinkSetMaster(port, bridge))
	must(t, d.follow())
	with, err := withQdisc()
	must(t, err)
	if slices.Contains(with, port.Attrs().Index) || !slices.Contains(with, bridge.Attrs().Index) {
		t.Errorf("link %d is a port of %d by now, and qdiscs are on %v", port.Attrs().Index, bridge.Attrs().Index, with)
	}
	must(t, d.Close(t.Context()))
	if with, err = withQdisc(); err != nil || len(with) > 0 {
		t.Errorf("qdiscs stay on links %v: %v", with, err)
	}
}

// TestFiltersOfAnOlderLayout come before those of this one, and go when this process has a role.
func TestFiltersOfAnOlderLayout(t *testing.T) {
	_, d := overClsact(t)
	h := packetHooks(linkOf(t, "spclient"))[1]
	older := h.filter()
	older.Name, older.Priority, older.Fd = filterName+"v0-"+h.program, filterPriority, d.kernel.prog[h.program].FD()
	must(t, netlink.FilterAdd(older))
	must(t, d.follow())
	all, err := filters(h.ifindex, h.parent())
	must(t, err)
	if len(all) != 2 || all[0].(*netlink.BpfFilter).Name != older.Name {
		t.Errorf("the filters are %v", all)
	}
	must(t, d.Act(t.Context(), proxy.Active))
	if all, err = filters(h.ifindex, h.parent()); err != nil || len(all) != 1 || all[0].(*netlink.BpfFilter).Name == older.Name {
		t.Errorf("the filters are %v, %v", all, err)
	}
}

// TestOrphansAreRemoved: an instance whose namespace is gone is removed by the next start of another one, whether tcx
// or filters led packets to it; as long as its namespace is there, nobody else touches it.
func TestOrphansAreRemoved(t *testing.T) {
	lab, d := lived(t)
	for _, older := range []bool{false, true} {
		other := instanceElsewhere(t, older)
		at := func() bool {
			there, err := attachedIn(d.cfg.Cgroup, socketHooks()[0])
			must(t, err)
			return slices.Contains(there, other.program)
		}
		start := func() {
			t.Helper()
			d.kernel.close()
			d.kernel = nil
			must(t, d.Resync(t.Context(), lab.Table(web(lab, "a")...)))
		}
		start()
		must(t, Cleanup())
		start()
		if !at() {
			t.Fatal("an instance that lives has lost its programs to another one")
		}
		must(t, other.namespace.Close())
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			inv, err := takeInventory()
			must(t, err)
			if _, orphaned := inv.orphans[other.program]; orphaned {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the namespace is gone, and its map does not say so")
			}
		}
		start()
		if at() {
			t.Error("the programs of an instance whose namespace is gone stay")
		}
	}
}

type elsewhere struct {
	program   ebpf.ProgramID // at the first of socketHooks
	namespace netns.NsHandle
}

// instanceElsewhere is one that has served in a network namespace of its own, with a link, and whose process is gone.
func instanceElsewhere(t *testing.T, older bool) elsewhere {
	t.Helper()
	var e elsewhere
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		done <- func() error {
			var err error
			if e.namespace, err = netns.New(); err != nil {
				return err
			}
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "spgone"}, PeerName: "spgone2"}); err != nil {
				return err
			}
			d, err := New(Config{older: older, Namespaces: func() ([]string, error) { return nil, nil }})
			if err != nil {
				return err
			}
			if err := d.Resync(t.Context(), proxy.Table{}); err != nil {
				return err
			}
			e.program = d.kernel.ids[socketHooks()[0].program]
			d.kernel.close()
			return nil
		}()
	}()
	must(t, <-done)
	return e
}

// TestTCXIsFound: the kernel is asked, and its version says whether the answer is right.
func TestTCXIsFound(t *testing.T) {
	_, d := lived(t)
	version, err := features.LinuxVersionCode()
	must(t, err)
	if have, since := haveTCX(d.kernel.prog["svc_ingress"]), uint32(6<<16|6<<8); have != (version >= since) {
		t.Errorf("tcx is there: %t, on Linux %d.%d", have, version>>16, version>>8&0xff)
	}
}
