package main

import (
	"net/netip"
	"strings"
	"testing"

	"svcplane/server/admin"
)

func TestTablesOfTheProxy(t *testing.T) {
	at := netip.MustParseAddrPort
	one, two := at("10.244.0.11:8080"), at("10.244.0.12:8080")
	var b strings.Builder
	err := frontendsTable(&b, admin.Table{Frontends: []admin.Frontend{
		{Address: at("10.96.0.5:80"), Protocol: "TCP", Clients: "cluster", Service: "shop/web", PortName: "http", Action: "balance", Masquerade: "hairpin",
			Endpoints: []netip.AddrPort{one, two}},
		{Address: at("192.0.2.1:30080"), Protocol: "TCP", Clients: "outside", Service: "shop/web", Action: "balance", Masquerade: "everybody",
			Affinity: 3600, SourceRanges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Endpoints: []netip.AddrPort{one}},
		{Address: at("10.96.0.6:53"), Protocol: "UDP", Clients: "everybody", Service: "shop/none", Action: "reject", Masquerade: "everybody"},
	}, Faults: []string{"a chain is not ours"}})
	if err != nil {
		t.Fatal(err)
	}
	want := `ADDRESS              SERVICE        CLIENTS    ACTION                                                           ENDPOINTS
10.96.0.5:80/TCP     shop/web:http  cluster    balance                                                          10.244.0.11:8080 10.244.0.12:8080
192.0.2.1:30080/TCP  shop/web       outside    balance, masquerade everybody, affinity 1h0m0s, only 203.0.113.0/24  10.244.0.11:8080
10.96.0.6:53/UDP     shop/none      everybody  reject                                                           -
fault: a chain is not ours
`
	if squeeze(b.String()) != squeeze(want) {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

// squeeze takes the padding out of columns.
func squeeze(table string) string {
	var lines []string
	for _, line := range strings.Split(table, "\n") {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestCountsTable(t *testing.T) {
	tally := func(subject, endpoint string, open, total uint64) admin.Tally {
		c := admin.Tally{Service: "default/web:http", Protocol: "TCP", Subject: subject, Open: open, Total: total}
		if endpoint != "" {
			c.Endpoint = netip.MustParseAddrPort(endpoint)
		}
		return c
	}
	busy := tally(admin.CountedServing, "10.244.0.11:8080", 2, 7)
	busy.Sent, busy.Received = admin.Volume{Packets: 4, Bytes: 400}, admin.Volume{Packets: 3, Bytes: 9000}
	var b strings.Builder
	if err := countsTable(&b, []admin.Tally{
		busy, tally(admin.CountedServing, "10.244.0.12:8080", 1, 10), tally(admin.CountedGone, "", 0, 3), tally(admin.CountedRefused, "", 0, 5),
	}); err != nil {
		t.Fatal(err)
	}
	want := `SERVICE               ENDPOINT          OPEN  TOTAL  PACKETS  BYTES
default/web:http/TCP  10.244.0.11:8080  2     7      7        9400
default/web:http/TCP  10.244.0.12:8080  1     10     -        -
default/web:http/TCP  (gone)            0     3      -        -
default/web:http/TCP  (refused)         -     5      -        -
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}
