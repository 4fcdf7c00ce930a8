package loadbalancer

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Real sockets on loopback addresses nobody else uses, read back through /proc.
func TestListenerFindsRealSockets(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.83.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	any6, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer any6.Close()
	udpConn, err := net.ListenPacket("udp4", "127.83.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udpConn.Close()
	connected, err := net.Dial("udp4", udpConn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()

	here, there := netip.MustParseAddr("127.83.1.1"), netip.MustParseAddr("127.83.1.2")
	me := fmt.Sprintf("process %s (pid %d)", comm(t), os.Getpid())
	for _, tc := range []struct {
		name     string
		addr     netip.Addr
		of       net.Addr
		protocol corev1.Protocol
		want     string
	}{
		{"the address that is listened on", here, tcp.Addr(), corev1.ProtocolTCP, me},
		{"another address", there, tcp.Addr(), corev1.ProtocolTCP, ""},
		{"another protocol", here, tcp.Addr(), corev1.ProtocolSCTP, ""},
		{"the IPv6 wildcard takes IPv4", there, any6.Addr(), corev1.ProtocolTCP, me},
		{"the IPv6 wildcard takes IPv6", netip.MustParseAddr("fd00::9"), any6.Addr(), corev1.ProtocolTCP, me},
		{"an unconnected datagram socket", here, udpConn.LocalAddr(), corev1.ProtocolUDP, me},
		{"a client's datagram socket", netip.MustParseAddr("127.0.0.1"), connected.LocalAddr(), corev1.ProtocolUDP, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l look
			got := l.listener(tc.addr, PortKey{Port: port(t, tc.of), Protocol: tc.protocol})
			if got != tc.want || l.err != nil {
				t.Errorf("listener = %q, %v; want %q", got, l.err, tc.want)
			}
		})
	}
	tcp.Close()
	var l look
	if got := l.listener(here, PortKey{Port: port(t, tcp.Addr()), Protocol: corev1.ProtocolTCP}); got != "" {
		t.Errorf("after the socket was closed: %q", got)
	}
}

func port(t *testing.T, a net.Addr) uint16 {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return ap.Port()
}

func comm(t *testing.T) string {
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

func TestSocketsErrors(t *testing.T) {
	dir := t.TempDir()
	if found, err := sockets(dir); len(found) != 0 || err != nil {
		t.Errorf("no files: %v, %v", found, err)
	}
	const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	bad := "   0: 0100007X:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 123 1\n"
	if err := os.WriteFile(filepath.Join(dir, "tcp"), []byte(header+bad), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sockets(dir); err == nil || !strings.Contains(err.Error(), dir+"/tcp") {
		t.Errorf("a line that is none: %v", err)
	}
}

func FuzzParseSockets(f *testing.F) {
	f.Add("   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 123 1\n")
	f.Add("   0: 0000000000000000FFFF00000100007F:1F90 0:0 0A a b c d e 99\n")
	f.Fuzz(func(t *testing.T, text string) {
		found, err := parseSockets(strings.NewReader(text), stateListen, corev1.ProtocolTCP)
		for _, s := range found {
			if err == nil && !s.local.IsValid() {
				t.Errorf("an invalid address came out of %q", text)
			}
		}
	})
}
