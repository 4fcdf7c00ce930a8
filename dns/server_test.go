package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// run starts the server, waits until it is ready, and gives what stops it and returns Run's error.
func (f *fixture) run(t *testing.T) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		_ = stop()
		if err := Cleanup(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-f.Ready():
	case err := <-done:
		t.Fatalf("Run ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not ready after a minute")
	}
	return stop
}

// dig runs the real one and gives its answer section, sorted.
func dig(t *testing.T, args ...string) []string {
	t.Helper()
	path, err := exec.LookPath("dig")
	if err != nil {
		t.Fatal("needs dig: scripts/deps.sh test installs it (bind9-dnsutils)")
	}
	out, err := exec.Command(path, append([]string{"+noall", "+answer", "+comments", "+time=30", "+tries=1"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %v: %v\n%s", args, err, out)
	}
	complaints := strings.ReplaceAll(string(out), "WARNING: .local is reserved for Multicast DNS", "")
	if strings.Contains(complaints, "WARNING") || strings.Contains(complaints, "Warning") {
		t.Errorf("dig %v complains:\n%s", args, out)
	}
	var records []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != ';' {
			records = append(records, strings.Join(strings.Fields(line), " "))
		}
	}
	slices.Sort(records)
	return records
}

func TestDig(t *testing.T) {
	needNetns(t)
	cfg := specConfig()
	cfg.Upstreams = []netip.AddrPort{}
	cfg.Addrs = []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::a")}
	f := newFixture(t, cfg, append(cluster(), crowd(100)...)...)
	f.start()
	f.run(t)
	for _, server := range []string{"10.96.0.10", "fd00:96::a"} {
		for _, transport := range []string{"+notcp", "+tcp"} {
			for _, tt := range specification {
				if strings.Contains(tt.section, "no upstream") || tt.name == "ns.dns.cluster.local." {
					continue
				}
				got := dig(t, "@"+server, transport, tt.name, dns.TypeToString[tt.typ])
				if !slices.Equal(got, tt.answer) {
					t.Errorf("@%s %s %s %s:\n got  %q\n want %q", server, transport, tt.name, dns.TypeToString[tt.typ], got, tt.answer)
				}
			}
		}
		if got := dig(t, "@"+server, "crowd.default.svc.cluster.local.", "A"); len(got) != 100 {
			t.Errorf("%d of 100 addresses, dig retries over TCP", len(got))
		}
	}
}

// TestFollowsTheAPI: a Service has its name as soon as it is there, in any number of changes, and loses it.
func TestFollowsTheAPI(t *testing.T) {
	needNetns(t)
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{}})
	f.start()
	f.run(t)
	client := &dns.Client{Timeout: time.Minute} // a busy machine may stand still for long
	rcode := func(name string) int {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		m, _, err := client.Exchange(q, "10.96.0.10:53")
		if err != nil {
			t.Fatal(err)
		}
		return m.Rcode
	}
	services := f.client.CoreV1().Services("default")
	for i := range 20 {
		name := fmt.Sprintf("svc-%d", i)
		fqdn := name + ".default.svc.cluster.local."
		if got := rcode(fqdn); got != dns.RcodeNameError {
			t.Fatalf("%s before it exists: %s", name, dns.RcodeToString[got])
		}
		if _, err := services.Create(t.Context(), clusterIP(name, fmt.Sprintf("10.96.1.%d", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(t, "the name of "+name, func() bool { return rcode(fqdn) == dns.RcodeSuccess })
	}
	for i := range 20 {
		name := fmt.Sprintf("svc-%d", i)
		if err := services.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(t, "the end of "+name, func() bool { return rcode(name+".default.svc.cluster.local.") == dns.RcodeNameError })
	}
	wait(t, "an empty zone", func() bool { return rcode("default.svc.cluster.local.") == dns.RcodeNameError })
	wait(t, "no address to be known any more", func() bool {
		f.reverse.mu.RLock()
		defer f.reverse.mu.RUnlock()
		return len(f.reverse.addrs) == 0
	})
	if f.zones[0].names.Load() != 0 {
		t.Errorf("left behind: %s", f.Figure())
	}
	if _, err := services.Create(t.Context(), clusterIP("again", "10.96.1.1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the namespace to be back", func() bool { return rcode("default.svc.cluster.local.") == dns.RcodeSuccess })
}

// TestQuestionsWaitForTheFirstSync: early questions get the right answer late, never a wrong one.
func TestQuestionsWaitForTheFirstSync(t *testing.T) {
	f := newFixture(t, Config{}, clusterIP("web", "10.96.0.1"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.follow(ctx) }()
	defer func() { cancel(); <-done }()

	var askers sync.WaitGroup
	for name, rcode := range map[string]int{
		"web.default.svc.cluster.local.": dns.RcodeSuccess, "absent.default.svc.cluster.local.": dns.RcodeNameError,
		"1.0.96.10.in-addr.arpa.": dns.RcodeSuccess,
	} {
		askers.Go(func() {
			if m := f.ask(t, name, dns.TypePTR); m.Rcode != rcode {
				t.Errorf("%s: %s", name, dns.RcodeToString[m.Rcode])
			}
		})
	}
	wait(t, "the questions to wait", func() bool { return len(f.waiting) == 3 })
	f.start()
	askers.Wait()
}

func TestQuestionsFailWhenTheFirstSyncIsLate(t *testing.T) {
	f := newFixture(t, Config{}, clusterIP("web", "10.96.0.1"))
	f.holdFor = 20 * time.Millisecond
	start := time.Now()
	if m := f.ask(t, "absent.default.svc.cluster.local.", dns.TypeA); m.Rcode != dns.RcodeServerFailure || time.Since(start) < f.holdFor {
		t.Errorf("after %s: %v", time.Since(start), m)
	}
}

// TestDrainWaitsForTheZone: the catalog counts a change as applied only when the zone has it.
func TestDrainWaitsForTheZone(t *testing.T) {
	f := synced(t, Config{}, headless("pets"), slice("pets", host("cat", true, "10.244.0.1"), host("dog", true, "10.244.0.2")))
	const gone = "cat.pets.default.svc.cluster.local."
	if m := f.ask(t, gone, dns.TypeA); len(m.Answer) != 1 {
		t.Fatalf("%v", m)
	}
	slices := f.client.DiscoveryV1().EndpointSlices("default")
	if _, err := slices.Update(t.Context(), slice("pets", host("dog", true, "10.244.0.2")), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := f.catalog.Drained(ctx, netip.MustParseAddr("10.244.0.1")); err != nil {
		t.Fatal(err)
	}
	if m := f.ask(t, gone, dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("drained, and still there: %v", m)
	}
}

// TestRestartAdoptsTheLink: the address stays while nobody serves, refuses then, and is taken again.
func TestRestartAdoptsTheLink(t *testing.T) {
	needNetns(t)
	var index int
	for i := range 2 {
		f := newFixture(t, Config{Upstreams: []netip.AddrPort{}}, clusterIP("web", "10.96.0.1"))
		f.start()
		stop := f.run(t)
		link, err := netlink.LinkByName("sp-dns")
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && link.Attrs().Index != index {
			t.Error("the link was made again")
		}
		index = link.Attrs().Index
		if err := stop(); err != nil {
			t.Fatalf("Run: %v", err)
		}
		conn, err := net.DialTimeout("tcp", "10.96.0.10:53", 2*time.Second)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("with nobody serving: %v %v", conn, err)
		}
	}
	if err := Cleanup(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("sp-dns"); !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Errorf("after Cleanup: %v", err)
	}
	if err := Cleanup(); err != nil {
		t.Errorf("Cleanup of nothing: %v", err)
	}
}

// TestLinkFollowsTheAddress: a link from a former start with another address has only the new one afterwards.
func TestLinkFollowsTheAddress(t *testing.T) {
	needNetns(t)
	t.Cleanup(func() { _ = CleanupLink("sp-dns") })
	for _, addr := range []string{"10.96.0.10", "10.97.0.10"} {
		if err := ensureLink("sp-dns", []netip.Addr{netip.MustParseAddr(addr)}); err != nil {
			t.Fatal(err)
		}
		link, err := netlink.LinkByName("sp-dns")
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != addr+"/32" {
			t.Errorf("%v %v", addrs, err)
		}
	}
}

func TestTakenPort(t *testing.T) {
	needNetns(t)
	for _, network := range []string{"udp", "tcp"} {
		var holder io.Closer
		var err error
		if network == "udp" {
			holder, err = net.ListenPacket("udp", "0.0.0.0:53")
		} else {
			holder, err = net.Listen("tcp", "0.0.0.0:53")
		}
		if err != nil {
			t.Fatal(err)
		}
		f := newFixture(t, Config{})
		err = f.Run(t.Context())
		_ = holder.Close()
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("%s: %v", network, err)
		}
		for _, part := range []string{"10.96.0.10:53/" + network, "in use", "--dns-ip"} {
			if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q lacks %q", err, part)
			}
		}
	}
	if err := Cleanup(); err != nil {
		t.Fatal(err)
	}
}

// TestTCPPipelining: several questions on one connection, RFC 7766 section 6.2.1.1; what is no question closes it.
func TestTCPPipelining(t *testing.T) {
	needNetns(t)
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{}}, clusterIP("web", "10.96.0.1"))
	f.start()
	f.run(t)
	conn, err := net.Dial("tcp", "10.96.0.10:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var out []byte
	for id := range uint16(3) {
		q := new(dns.Msg)
		q.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
		q.Id = id
		wire, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(wire))), wire...)
	}
	if _, err := conn.Write(append(out, 0, 2, 'n', 'o')); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(3) {
		wire, err := readFramed(conn)
		m := new(dns.Msg)
		if err != nil || m.Unpack(wire) != nil || m.Id != id || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v %v", id, m, err)
		}
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after garbage: %v", err)
	}
}

