package ebpf

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// predecessorMaps are maps as programs of the layout before have them.
func predecessorMaps(t *testing.T) map[string]*ebpf.Map {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(code))
	must(t, err)
	for name, now := range presentNames {
		spec.Maps[now].Name = name
	}
	all := map[string]*ebpf.Map{}
	for name, m := range spec.Maps {
		if strings.HasPrefix(name, ".") {
			continue
		}
		all[name], err = ebpf.NewMap(m)
		must(t, err)
	}
	mark, err := ebpf.NewMap(&ebpf.MapSpec{Name: markPrefix + bequeathing, Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	must(t, err)
	must(t, mark.Put(uint32(0), uint32(linkOf(t, "lo"))))
	all[mapMark] = mark
	return all
}

// predecessorOf leaves in the kernel what a server of the layout before had in force; d goes on with its own maps.
func predecessorOf(t *testing.T, d *Dataplane, table proxy.Table) {
	t.Helper()
	k := &kernel{cfg: d.cfg}
	have := predecessorMaps(t)
	defer closeAll(have)
	must(t, k.load(have))
	k.clsact = d.cfg.older || !haveTCX(k.prog["svc_ingress"])
	d.kernel, d.store, d.role = k, k, new(proxy.Draining) // so that it takes over from nobody
	must(t, d.Resync(t.Context(), table))
	d.role = new(proxy.Sole)
	must(t, d.writeSettings())
	if k.clsact {
		rename(t, d)
	}
}

// rename gives filters the name and place that those of the layout before have.
func rename(t *testing.T, d *Dataplane) {
	t.Helper()
	hooks, _, err := d.hooks()
	must(t, err)
	for _, h := range hooks {
		if !h.packets() {
			continue
		}
		f, err := h.found()
		must(t, err)
		was := h.filter()
		was.Name, was.Fd = filterName+bequeathing+"-"+h.program, d.kernel.prog[h.program].FD()
		was.Priority--
		must(t, netlink.FilterAdd(was))
		must(t, netlink.FilterDel(f))
	}
}

// olderLeft are programs of other layouts that are loaded; the kernel frees them a moment after the last reference is gone.
func olderLeft(t *testing.T) programs {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		inv, err := takeInventory()
		must(t, err)
		if older := inv.older(); len(older) == 0 || time.Now().After(deadline) {
			return older
		}
	}
}

// ways are the two by which packets come to the programs.
var ways = map[string]bool{"tcx": false, "clsact": true}

// TestTakeOver: connections of every kind outlive an upgrade from the layout before, also on the bypass; new ones are served
// all the time, what was counted is not lost, and nothing of the old programs is left.
func TestTakeOver(t *testing.T) {
	for name, older := range ways {
		t.Run(name, func(t *testing.T) {
			if proxytest.Apart(t) {
				return
			}
			lab := proxytest.NewLab(t)
			before := open(t, lab)
			before.cfg.older = older
			c := newTalks(t, lab)
			table := lab.Table(append(c.services(), steady(lab))...)
			predecessorOf(t, before, table)
			must(t, before.Bypass(true))
			c.dial()
			c.speak("before the upgrade")
			counted := total(t, before)
			before.kernel.close()
			before.kernel = nil

			failed := dialing(t, lab)
			cfg := before.cfg
			cfg.Draining = true
			next, err := New(cfg)
			must(t, err)
			must(t, next.Prove(t.Context()))
			must(t, next.Resync(t.Context(), table))
			c.speak("beside the old programs")
			c.dial()
			must(t, next.Act(t.Context(), proxy.Sole))
			c.speak("after the upgrade")
			must(t, next.Bypass(true))
			c.dial()
			c.speak("after the upgrade, on the bypass")
			if n := failed(); n > 0 {
				t.Errorf("%d new connections failed meanwhile", n)
			}
			proxytest.CheckDump(t, next, table)
			if now := total(t, next); now != 3*counted {
				t.Errorf("of three times %d connections %d are counted", counted, now)
			}
			if left := olderLeft(t); len(left) > 0 {
				t.Errorf("programs of another layout are left: %v", left)
			}
			next.kernel.close()
		})
	}
}

// TestCleanupOfThePredecessor: what a server of the layout before has left goes, although none runs.
func TestCleanupOfThePredecessor(t *testing.T) {
	for name, older := range ways {
		t.Run(name, func(t *testing.T) {
			if proxytest.Apart(t) {
				return
			}
			lab := proxytest.NewLab(t)
			d := open(t, lab)
			d.cfg.older = older
			predecessorOf(t, d, lab.Table(web(lab, "a")...))
			d.kernel.close()
			d.kernel = nil
			if there, err := Present(); err != nil || !there {
				t.Fatalf("the programs are not found: %v", err)
			}
			must(t, Cleanup())
			if there, err := Present(); err != nil || there {
				t.Errorf("something is found after the cleanup: %v", err)
			}
			if left := olderLeft(t); len(left) > 0 {
				t.Errorf("programs are left: %v", left)
			}
			if left, err := withQdisc(); err != nil || len(left) > 0 {
				t.Errorf("qdiscs are left on links %v: %v", left, err)
			}
		})
	}
}

var steadyTCP = proxy.Address{AddrPort: netip.MustParseAddrPort("10.96.0.7:80"), Protocol: corev1.ProtocolTCP}

// steady is a Service that answers all the time.
func steady(lab *proxytest.Lab) *catalog.Service {
	svc := web(lab, "a")[0]
	svc.Name, svc.ClusterIPs = "steady", []netip.Addr{steadyTCP.Addr()}
	svc.Ports = svc.Ports[:1]
	svc.Ports[0].NodePort = 0
	return svc
}

// total is how many connections of talks were counted.
func total(t *testing.T, d *Dataplane) (sum uint64) {
	t.Helper()
	all, err := d.Tallies(t.Context())
	must(t, err)
	for _, one := range all {
		if !strings.Contains(one.Origin, "/steady:") {
			sum += one.Total
		}
	}
	return sum
}

// dialing has two clients dial without a pause; what it returns ends that and says how often one was not answered. A packet
// that is lost on a busy machine is sent again.
func dialing(t *testing.T, lab *proxytest.Lab) (failed func() int64) {
	var stop atomic.Bool
	var n atomic.Int64
	var wg sync.WaitGroup
	for _, from := range []string{"client", "c"} {
		wg.Go(func() {
			for !stop.Load() {
				var asked error
				if err := lab.Hosts[from].Do(func() { asked = askSteady() }); err != nil || asked != nil {
					t.Logf("%s: %v %v", from, err, asked)
					n.Add(1)
				}
			}
		})
	}
	return func() int64 {
		stop.Store(true)
		wg.Wait()
		return n.Load()
	}
}

// askSteady connects once, and reads who answers.
func askSteady() error {
	conn, err := net.DialTimeout("tcp", steadyTCP.AddrPort.String(), time.Minute)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	text, err := io.ReadAll(conn)
	if err == nil && !bytes.HasPrefix(text, []byte("a ")) {
		return fmt.Errorf("answered is %q", text)
	}
	return err
}
