package switchover

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// TestTheOneThatCan: when a Service needs what the preferred data plane will never do, the other one takes its place,
// also after a restart; what goes on meanwhile is served.
func TestTheOneThatCan(t *testing.T) {
	r := newRig(t, EBPF)
	r.cfg.Modes = []string{EBPF, IPTables}
	web := r.web(8080, "a")
	r.serve(web)
	r.start()
	r.settled(EBPF)
	sctp := &catalog.Service{
		Key: catalog.Key{Namespace: "default", Name: "signalling"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.6")},
		Ports: []catalog.Port{{Protocol: corev1.ProtocolSCTP, Port: 2905, Endpoints: web.Ports[0].Endpoints}},
	}
	next := r.lab.Table(web, sctp)
	var unfit proxy.UnsupportedError
	if err := r.Sync(t.Context(), proxytest.Step(r.Table(), next)); !errors.As(err, &unfit) || !strings.Contains(err.Error(), "default/signalling") {
		t.Fatalf("eBPF should refuse SCTP: %v", err)
	}
	r.until("iptables takes its place", func() bool { return r.Mode() == IPTables })
	r.serve(web, sctp) // as the Proxy tries again
	r.answers("a")
	for range 2 {
		must(t, r.quiet())
		r.settled(IPTables)
		if st := r.Status().String(); !strings.Contains(st, "iptables (not ebpf: service default/signalling has the protocol SCTP") {
			t.Errorf("the status says %q", st)
		}
		r.crash()
		r.start()
	}
	if err := r.To(t.Context(), EBPF, 0); err == nil || !strings.Contains(err.Error(), "default/signalling") {
		t.Errorf("a switch back should be refused: %v", err)
	}
}
