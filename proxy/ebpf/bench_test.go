package ebpf

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// crowd is many Services of ten endpoints each, the last of which is only pod a.
func crowd(lab *proxytest.Lab, services int) proxy.Table {
	var all []proxy.Frontend
	for i := range services {
		addr := netip.AddrFrom4([4]byte{10, 96, byte(100 + i/250), byte(1 + i%250)})
		f := proxy.Frontend{Service: catalog.Key{Namespace: "default", Name: fmt.Sprintf("svc%d", i)}, Masquerade: proxy.MasqueradeOutsidePods}
		f.Address, f.Scope = proxy.Address{AddrPort: netip.AddrPortFrom(addr, 80), Protocol: corev1.ProtocolTCP}, proxy.Everywhere
		for e := range 10 {
			f.Endpoints = append(f.Endpoints, proxy.Endpoint{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(1 + i/250), byte(1 + (i+e)%250)}), 8080)})
		}
		all = append(all, f)
	}
	last := &all[len(all)-1]
	last.AddrPort = netip.MustParseAddrPort("10.96.0.5:80")
	last.Endpoints = []proxy.Endpoint{{AddrPort: netip.AddrPortFrom(lab.Hosts["a"].IPv4, 8080)}}
	return proxy.NewTable(all...)
}

// measured reports what the named programs take of each operation that follows, as the kernel counts it: other work
// on the machine does not count.
func measured(b *testing.B, d *Dataplane, programs ...string) (report func()) {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	must(b, err)
	before := map[string]time.Duration{}
	for _, name := range programs {
		s, err := d.kernel.prog[name].Stats()
		must(b, err)
		before[name] = s.Runtime
	}
	return func() {
		for _, name := range programs {
			s, err := d.kernel.prog[name].Stats()
			must(b, err)
			b.ReportMetric(float64(s.Runtime-before[name])/float64(b.N), "ns-in-"+name)
		}
		stats.Close()
	}
}

// BenchmarkConnect is the time of connect() from a pod, to an endpoint itself and through a ClusterIP.
func BenchmarkConnect(b *testing.B) {
	lab := proxytest.NewLab(b)
	d := open(b, lab)
	for _, services := range []int{10, 1000, 10000} {
		must(b, d.Resync(b.Context(), crowd(lab, services)))
		for name, to := range map[string]string{"direct": lab.Hosts["a"].IPv4.String() + ":8080", "clusterIP": "10.96.0.5:80"} {
			b.Run(fmt.Sprintf("%d/%s", services, name), func(b *testing.B) {
				report := measured(b, d, "svc_connect4", "svc_release")
				must(b, lab.Hosts["c"].Do(func() {
					for b.Loop() {
						conn, err := net.Dial("tcp4", to)
						if err != nil {
							b.Error(err)
							return
						}
						_ = conn.(*net.TCPConn).SetLinger(0)
						conn.Close()
					}
				}))
				report()
			})
		}
	}
}

// BenchmarkChange is the time of a change of one Service's endpoints among 10,000.
func BenchmarkChange(b *testing.B) {
	lab := proxytest.NewLab(b)
	d := open(b, lab)
	table := crowd(lab, 10000)
	began := time.Now()
	must(b, d.Resync(b.Context(), table))
	b.Logf("a start with 10,000 services takes %s", time.Since(began))
	f := table.Frontends[5000]
	both := [][]proxy.Endpoint{f.Endpoints, f.Endpoints[1:]}
	for i := 0; b.Loop(); i++ {
		f.Endpoints = both[i%2]
		must(b, d.Sync(b.Context(), proxy.Change{Set: []proxy.Frontend{f}}))
	}
	b.StopTimer()
	var bytes uint64
	for _, m := range d.kernel.maps {
		if info, err := m.Info(); err == nil {
			used, _ := info.Memlock()
			bytes += used
		}
	}
	b.ReportMetric(float64(bytes)/1e6, "MB-of-maps")
}

// BenchmarkDump is the time of reading back 10,000 Services with ten endpoints each.
func BenchmarkDump(b *testing.B) {
	lab := proxytest.NewLab(b)
	d := open(b, lab)
	must(b, d.Resync(b.Context(), crowd(lab, 10000)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := d.Dump(b.Context())
		must(b, err)
	}
}

// BenchmarkSchedulers is the time that the choice of one of some endpoints takes at connect().
func BenchmarkSchedulers(b *testing.B) {
	lab := proxytest.NewLab(b)
	d := open(b, lab)
	for _, endpoints := range []int{1, 10, 100} {
		f := proxy.Frontend{Service: catalog.Key{Namespace: "default", Name: "web"}}
		f.Address, f.Scope = proxy.Address{AddrPort: netip.MustParseAddrPort("10.96.0.5:80"), Protocol: corev1.ProtocolUDP}, proxy.Everywhere
		for i := range endpoints {
			f.Endpoints = append(f.Endpoints, proxy.Endpoint{AddrPort: numbered(i)})
		}
		for by, name := range schedulerNames {
			if d.cfg.Scheduler = Scheduler(by); d.kernel != nil {
				d.kernel.close()
				d.kernel = nil
			}
			must(b, d.Resync(b.Context(), proxy.NewTable(f)))
			b.Run(fmt.Sprintf("%d/%s", endpoints, name), func(b *testing.B) {
				report := measured(b, d, "svc_connect4", "svc_release")
				must(b, lab.Hosts["c"].Do(func() {
					for b.Loop() {
						conn, err := net.Dial("udp4", "10.96.0.5:80")
						if err != nil {
							b.Error(err)
							return
						}
						conn.Close()
					}
				}))
				report()
			})
		}
	}
}
