package ebpf

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// TestPortsAreReserved: netfilter's table has an entry for every masqueraded client, and one that is in the way is
// no reason to fail.
func TestPortsAreReserved(t *testing.T) {
	lab, d := lived(t)
	must(t, netlink.ConntrackTableFlush(netlink.ConntrackTable))
	var conn net.Conn
	in(t, lab.Hosts["client"], func() (err error) { conn, err = net.Dial("udp4", "192.0.2.1:30080"); return err })
	defer conn.Close()
	_, err := conn.Write([]byte("hello"))
	must(t, err)
	_, err = proxytest.Receive(conn)
	must(t, err)
	reserved := func() (found []*netlink.ConntrackFlow) {
		all, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		must(t, err)
		for _, f := range all {
			if f.Forward.SrcIP.Equal(lab.Hosts["node"].IPv4.AsSlice()) && f.Forward.DstIP.Equal(lab.Hosts["a"].IPv4.AsSlice()) {
				found = append(found, f)
			}
		}
		return found
	}
	must(t, d.Act(t.Context(), proxy.Draining))
	entries := reserved()
	if len(entries) != 1 || entries[0].Forward.DstPort != 8080 {
		t.Fatalf("reserved is %v", entries)
	}
	must(t, d.Act(t.Context(), proxy.Draining)) // prolonged
	// another connection of netfilter's gets the same packets back
	must(t, netlink.ConntrackTableFlush(netlink.ConntrackTable))
	other := *entries[0]
	other.TimeOut, other.Forward.SrcPort = 60, 4321
	must(t, netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &other))
	must(t, d.Act(t.Context(), proxy.Draining))
	must(t, d.Act(t.Context(), proxy.Active))
	must(t, d.Act(t.Context(), proxy.Sole))
	if got := reserved(); len(got) != 1 || got[0].Forward.SrcPort != 4321 {
		t.Errorf("the table holds %v", got)
	}
}
