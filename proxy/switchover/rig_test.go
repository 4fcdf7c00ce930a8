package switchover

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
	"svcplane/proxy/proxytest"
)

func TestMain(m *testing.M) { proxytest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func otherThan(mode string) string {
	return map[string]string{IPTables: EBPF, EBPF: IPTables}[mode]
}

// rig is a Switch on a real kernel, and what a Proxy is to it.
type rig struct {
	t   testing.TB
	lab *proxytest.Lab
	cfg Config

	*Switch
	stop func()

	mu    sync.Mutex
	table proxy.Table
}

// newRig prepares both kinds; nothing is opened yet.
func newRig(t testing.TB, mode string) *rig {
	r := &rig{t: t, lab: proxytest.NewLab(t)}
	r.cfg = Config{
		Modes: []string{mode}, File: filepath.Join(t.TempDir(), "mode"), Drain: time.Hour, Poll: 20 * time.Millisecond,
		Kinds: Kinds(
			iptables.Config{PodCIDRs: r.lab.Node.PodCIDRs, ServiceCIDRs: r.lab.Node.ServiceCIDRs, Source: r.lab.Node.Addrs[:1], IPv6: true},
			ebpf.Config{
				PodCIDRs: r.lab.Node.PodCIDRs, ServiceCIDRs: r.lab.Node.ServiceCIDRs, Source: r.lab.Node.Addrs,
				NodePorts: [2]uint16{30000, 32767}, Namespaces: r.lab.Namespaces(t),
			}),
	}
	t.Cleanup(func() {
		r.crash()
		must(t, iptables.Cleanup(context.Background()))
		must(t, ebpf.Cleanup())
	})
	return r
}

// Ready, Table and Exclusively make the rig the Loop of its Switch.
func (r *rig) Ready() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func (r *rig) Table() proxy.Table {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table
}

func (r *rig) Exclusively(f func(proxy.Table) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f(r.table)
}

// start opens a Switch as a new process does.
func (r *rig) start() {
	r.t.Helper()
	s, err := New(context.Background(), r.cfg)
	must(r.t, err)
	must(r.t, r.Exclusively(func(table proxy.Table) error { return s.Resync(context.Background(), table) }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, r) }()
	r.Switch = s
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	r.until("the switch runs", func() bool { return s.running() != nil })
}

// crash forgets the Switch; the kernel keeps what it has.
func (r *rig) crash() {
	if r.stop != nil {
		r.stop()
	}
	r.Switch, r.stop = nil, nil
}

// serve puts Services into force.
func (r *rig) serve(services ...*catalog.Service) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.lab.Table(services...)
	if r.Switch != nil {
		must(r.t, r.Sync(context.Background(), proxytest.Step(r.table, next)))
	}
	r.table = next
}

// until waits for something that must come. A look at the connections takes a second on a busy machine, and twenty times
// as long passes before the next.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stdout, 1) // who waits for what
			r.t.Fatalf("waited in vain: %s; %+v", what, r.Status())
		}
	}
}

func (r *rig) to(mode string) {
	r.t.Helper()
	must(r.t, r.To(context.Background(), mode, time.Hour))
}

// settled waits until one data plane is left, and looks at what the kernel holds.
func (r *rig) settled(mode string) {
	r.t.Helper()
	r.until("only "+mode+" is left", func() bool { return r.Status().Phase == Settled })
	if got := r.Mode(); got != mode {
		r.t.Errorf("%s serves, and should be %s", got, mode)
	}
	proxytest.CheckDump(r.t, r, r.Table())
	for name, kind := range r.cfg.Kinds {
		there, err := kind.There(context.Background())
		must(r.t, err)
		if there != (name == mode) {
			r.t.Errorf("%s serves, and the kernel holds something of %s: %t", mode, name, there)
		}
	}
}

var (
	clusterTCP = proxy.Address{AddrPort: netip.MustParseAddrPort("10.96.0.5:80"), Protocol: corev1.ProtocolTCP}
	nodeTCP    = proxy.Address{AddrPort: netip.MustParseAddrPort("192.0.2.1:30080"), Protocol: corev1.ProtocolTCP}
)

// web is a Service for TCP and UDP on a port of the named pods.
func (r *rig) web(port uint16, pods ...string) *catalog.Service {
	svc := &catalog.Service{
		Key: catalog.Key{Namespace: "default", Name: "web"}, Type: corev1.ServiceTypeNodePort, ClusterIPs: []netip.Addr{clusterTCP.Addr()},
		Ports: []catalog.Port{
			{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080},
			{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30080},
		},
	}
	for i := range svc.Ports {
		for _, pod := range pods {
			svc.Ports[i].Endpoints = append(svc.Ports[i].Endpoints, catalog.Endpoint{AddrPort: netip.AddrPortFrom(r.lab.Hosts[pod].IPv4, port), Ready: true, Serving: true, Node: "node"})
		}
	}
	return svc
}

// answers fails the test unless everybody is answered by one of the named.
func (r *rig) answers(names ...string) {
	r.t.Helper()
	for _, from := range []string{"node", "c", "client"} {
		r.lab.Check(r.t, proxytest.Probe{From: from, To: clusterTCP, Want: names})
	}
	r.lab.Check(r.t, proxytest.Probe{From: "client", To: nodeTCP, Want: names, As: "node"})
}
