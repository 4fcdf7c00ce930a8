package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// counting is a Dataplane of which only the counters matter.
type counting struct {
	Dataplane
	tallies []Tally
}

func (c counting) Capabilities() Capabilities { return Capabilities{Counters: c} }

func (c counting) Tallies(context.Context) ([]Tally, error) { return c.tallies, nil }

func TestCountsOfADataplane(t *testing.T) {
	of := func(subject Subject, endpoint string) Counted {
		c := Counted{Origin: "default/web:http", Protocol: corev1.ProtocolTCP, Subject: subject}
		if endpoint != "" {
			c.Endpoint = netip.MustParseAddrPort(endpoint)
		}
		return c
	}
	// two data planes during a switch, in any order
	p := &Proxy{ledger: newLedger(), cfg: Config{Dataplane: counting{tallies: []Tally{
		{Counted: of(Refused, ""), Total: 5},
		{Counted: of(Serving, "10.244.0.12:8080"), Total: 9},
		{Counted: of(Gone, ""), Total: 3},
		{Counted: of(Serving, "10.244.0.11:8080"), Open: 2, Total: 7, Sent: Volume{Packets: 4, Bytes: 400}, Received: Volume{Packets: 3, Bytes: 9000}},
		{Counted: of(Serving, "10.244.0.12:8080"), Open: 1, Total: 1},
	}}}}
	counts, err := p.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range counts {
		both := c.Sent.plus(c.Received)
		got = append(got, fmt.Sprintf("%s/%s %s %v %d %d %d %d", c.Origin, c.Protocol, c.Subject, c.Endpoint, c.Open, c.Total, both.Packets, both.Bytes))
	}
	want := []string{
		"default/web:http/TCP serving 10.244.0.11:8080 2 7 7 9400",
		"default/web:http/TCP serving 10.244.0.12:8080 1 10 0 0",
		"default/web:http/TCP gone invalid AddrPort 0 3 0 0",
		"default/web:http/TCP refused invalid AddrPort 0 5 0 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
