package ebpf

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// TestRefusalWithoutRetval: a kernel whose programs cannot say why they refuse refuses a connection all
// the same, at once and never as a matter of permission.
func TestRefusalWithoutRetval(t *testing.T) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	d.cfg.older = true
	must(t, d.Resync(t.Context(), lab.Table(web(lab)...)))
	for _, from := range []string{"node", "c"} {
		for _, to := range []string{"10.96.0.5:80", "[fd00:96::5]:80"} {
			for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
				got, err := lab.Hosts[from].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort(to), Protocol: protocol})
				if err != nil || !got.Refused {
					t.Errorf("%s from %s to %s: %v, %v", protocol, from, to, got, err)
				}
			}
			in(t, lab.Hosts[from], func() error {
				socket, err := net.ListenPacket("udp", "[::]:0")
				if err != nil {
					return err
				}
				defer socket.Close()
				_, err = socket.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
				if denied := errors.Is(err, syscall.EPERM); denied != (from == "node") || err != nil && !denied {
					t.Errorf("a datagram from %s to %s: %v", from, to, err)
				}
				return nil
			})
		}
	}
	if refused := d.events()["socket_refused"]; refused < 10 {
		t.Errorf("counted are %d refusals", refused)
	}
	in(t, lab.Hosts["node"], func() error {
		l, err := net.Listen("tcp", "0.0.0.0:30080")
		if err == nil {
			l.Close()
		}
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("a program takes the port of a Service: %v", err)
		}
		return nil
	})
}
