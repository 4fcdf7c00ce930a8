package node

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"svcplane/listeners"
)

func withHostPort(ip string, port int32, protocol corev1.Protocol) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: port, HostPort: port, HostIP: ip, Protocol: protocol}}
	}
}

func TestAPodWhoseHostPortIsTakenIsRejected(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("first", withHostPort("", 8080, corev1.ProtocolTCP)))
	l.wantPod("first", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	l.create(pod("other-protocol", withHostPort("", 8080, corev1.ProtocolUDP)))
	l.wantPod("other-protocol", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	l.create(pod("second", withHostPort("127.0.0.1", 8080, corev1.ProtocolTCP)))
	rejected := l.wantPod("second", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if rejected.Status.Reason != "NodePorts" {
		t.Errorf("the reason is %q: %s", rejected.Status.Reason, rejected.Status.Message)
	}
	// What runs is not looked at again: after a restart the first is still the first.
	l.stop()
	l.start()
	l.create(pod("third", withHostPort("", 8080, corev1.ProtocolTCP)))
	l.wantPod("third", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p := l.get("first"); p.Status.Phase != corev1.PodRunning {
		t.Errorf("the first pod is %s (%s)", p.Status.Phase, p.Status.Reason)
	}
}

func TestHostPortsClash(t *testing.T) {
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	for _, c := range []struct {
		name string
		a, b func(*corev1.Pod)
		want bool
	}{
		{"same", withHostPort("", 80, tcp), withHostPort("", 80, tcp), true},
		{"any and one address", withHostPort("0.0.0.0", 80, tcp), withHostPort("192.0.2.1", 80, tcp), true},
		{"no protocol is TCP", withHostPort("", 80, ""), withHostPort("", 80, tcp), true},
		{"two addresses", withHostPort("127.0.0.1", 80, tcp), withHostPort("192.0.2.1", 80, tcp), false},
		{"two protocols", withHostPort("", 80, tcp), withHostPort("", 80, udp), false},
		{"two ports", withHostPort("", 80, tcp), withHostPort("", 81, tcp), false},
		{"no host ports", withHostPort("", 0, tcp), withHostPort("", 0, tcp), false},
	} {
		if got := portsClash(pod("a", c.a), pod("b", c.b)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestAPodThatAsksForAPortOfSvcplaneIsRejected: also one that has run since a time when nobody listened there.
func TestAPodThatAsksForAPortOfSvcplaneIsRejected(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("early", withHostPort("", 6443, corev1.ProtocolTCP)))
	l.create(pod("apart", withHostPort("192.0.2.1", 53, corev1.ProtocolUDP)))
	for _, name := range []string{"early", "apart"} {
		l.wantPod(name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	}
	l.stop()
	l.cfg.Own = listeners.Set{
		{At: netip.MustParseAddrPort("0.0.0.0:6443"), Protocol: corev1.ProtocolTCP, Owner: "the API", Flag: "api-address"},
		{At: netip.MustParseAddrPort("10.96.0.10:53"), Protocol: corev1.ProtocolUDP, Owner: "the cluster's DNS", Flag: "dns-ip"},
	}
	l.start()
	l.create(pod("late", withHostPort("", 53, corev1.ProtocolUDP)))
	for name, owner := range map[string]string{"early": "port 6443/TCP belongs to the API (--api-address 0.0.0.0:6443)", "late": "port 53/UDP belongs to the cluster's DNS"} {
		p := l.wantPod(name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		if p.Status.Reason != "NodePorts" || !strings.Contains(p.Status.Message, "didn't have free ports for the requested pod ports ("+owner) {
			t.Errorf("%s failed by %q: %s", name, p.Status.Reason, p.Status.Message)
		}
		if n := len(p.Status.ContainerStatuses); (n == 0) != (name == "late") {
			t.Errorf("%s tells of %d containers: one that waits hides from kubectl's users why the pod has failed", name, n)
		}
	}
	if p := l.get("apart"); p.Status.Phase != corev1.PodRunning {
		t.Errorf("the pod with the port of another address is %s (%s)", p.Status.Phase, p.Status.Message)
	}
}
