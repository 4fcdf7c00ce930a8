package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDNSFlags(t *testing.T) {
	o, fs := flags(t, "--dns-upstream=192.0.2.5,[2001:db8::1]:5353", "--dns-stub=corp.example=10.0.0.1", "--dns-stub=corp.example=10.0.0.2:54",
		"--dns-lan-domain=lab.example", "--dns-allow=192.0.2.0/24", "--dns-axfr=192.0.2.7/32", "--dns-autopath=false", "--dns-http=127.0.0.1:8080")
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("dns-ttl: 30s\ndns-cache-mb: 16\ndns-alias-domain: [old.example]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loadFile(file, fs); err != nil {
		t.Fatal(err)
	}
	c, err := o.check(lab())
	if err != nil {
		t.Fatal(err)
	}
	d := c.DNS
	if want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.5:53"), netip.MustParseAddrPort("[2001:db8::1]:5353")}; !slices.Equal(d.Upstreams, want) {
		t.Errorf("upstreams %v", d.Upstreams)
	}
	if want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.0.2:54")}; !slices.Equal(d.Stubs["corp.example"], want) {
		t.Errorf("stubs %v", d.Stubs)
	}
	if d.TTL != 30*time.Second || d.CacheSize != 16<<20 || !d.NoAutopath || !slices.Equal(d.Aliases, []string{"old.example"}) {
		t.Errorf("%+v", d)
	}
	if d.LANDomain != "lab.example" || d.HTTP != netip.MustParseAddrPort("127.0.0.1:8080") {
		t.Errorf("%+v", d)
	}
	if len(d.Clients) != 1 || len(d.Transfer) != 1 {
		t.Errorf("clients %v, transfer %v", d.Clients, d.Transfer)
	}
}

// TestOutsidersAreNotAnsweredByDefault: nil would be everybody.
func TestOutsidersAreNotAnsweredByDefault(t *testing.T) {
	o, _ := flags(t)
	c, err := o.check(lab())
	if err != nil {
		t.Fatal(err)
	}
	if c.DNS.Clients == nil || len(c.DNS.Clients) > 0 || c.DNS.Transfer != nil || c.DNS.LANDomain != "" {
		t.Errorf("%+v", c.DNS)
	}
	if c.DNS.Upstreams != nil || c.DNS.NoAutopath {
		t.Errorf("%+v", c.DNS)
	}
}

func TestBadDNSFlags(t *testing.T) {
	for arg, want := range map[string]string{
		"--dns-upstream=example.com":   `--dns-upstream "example.com": must be an address`,
		"--dns-upstream=192.0.2.1:0":   "must be an address",
		"--dns-stub=corp.example":      `--dns-stub "corp.example"`,
		"--dns-stub=Bad_Name=10.0.0.1": "Bad_Name",
		"--dns-ttl=1500ms":             "--dns-ttl 1.5s: must be whole seconds",
		"--dns-allow=192.0.2.1":        `--dns-allow "192.0.2.1"`,
		"--dns-cache-mb=0":             "--dns-cache-mb 0: must be",
		"--dns-reply-limit=10":         "--dns-reply-limit 10: must be",
		"--dns-log-every=-1":           "--dns-log-every -1: must not",
		"--dns-http=8080":              `--dns-http "8080"`,
	} {
		o, _ := flags(t, arg)
		if _, err := o.check(lab()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q in it", arg, err, want)
		}
	}
}

func TestAnswersAreReadable(t *testing.T) {
	var b strings.Builder
	a := nameDocument{Asker: "pod default/bar (10.244.0.4)", Searches: []string{"x", "y"}, Trips: []tripDocument{
		{Name: "web.x.", Type: "A", Rcode: "NOERROR", Records: []string{"web.x. 5 IN A 10.96.0.1"}, Why: []string{"in zone x."}},
	}}
	if err := a.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "asked by pod default/bar (10.244.0.4), search x y\n\nweb.x. A: NOERROR\n    web.x. 5 IN A 10.96.0.1\n  - in zone x.\n"
	if b.String() != want {
		t.Errorf("%q", b.String())
	}
}
