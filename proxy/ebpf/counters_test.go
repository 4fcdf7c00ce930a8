package ebpf

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/metrics/metricstest"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

func TestEventsAreCounted(t *testing.T) {
	lab, d := lived(t)
	if size := d.kernel.maps[mapEventCounters].MaxEntries(); int(size) != len(reasons) {
		t.Fatalf("%d reasons have names, and the kernel counts %d", len(reasons), size)
	}
	for from, to := range map[string]string{"c": "10.96.0.5:80", "client": "192.0.2.1:30080", "node": "10.96.9.9:80", "b": "10.96.9.9:80"} {
		_, err := lab.Hosts[from].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort(to), Protocol: corev1.ProtocolTCP})
		must(t, err)
	}
	events := d.events()
	for _, name := range []string{"socket_translated", "flow_made", "socket_refused", "packet_refused"} {
		if events[name] != 1 {
			t.Errorf("%s: %d times, and it was once", name, events[name])
		}
	}
	for _, name := range []string{"socket_translated", "uncounted"} {
		if got, ok := gathered(t, d)[`svcplane_ebpf_events_total{event="`+name+`"}`]; !ok || got != float64(events[name]) {
			t.Errorf("%s: the metric is %v, there: %t", name, got, ok)
		}
	}
}

// gathered are the metrics, as they are written: name{label="value",...}.
func gathered(t *testing.T, d *Dataplane) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, f := range metricstest.Gather(t, d) {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			all[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.Counter.GetValue()
		}
	}
	return all
}

// tallied is what is counted now, one line for each: port, endpoint, open, total; packets and bytes where there are some.
func tallied(t *testing.T, d *Dataplane) string {
	t.Helper()
	all, err := d.Tallies(t.Context())
	must(t, err)
	lines := map[string]string{}
	var keys []string
	for _, x := range all {
		key := fmt.Sprintf("%s/%s %s", x.Origin, x.Protocol, x.Subject)
		if x.Subject == proxy.Serving {
			key = fmt.Sprintf("%s/%s %s", x.Origin, x.Protocol, x.Endpoint)
		}
		lines[key] = fmt.Sprintf("%s open %d of %d", key, x.Open, x.Total)
		if x.Sent.Packets+x.Received.Packets > 0 {
			lines[key] += fmt.Sprintf(", sent %d (%d), received %d (%d)", x.Sent.Packets, x.Sent.Bytes, x.Received.Packets, x.Received.Bytes)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, key := range keys {
		b.WriteString(lines[key] + "\n")
	}
	return b.String()
}

// checkTallied waits for the counters to be like want: a socket is gone a moment after it was closed.
func checkTallied(t *testing.T, d *Dataplane, when, want string) {
	t.Helper()
	want = strings.TrimLeft(want, "\n")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := tallied(t, d)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s:\n%swanted:\n%s", when, got, want)
		}
	}
}

