package ebpf

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// TestPeersThatAreGone: TCP sockets that are connected to an endpoint of the past end with an error, in every
// namespace of the node, and no others.
func TestPeersThatAreGone(t *testing.T) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	echo := echoes(t, lab.Hosts["a"])
	services := web(lab, "a")
	for i := range services[0].Ports[0].Endpoints {
		e := &services[0].Ports[0].Endpoints[i]
		e.AddrPort = netip.AddrPortFrom(e.Addr(), echo)
	}
	must(t, d.Resync(t.Context(), lab.Table(services...)))
	dial := func(from, to string) (conn net.Conn) {
		in(t, lab.Hosts[from], func() (err error) { conn, err = net.Dial("tcp", to); return err })
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var past []net.Conn
	for _, from := range []string{"node", "c"} {
		past = append(past, dial(from, "10.96.0.5:80"), dial(from, "[fd00:96::5]:80"))
	}
	others := []net.Conn{dial("client", "192.0.2.1:30080"), dial("c", netip.AddrPortFrom(lab.Hosts["a"].IPv4, echo).String())}
	ended, err := d.EndFlows(t.Context(), func(f proxy.Flow) bool { return f.Socket })
	if err != nil || ended != uint(len(past)) {
		t.Errorf("%d of %d ended: %v", ended, len(past), err)
	}
	for _, conn := range past {
		must(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("%s is gone, and its client gets: %v", conn.RemoteAddr(), err)
		}
	}
	for _, conn := range others {
		must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, err := conn.Write([]byte("x"))
		must(t, err)
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s -> %s should go on: %v", conn.LocalAddr(), conn.RemoteAddr(), err)
		}
	}
	left, err := d.kernel.read(mapSocketRevnat)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("%d entries stay of sockets that are gone", len(left))
	}
}

// TestLinkThatWent: one that went between being listed and being attached to hinders no other.
func TestLinkThatWent(t *testing.T) {
	_, d := lived(t)
	hooks, links, err := d.hooks()
	must(t, err)
	const nobodys = 1 << 20
	unseat(t, d, hooks...)
	must(t, d.kernel.attach(d.cfg.Cgroup, append(packetHooks(nobodys), hooks...), links))
	if have, err := d.Dump(t.Context()); err != nil || len(have.Faults) > 0 {
		t.Error(have.Faults, err)
	}
}

// echoes gives back, on a port of a host, what it gets, until the test ends.
func echoes(t *testing.T, h *proxytest.Host) (port uint16) {
	var listener net.Listener
	in(t, h, func() (err error) { listener, err = net.Listen("tcp", "[::]:0"); return err })
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return netip.MustParseAddrPort(listener.Addr().String()).Port()
}
