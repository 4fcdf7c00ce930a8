package switchover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"svcplane/proxy/proxytest"
	"svcplane/proxy/proxytest/traffic"
)

// echoPort is where pods answer conversations.
const echoPort = 9000

// echo answers in a host until the test ends.
func echo(t testing.TB, h *proxytest.Host) {
	t.Helper()
	var l net.Listener
	var c *net.UDPConn
	var err, err2 error
	must(t, h.Do(func() {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", echoPort))
		c, err2 = net.ListenUDP("udp", &net.UDPAddr{Port: echoPort})
	}))
	must(t, errors.Join(err, err2))
	t.Cleanup(func() { l.Close(); c.Close() })
	must(t, traffic.Serve(l, c, h.Name[0]))
}

// dialled is a socket of a host.
func dialled(t testing.TB, h *proxytest.Host, network, to string) (net.Conn, netip.AddrPort) {
	t.Helper()
	var conn net.Conn
	var err error
	must(t, h.Do(func() { conn, err = net.DialTimeout(network, to, 20*time.Second) }))
	must(t, err)
	return conn, netip.MustParseAddrPort(to)
}

// converse begins n conversations of a protocol by turns from a pod, from the node and from the LAN.
func (r *rig) converse(tr *traffic.Traffic, network string, n int) {
	r.t.Helper()
	for i := range n {
		from, to := []string{"c", "node", "client"}[i%3], "10.96.0.5:80"
		if from == "client" {
			to = "192.0.2.1:30080"
		}
		tr.Through(dialled(r.t, r.lab.Hosts[from], network, to))
	}
}

// TestConnectionsLive is 1,000 TCP connections and 200 UDP conversations from everywhere, begun between ten
// switches and a crash: each goes on with whom it began, from the address that it dialled.
func TestConnectionsLive(t *testing.T) {
	r := newRig(t, IPTables)
	echo(t, r.lab.Hosts["a"])
	echo(t, r.lab.Hosts["b"])
	r.serve(r.web(echoPort, "a", "b"))
	r.start()
	tr := traffic.New()
	defer tr.End()
	for _, from := range []string{"c", "node", "client"} {
		for _, network := range []string{"tcp4", "udp4"} {
			tr.Plain(dialled(t, r.lab.Hosts[from], network, netip.AddrPortFrom(r.lab.Hosts["a"].IPv4, echoPort).String()))
		}
	}
	mode := IPTables
	for n := range 10 {
		r.converse(tr, "tcp4", 100)
		r.converse(tr, "udp4", 20)
		r.until("every conversation has begun", func() bool { return tr.Now().Begun >= 120*(n+1)+6 || len(tr.Now().Broken) > 0 })
		mode = otherThan(mode)
		r.to(mode)
		if n == 4 {
			r.crash()
			r.start()
		}
		if got := r.Mode(); got != mode {
			t.Fatalf("%s serves, and should be %s", got, mode)
		}
	}
	again := tr.Again()
	r.until("everybody was answered once more, with the last", func() bool { return again() || len(tr.Now().Broken) > 0 })
	report := tr.End()
	t.Logf("%d conversations; the longest answer took %v, without a Service %v", report.Begun, report.Worst, report.Plain)
	for _, what := range report.Broken {
		t.Error(what)
	}
	if report.Stalled() {
		t.Errorf("an answer took %v, and without a Service at most %v", report.Worst, report.Plain)
	}
	must(t, r.quiet())
	r.settled(mode)
}