// dialled is a connection from a host, open until the test ends it.
func dialled(t *testing.T, h *proxytest.Host, network, to string) (conn net.Conn) {
	t.Helper()
	in(t, h, func() (err error) { conn, err = net.Dial(network, to); return err })
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a datagram and waits for the answer.
func ask(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	_, err := conn.Write(make([]byte, size))
	must(t, err)
	_, err = proxytest.Receive(conn)
	must(t, err)
}

// TestSocketsAreCounted: connections at the socket, once each, until they are closed however that happens.
func TestSocketsAreCounted(t *testing.T) {
	lab, d := lived(t)
	first, second := dialled(t, lab.Hosts["c"], "tcp4", "10.96.0.5:80"), dialled(t, lab.Hosts["node"], "tcp6", "[fd00:96::5]:80")
	checkTallied(t, d, "two are open", `
default/web:http/TCP 10.244.0.11:8080 open 1 of 1
default/web:http/TCP [fd00:244::11]:8080 open 1 of 1
`)
	must(t, first.Close())
	must(t, second.(*net.TCPConn).SetLinger(0))
	must(t, second.Close())
	connected := dialled(t, lab.Hosts["c"], "udp4", "10.96.0.5:80")
	for range 3 {
		ask(t, connected, 10)
	}
	checkTallied(t, d, "closed, and one of UDP", `
default/web:dns/UDP 10.244.0.11:8080 open 1 of 1
default/web:http/TCP 10.244.0.11:8080 open 0 of 1
default/web:http/TCP [fd00:244::11]:8080 open 0 of 1
`)
	must(t, connected.Close())
	var socket net.PacketConn
	in(t, lab.Hosts["c"], func() (err error) { socket, err = net.ListenPacket("udp4", ":0"); return err })
	defer socket.Close()
	for _, to := range []string{"10.96.0.5:80", "10.244.0.12:8080", "10.96.0.5:80", "10.96.0.5:80"} {
		_, err := socket.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		must(t, err)
	}
	checkTallied(t, d, "many datagrams of one socket that is not connected", `
default/web:dns/UDP 10.244.0.11:8080 open 0 of 2
default/web:http/TCP 10.244.0.11:8080 open 0 of 1
default/web:http/TCP [fd00:244::11]:8080 open 0 of 1
`)
}

// TestPacketsAreCounted: those of clients that no socket of the node belongs to, in both directions.
func TestPacketsAreCounted(t *testing.T) {
	lab, d := lived(t)
	conn := dialled(t, lab.Hosts["client"], "udp4", "192.0.2.1:30080")
	const header = 28 // of IPv4 and UDP
	ask(t, conn, 100)
	ask(t, conn, 300)
	sent := 2*header + 400
	all, err := d.Tallies(t.Context())
	must(t, err)
	if len(all) != 1 || all[0].Sent != (proxy.Volume{Packets: 2, Bytes: uint64(sent)}) || all[0].Received.Packets != 2 ||
		all[0].Received.Bytes <= 2*header || all[0].Open != 1 || all[0].Total != 1 {
		t.Errorf("two datagrams of %d octets were sent and answered: %+v", sent, all)
	}
	const labels = `endpoint="10.244.0.11:8080",namespace="default",port_name="dns",protocol="UDP",service="web"}`
	metrics := gathered(t, d)
	for name, want := range map[string]float64{
		"svcplane_service_connections_total{" + labels: 1, `svcplane_service_packets_total{direction="received",` + labels: 2,
		`svcplane_service_bytes_total{direction="sent",` + labels: float64(sent),
	} {
		if metrics[name] != want {
			t.Errorf("%s is %v: %v", name, metrics[name], metrics)
		}
	}
}

// TestRefusalsAreCounted by the Service that has no endpoint.
func TestRefusalsAreCounted(t *testing.T) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	must(t, d.Resync(t.Context(), lab.Table(web(lab)...)))
	for from, to := range map[string]string{"node": "10.96.0.5:80", "c": "10.96.0.5:80", "client": "192.0.2.1:30080"} {
		got, err := lab.Hosts[from].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort(to), Protocol: corev1.ProtocolTCP})
		if err != nil || !got.Refused {
			t.Errorf("%s to %s: %v %v", from, to, got, err)
		}
	}
	checkTallied(t, d, "at three places", "default/web:http/TCP refused open 0 of 3\n")
	if got := gathered(t, d)[`svcplane_service_refused_total{namespace="default",port_name="http",protocol="TCP",service="web"}`]; got != 3 {
		t.Errorf("the metric is %v", got)
	}
}

// TestSumsNeverGetLess: what an endpoint had is kept when it goes, as long as the Service is there.
func TestSumsNeverGetLess(t *testing.T) {
	lab, d := lived(t)
	sums := func() (connections, bytes uint64) {
		all, err := d.Tallies(t.Context())
		must(t, err)
		for _, x := range all {
			connections, bytes = connections+x.Total, bytes+x.Sent.Bytes+x.Received.Bytes
		}
		return connections, bytes
	}
	gone := goneKey(hash("origin", "default/web:http", "TCP"))
	for round, pod := range []string{"a", "b", "a"} {
		must(t, d.Resync(t.Context(), lab.Table(web(lab, pod)...)))
		for from, to := range map[string]string{"c": "10.96.0.5:80", "client": "192.0.2.1:30080"} {
			_, err := lab.Hosts[from].Dial(proxy.Address{AddrPort: netip.MustParseAddrPort(to), Protocol: corev1.ProtocolTCP})
			must(t, err)
		}
		_, bytes := sums()
		// the last packets of a connection may come after it was closed, and then the counter waits
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			must(t, d.tidyCounters())
			connections, now := sums()
			if want := uint64(2 * (round + 1)); connections != want || now < bytes {
				t.Fatalf("round %d: %d connections with %d octets, wanted %d and at least %d", round, connections, now, want, bytes)
			}
			all, err := readCounters(d.kernel.maps[mapServiceCounter])
			must(t, err)
			if bytes = now; round == 0 || all[gone].Sockets > 0 && len(all) == 2 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("counters of endpoints that are gone stay:\n%s", tallied(t, d))
			}
		}
	}
	must(t, d.Resync(t.Context(), proxy.Table{}))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		must(t, d.tidyCounters())
		all, err := readCounters(d.kernel.maps[mapServiceCounter])
		must(t, err)
		if len(all) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the Service is gone, and counters stay: %v", all)
		}
	}
}
