package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
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
