package ebpf

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// TestPortsOfThePast: when a connection through a Service has ended, by both sides or by a reset, the next one may have
// the port that the endpoint saw, be it the node's own or the client's, without any Service. Its answers are not taken
// for those to the client before.
func TestPortsOfThePast(t *testing.T) {
	lab, d := lived(t)
	service := web(lab, "a")
	for _, port := range service[0].Ports {
		for i, e := range port.Endpoints {
			port.Endpoints[i].AddrPort = at9000(e.Addr())
		}
	}
	must(t, d.Resync(t.Context(), lab.Table(service...)))
	greet(t, lab.Hosts["a"])
	for _, next := range []string{"node", "client"} {
		for _, ending := range []string{"by both sides", "by a reset"} {
			must(t, forgetFlows(d))
			first := dialFrom(t, lab.Hosts["client"], 0, "192.0.2.1:30080")
			if ending == "by a reset" {
				must(t, first.SetLinger(0))
			}
			must(t, first.Close())
			port := seenPort(t, d)
			second := dialFrom(t, lab.Hosts[next], port, at9000(lab.Hosts["a"].IPv4).String())
			must(t, second.Close())
		}
	}
}

func at9000(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr, 9000) }

func forgetFlows(d *Dataplane) error {
	_, err := d.EndFlows(context.Background(), func(proxy.Flow) bool { return true })
	return err
}

// greet says one byte on port 9000 and leaves it to the client to end the connection.
func greet(t *testing.T, h *proxytest.Host) {
	var l net.Listener
	in(t, h, func() (err error) { l, err = net.Listen("tcp", ":9000"); return err })
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := conn.Write([]byte{1}); err == nil {
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
}

// dialFrom connects from a port, 0 for any, and waits for the first byte.
func dialFrom(t *testing.T, h *proxytest.Host, port uint16, to string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: int(port)}, Timeout: 5 * time.Second}
	var conn net.Conn
	in(t, h, func() (err error) { conn, err = d.Dial("tcp4", to); return err })
	must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := conn.Read(make([]byte, 1))
	must(t, err)
	return conn.(*net.TCPConn)
}

// seenPort is the port that the endpoint saw of the one client there was, once its last packet has passed.
func seenPort(t *testing.T, d *Dataplane) uint16 {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		all, err := d.kernel.read(mapFlows)
		must(t, err)
		for key, value := range all {
			f, ok := trackedOf(key, value)
			if !ok {
				continue
			}
			back := all[flowKey(f.endpoint, all[f.out()][:18], f.protocol, stageIn)]
			if back[20]&(stateFinOther|stateReset) != 0 {
				return binary.BigEndian.Uint16([]byte(f.seenPort))
			}
		}
	}
	t.Fatal("no entry of a client that has ended")
	return 0
}