// TestChurn: while Services come and go, one that stays is never missing (real sockets, several clients).
func TestChurn(t *testing.T) {
	needNetns(t)
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{}}, clusterIP("stays", "10.96.0.1"))
	f.start()
	f.run(t)
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			client := &dns.Client{Timeout: 30 * time.Second} // on a busy machine, all of us may stand still for long
			conn, err := client.Dial("10.96.0.10:53")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for ctx.Err() == nil {
				q := new(dns.Msg)
				q.SetQuestion("stays.default.svc.cluster.local.", dns.TypeA)
				m, _, err := client.ExchangeWithConn(q, conn)
				if err != nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "10.96.0.1" {
					t.Errorf("%v %v", m, err)
					return
				}
			}
		})
	}
	services := f.client.CoreV1().Services("default")
	for i := range 300 {
		name := fmt.Sprintf("svc-%d", i)
		if _, err := services.Create(ctx, clusterIP(name, fmt.Sprintf("10.96.%d.%d", 2+i/250, i%250)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if i >= 10 {
			if err := services.Delete(ctx, fmt.Sprintf("svc-%d", i-10), metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	workers.Wait()
	if f.queries() < 100 {
		t.Errorf("only %d questions were asked", f.queries())
	}
}

func TestConfigErrors(t *testing.T) {
	f := newFixture(t, Config{})
	addrs := []netip.Addr{netip.MustParseAddr("10.96.0.10")}
	for name, cfg := range map[string]Config{
		"no catalog":         {Addrs: addrs},
		"no address":         {Catalog: f.catalog},
		"--cluster-domain":   {Catalog: f.catalog, Addrs: addrs, Domain: strings.Repeat("x", 70) + ".local"},
		"at least one label": {Catalog: f.catalog, Addrs: addrs, Domain: "."},
		"whole seconds":      {Catalog: f.catalog, Addrs: addrs, TTL: time.Millisecond},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
