package listeners

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func listener(at string, protocol corev1.Protocol) Listener {
	return Listener{At: netip.MustParseAddrPort(at), Protocol: protocol, Owner: "the part", Flag: "part-address"}
}

// TestHostPort has the cases of bind(2) that a pod's hostPort can meet.
func TestHostPort(t *testing.T) {
	for _, c := range []struct {
		listens  string
		protocol corev1.Protocol
		asks     corev1.ContainerPort
		clash    bool
	}{
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{HostPort: 6443}, true},
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{HostPort: 6443, Protocol: "TCP", HostIP: "0.0.0.0"}, true},
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{HostPort: 6443, HostIP: "::"}, true},
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{HostPort: 6443, HostIP: "127.0.0.1"}, true},
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{HostPort: 6443, HostIP: "::1"}, false},
		{"[::]:6443", "TCP", corev1.ContainerPort{HostPort: 6443, HostIP: "::1"}, true},
		{"[::]:6443", "TCP", corev1.ContainerPort{HostPort: 6443, HostIP: "192.0.2.1"}, true},
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{HostPort: 6443, Protocol: "UDP"}, false},
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{HostPort: 6444}, false},
		{"0.0.0.0:6443", "TCP", corev1.ContainerPort{ContainerPort: 6443}, false},
		{"127.0.0.1:80", "TCP", corev1.ContainerPort{HostPort: 80}, true},
		{"127.0.0.1:80", "TCP", corev1.ContainerPort{HostPort: 80, HostIP: "127.0.0.1"}, true},
		{"127.0.0.1:80", "TCP", corev1.ContainerPort{HostPort: 80, HostIP: "192.0.2.1"}, false},
		{"10.96.0.10:53", "UDP", corev1.ContainerPort{HostPort: 53, Protocol: "UDP"}, true},
		{"10.96.0.10:53", "UDP", corev1.ContainerPort{HostPort: 53, Protocol: "UDP", HostIP: "192.0.2.1"}, false},
		{"10.96.0.10:53", "UDP", corev1.ContainerPort{HostPort: 53, Protocol: "UDP", HostIP: "::ffff:10.96.0.10"}, true},
	} {
		if _, got := (Set{listener("192.0.2.9:1", "TCP"), listener(c.listens, c.protocol)}).HostPort(c.asks); got != c.clash {
			t.Errorf("%s/%s and %+v: clash %v, want %v", c.listens, c.protocol, c.asks, got, c.clash)
		}
	}
}

func TestRefusalSaysWhoAndWhichFlag(t *testing.T) {
	l := listener("0.0.0.0:6443", "TCP")
	if got, want := l.Refusal(), "port 6443/TCP belongs to the part (--part-address 0.0.0.0:6443)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	l.Flag = ""
	if got, want := l.Refusal(), "port 6443/TCP belongs to the part (0.0.0.0:6443)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
