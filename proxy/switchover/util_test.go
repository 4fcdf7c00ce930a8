package switchover

import (
	"errors"
	"net"
	"os/exec"
	"testing"

	"github.com/vishvananda/netlink"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// quiet forgets the connections of the lab's node, so that a test need not wait for their timeouts.
func (r *rig) quiet() error {
	_, err := r.EndFlows(r.t.Context(), func(proxy.Flow) bool { return true })
	return errors.Join(err, netlink.ConntrackTableFlush(netlink.ConntrackTable))
}

// dialUDP connects a socket, and asks once.
func (r *rig) dialUDP(from, to string) net.Conn {
	r.t.Helper()
	var conn net.Conn
	var err error
	must(r.t, r.lab.Hosts[from].Do(func() { conn, err = net.Dial("udp4", to) }))
	must(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	r.asked(conn)
	return conn
}

// asked sends a message and waits for its answer.
func (r *rig) asked(conn net.Conn) {
	r.t.Helper()
	_, err := conn.Write([]byte("hello"))
	must(r.t, err)
	_, err = proxytest.Receive(conn)
	must(r.t, err)
}

// iptablesTool runs iptables and returns what it prints.
func iptablesTool(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("iptables", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("iptables %v: %v: %s", args, err, out)
	}
	return string(out)
}
