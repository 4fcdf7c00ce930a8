package switchover

import (
	"errors"
	"net"

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
	_, err = conn.Write([]byte("hello"))
	must(r.t, err)
	_, err = proxytest.Receive(conn)
	must(r.t, err)
	return conn
}
