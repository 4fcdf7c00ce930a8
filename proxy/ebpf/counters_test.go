package ebpf

import (
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

func TestEventsAreCounted(t *testing.T) {
	lab, d := lived(t)
	if size := d.kernel.maps[mapCounts].MaxEntries(); int(size) != len(reasons) {
		t.Fatalf("%d reasons have names, and the kernel counts %d", len(reasons), size)
	}
	for from, to := range map[string]string{"c": "10.96.0.5:80", "client": "192.0.2.1:30080", "node": "10.96.9.9:80", "b": "10.96.9.9:80"} {
		_, err := lab.Hosts[from].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort(to), Protocol: corev1.ProtocolTCP})
		must(t, err)
	}
	events := d.events()
	for _, name := range []string{"socket_translated", "flow_made", "socket_refused", "packet_refused"} {
		if events[name] != 1 {
			t.Errorf("%s: %d times, and it was once", name, events[name])
		}
	}
	registry := prometheus.NewRegistry()
	must(t, registry.Register(d))
	families, err := registry.Gather()
	must(t, err)
	if len(families) != 1 || len(families[0].Metric) != len(reasons) {
		t.Errorf("the metrics are %v", families)
	}
}
