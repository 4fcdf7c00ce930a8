package dns

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestSilentConnectionsMakeRoom: who opens connections and asks nothing keeps nobody else out, nor those that ask.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	needNetns(t)
	f := newFixture(t, Config{Upstreams: []netip.AddrPort{}, MaxConns: 4}, clusterIP("web", "10.96.0.1"))
	f.start()
	f.run(t)
	for range 100 { // would take idleTimeout each, four at a time
		conn, err := net.Dial("tcp", "10.96.0.10:53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	query := new(dns.Msg)
	query.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	client := &dns.Client{Net: "tcp", Timeout: time.Minute}
	for range 3 {
		if reply, _, err := client.Exchange(query, "10.96.0.10:53"); err != nil || len(reply.Answer) != 1 {
			t.Fatalf("beside 100 connections that ask nothing: %v, %v", reply, err)
		}
	}
}
