package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"svcplane/catalog"
)

func BenchmarkZone(b *testing.B) {
	f := synced(b, specConfig(), append(cluster(), crowd(100)...)...)
	for _, bb := range []struct {
		name string
		q    string
		typ  uint16
		tcp  bool
	}{
		{"A", "web.default.svc.cluster.local.", dns.TypeA, false},
		{"AAAA-nodata", "web.default.svc.cluster.local.", dns.TypeAAAA, false},
		{"SRV", "_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, false},
		{"PTR", "1.0.96.10.in-addr.arpa.", dns.TypePTR, false},
		{"nxdomain", "example.com.default.svc.cluster.local.", dns.TypeA, false},
		{"headless-100", "crowd.default.svc.cluster.local.", dns.TypeA, true},
		{"headless-100-SRV", "_http._tcp.crowd.default.svc.cluster.local.", dns.TypeSRV, true},
	} {
		m := new(dns.Msg)
		m.SetQuestion(bb.q, bb.typ)
		m.SetEdns0(1232, false)
		wire, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		w, out := new(scratch), make([]byte, 0, 1<<16)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if reply, later := f.respond(out, wire, w, bb.tcp); later || len(reply) < headerLen {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// TestZoneHitsDoNotAllocate holds what BenchmarkZone reports.
func TestZoneHitsDoNotAllocate(t *testing.T) {
	f := synced(t, specConfig(), append(cluster(), crowd(100)...)...)
	w, out := new(scratch), make([]byte, 0, 1<<16)
	for _, tt := range specification {
		if tt.section == "2.6" {
			continue // made on demand
		}
		m := new(dns.Msg)
		m.SetQuestion(tt.name, tt.typ)
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() { f.respond(out, wire, w, false) }); n > 0 {
			t.Errorf("%s %s: %v allocations", tt.name, dns.TypeToString[tt.typ], n)
		}
	}
}

// TestCacheHitsDoNotAllocate: an upstream's answer, a negative one, and one of several addresses, which rotate.
func TestCacheHitsDoNotAllocate(t *testing.T) {
	u := serveUpstream(t, 155, answering("www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN A 192.0.2.2"))
	f := synced(t, Config{}, cluster()...)
	f.forward.use([]netip.AddrPort{u.addr})
	f.forward.now = testNow // TTLs do not move
	for _, edns := range []bool{false, true} {
		m := new(dns.Msg)
		m.SetQuestion("www.example.com.", dns.TypeA)
		if edns {
			m.SetEdns0(1232, false)
		}
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got := f.ask(t, "www.example.com.", dns.TypeA); len(got.Answer) != 2 {
			t.Fatalf("%v", got)
		}
		w, out := new(scratch), make([]byte, 0, maxReplyUDP)
		if n := testing.AllocsPerRun(1000, func() { f.respond(out, wire, w, false) }); n > 0 {
			t.Errorf("EDNS %v: %v allocations", edns, n)
		}
	}
}

// TestThePollerDoesNotKnowTheSockets: it would wake a thread for every datagram (TestDatagramsDoNotAllocate cannot see that).
func TestThePollerDoesNotKnowTheSockets(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	known := fmt.Sprintf("tfd: %8d ", polled(t, conn))
	if !strings.Contains(epolls(t), known) {
		t.Fatalf("%q is not in\n%s", known, epolls(t))
	}
	socket, err := blocking(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(socket.fd) }()
	if fd := fmt.Sprintf("tfd: %8d ", socket.fd); strings.Contains(epolls(t), fd) {
		t.Errorf("%q is in\n%s", fd, epolls(t))
	}
}

// polled is the descriptor of a connection.
func polled(t *testing.T, conn *net.UDPConn) (fd uintptr) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil || raw.Control(func(own uintptr) { fd = own }) != nil {
		t.Fatal(err)
	}
	return fd
}

// epolls lists what the epoll descriptors of this process watch, see proc_pid_fdinfo(5).
func epolls(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, _ := os.ReadFile(file) // the descriptor may be closed by now
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "tfd:") {
				all.WriteString(line)
			}
		}
	}
	return all.String()
}

// datagrams gives what takes one question over a socket from the kernel's queue and back.
func datagrams(t testing.TB) func() {
	needNetns(t)
	f := synced(t, specConfig(), cluster()...)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := conn.LocalAddr().(*net.UDPAddr)
	socket, err := blocking(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(socket.fd) })
	client, err := net.DialUDP("udp", nil, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	m := new(dns.Msg)
	m.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	b, w, tally, got := newBatch(socket), new(scratch), f.newWorkerTally(), make([]byte, 512)
	return func() {
		if _, err := client.Write(wire); err != nil {
			t.Fatal(err)
		}
		f.serveBatch(t.Context(), b, w, tally, nil)
		_ = client.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := client.Read(got); err != nil || n <= len(wire) {
			t.Fatal(n, err)
		}
	}
}

// TestDatagramsDoNotAllocate: all that a worker does with a question, from the kernel's queue and back.
func TestDatagramsDoNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(1000, datagrams(t)); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkDatagram is one question and its answer, the client's part included, in a batch of its own.
func BenchmarkDatagram(b *testing.B) {
	exchange := datagrams(b)
	b.ReportAllocs()
	for b.Loop() {
		exchange()
	}
}

// BenchmarkMemory reports what a Service with two named ports and two endpoints takes of the zone and its reverse.
func BenchmarkMemory(b *testing.B) {
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	z, r := newZone("\x07cluster\x05local\x00", nil, nil, 5), newReverse(nil, "\x07cluster\x05local\x00", 5)
	before, n := live(), 0
	for b.Loop() {
		svc := &catalog.Service{Key: catalog.Key{Namespace: "shop", Name: fmt.Sprintf("svc-%d", n)}}
		svc.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(n>>16), byte(n >> 8), byte(n)})}
		svc.Ports = []catalog.Port{{Name: "http", Protocol: "TCP", Port: 80}, {Name: "metrics", Protocol: "TCP", Port: 9090}}
		for i := range 2 {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 200 + byte(i), byte(n >> 8), byte(n)}), 0)
			svc.Hosts = append(svc.Hosts, catalog.Endpoint{AddrPort: at, Ready: true})
		}
		e, err := buildEntry(svc, z.domain, z.ttl)
		if err != nil {
			b.Fatal(err)
		}
		r.put(z.put(svc.Key, e), e)
		n++
	}
	b.ReportMetric(float64(live()-before)/float64(n), "B/service")
	runtime.KeepAlive(z)
	runtime.KeepAlive(r)
}

// BenchmarkRecord is what counting one answer of a batch of 32 costs its worker.
func BenchmarkRecord(b *testing.B) {
	f := synced(b, specConfig(), cluster()...)
	m := new(dns.Msg)
	m.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	wire, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	w, tally := &scratch{from: netip.MustParseAddr("10.244.0.9")}, f.newWorkerTally()
	reply, _ := f.respond(nil, wire, w, false)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		f.record(tally, w, reply, false, time.Time{})
		if n++; n%32 == 0 {
			tally.left(time.Microsecond)
		}
	}
}
