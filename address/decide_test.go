package address

import (
	"net/netip"
	"testing"
)

var spares = []netip.Addr{netip.MustParseAddr("10.244.0.0"), netip.MustParseAddr("fd00:244::")}

// on is a candidate on a link that is up.
func on(link, prefix string, also ...func(*Candidate)) Candidate {
	c := Candidate{Prefix: netip.MustParsePrefix(prefix), Link: link, Up: true, Carrier: true}
	for _, do := range also {
		do(&c)
	}
	return c
}

func outward(c *Candidate)    { c.Outward = true }
func source(c *Candidate)     { c.Source = true }
func temporary(c *Candidate)  { c.Temporary = true }
func deprecated(c *Candidate) { c.Deprecated = true }
func pending(c *Candidate)    { c.Pending = true }
func down(c *Candidate)       { c.Up, c.Carrier = false, false }
func noCarrier(c *Candidate)  { c.Carrier = false }
func own(c *Candidate)        { c.Own = true }

func TestDecide(t *testing.T) {
	at := func(addr, link string) Choice { return Choice{Addr: netip.MustParseAddr(addr), Link: link} }
	stopgap := func(addr, link string) Choice { c := at(addr, link); c.Stopgap = true; return c }
	eth := on("eth0", "192.0.2.1/24", outward, source)
	spare4, spare6 := Choice{Addr: spares[0], Spare: true}, Choice{Addr: spares[1], Spare: true}
	for name, tc := range map[string]struct {
		before  Choice // zero: the start
		machine []Candidate
		pinned  string
		want    Choice
	}{
		"where the default route leaves":                  {machine: []Candidate{on("docker0", "172.17.0.1/16"), eth}, want: at("192.0.2.1", "eth0")},
		"of several there what packets carry":             {machine: []Candidate{on("eth0", "192.0.2.9/24", outward), eth}, want: at("192.0.2.1", "eth0")},
		"no default route: the first":                     {machine: []Candidate{on("eth0", "192.0.2.1/24"), on("eth1", "198.51.100.1/24")}, want: stopgap("192.0.2.1", "eth0")},
		"nothing at all":                                  {want: spare4},
		"only links of ours":                              {machine: []Candidate{on("sp-dns", "10.96.0.10/32", own)}, want: spare4},
		"only a link that is down":                        {machine: []Candidate{on("eth0", "192.0.2.1/24", down)}, want: spare4},
		"a cable that is not in yet, at the start":        {machine: []Candidate{on("eth0", "192.0.2.1/24", noCarrier)}, want: stopgap("192.0.2.1", "eth0")},
		"a second one comes: no change":                   {before: at("192.0.2.1", "eth0"), machine: []Candidate{on("eth0", "192.0.2.7/24", outward, source), on("eth0", "192.0.2.1/24", outward)}, want: at("192.0.2.1", "eth0")},
		"a VPN takes the default route: no change":        {before: at("192.0.2.1", "eth0"), machine: []Candidate{on("eth0", "192.0.2.1/24"), on("tun0", "10.8.0.2/24", outward, source)}, want: at("192.0.2.1", "eth0")},
		"another lease":                                   {before: at("192.0.2.1", "eth0"), machine: []Candidate{on("eth0", "192.0.2.7/24", outward, source)}, want: at("192.0.2.7", "eth0")},
		"it moves to another link":                        {before: at("192.0.2.1", "eth0"), machine: []Candidate{on("wlan0", "192.0.2.1/24", outward, source)}, want: at("192.0.2.1", "wlan0")},
		"the cable is pulled: it is still local":          {before: at("192.0.2.1", "eth0"), machine: []Candidate{on("eth0", "192.0.2.1/24", noCarrier)}, want: at("192.0.2.1", "eth0")},
		"the Wi-Fi is left, a bridge of others is not it": {before: at("192.0.2.1", "wlan0"), machine: []Candidate{on("docker0", "172.17.0.1/16", noCarrier)}, want: spare4},
		"back from the spare one":                         {before: spare4, machine: []Candidate{eth}, want: at("192.0.2.1", "eth0")},
		"away from a stopgap":                             {before: stopgap("172.17.0.1", "docker0"), machine: []Candidate{on("docker0", "172.17.0.1/16"), eth}, want: at("192.0.2.1", "eth0")},
		"the default route comes to a stopgap":            {before: stopgap("192.0.2.9", "eth0"), machine: []Candidate{on("eth0", "192.0.2.9/24", outward), eth}, want: at("192.0.2.9", "eth0")},
		"asked for":                                       {pinned: "198.51.100.1", machine: []Candidate{eth, on("eth1", "198.51.100.1/24")}, want: at("198.51.100.1", "eth1")},
		"asked for and gone: no other takes its place":    {pinned: "198.51.100.1", before: at("198.51.100.1", "eth1"), machine: []Candidate{eth}, want: spare4},
		"asked for and back":                              {pinned: "198.51.100.1", before: spare4, machine: []Candidate{eth, on("eth1", "198.51.100.1/24")}, want: at("198.51.100.1", "eth1")},
	} {
		t.Run(name, func(t *testing.T) {
			wish := Wish{Spares: spares[:1]}
			if tc.pinned != "" {
				wish.Pinned = []netip.Addr{netip.MustParseAddr(tc.pinned)}
			}
			var before []Choice
			if tc.before.Addr.IsValid() {
				before = []Choice{tc.before}
			}
			if got := Decide(before, tc.machine, wish); len(got) != 1 || got[0] != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
	for name, tc := range map[string]struct {
		before  Choice
		machine []Candidate
		want    Choice
	}{
		"not one that hides who we are": {machine: []Candidate{on("eth0", "2001:db8::aaaa/64", outward, source, temporary), on("eth0", "2001:db8::1/64", outward)}, want: at("2001:db8::1", "eth0")},
		"unless there is no other":      {machine: []Candidate{on("eth0", "2001:db8::aaaa/64", outward, temporary)}, want: at("2001:db8::aaaa", "eth0")},
		"not one that is deprecated":    {machine: []Candidate{on("eth0", "2001:db8::1/64", outward, source, deprecated), on("eth0", "2001:db8:1::1/64", outward)}, want: at("2001:db8:1::1", "eth0")},
		"the prefix is renumbered":      {before: at("2001:db8::1", "eth0"), machine: []Candidate{on("eth0", "2001:db8::1/64", outward, deprecated), on("eth0", "2001:db8:1::1/64", outward)}, want: at("2001:db8:1::1", "eth0")},
		"deprecated and the only one":   {before: at("2001:db8::1", "eth0"), machine: []Candidate{on("eth0", "2001:db8::1/64", outward, deprecated)}, want: at("2001:db8::1", "eth0")},
		"not proven yet":                {before: at("2001:db8::1", "eth0"), machine: []Candidate{on("eth0", "2001:db8::2/64", outward, pending)}, want: spare6},
		"the other family does not do":  {machine: []Candidate{eth}, want: spare6},
	} {
		t.Run("IPv6: "+name, func(t *testing.T) {
			var before []Choice
			if tc.before.Addr.IsValid() {
				before = []Choice{spare4, tc.before}
			}
			if got := Decide(before, tc.machine, Wish{Spares: spares}); len(got) != 2 || got[1] != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}
