package iptables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// random is a table of all kinds of Frontends, with crowds on one address and on neighbouring ones.
func random(r *rand.Rand, size int) proxy.Table {
	var all []proxy.Frontend
	for range size {
		addr := netip.AddrFrom4([4]byte{10, 96, byte(r.IntN(3)), byte(r.IntN(256))})
		if r.IntN(3) == 0 {
			addr = netip.MustParseAddr("192.0.2.1")
		}
		pods := "10.244.0.%d:80"
		if r.IntN(3) == 0 {
			addr = netip.MustParseAddr(fmt.Sprintf("fd00:96::%x", r.IntN(600)))
			pods = "[fd00:244::%x]:80"
		}
		f := frontend(fmt.Sprintf("svc%d", r.IntN(40)), netip.AddrPortFrom(addr, uint16(1+r.IntN(65535)>>r.IntN(9))).String())
		f.Protocol = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)]
		f.Verdict = proxy.Verdict(r.IntN(3))
		f.Scope = proxy.Scope(1 + r.IntN(3))
		f.Masquerade = 0
		if f.Verdict == proxy.Balance {
			f.Masquerade = proxy.Masquerade(r.IntN(3))
			for i := range 1 + r.IntN(5) {
				f.Endpoints = append(f.Endpoints, proxy.Endpoint{AddrPort: netip.MustParseAddrPort(fmt.Sprintf(pods, 10*(i+1)+r.IntN(10)))})
			}
			if r.IntN(4) == 0 {
				f.Affinity = time.Duration(1+r.IntN(20000)) * time.Second
			}
		}
		if f.Verdict != proxy.Drop && r.IntN(5) == 0 {
			f.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.7/32")}
			if addr.Is6() {
				f.SourceRanges = []netip.Prefix{netip.MustParsePrefix("2001:db8::/48")}
			}
		}
		all = append(all, f)
	}
	return proxy.NewTable(all...)
}

// TestChangesLeadWhereAFreshStartLeads compares, after every change, the rules written little by little with
// those written at once, and what is read back with what was wanted.
func TestChangesLeadWhereAFreshStartLeads(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			lab := &proxytest.Lab{Node: proxy.Node{PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/64")}}}
			d := open(t, lab, variant)
			var now proxy.Table
			must(t, d.Resync(t.Context(), now))
			for step := range 12 {
				next := random(r, r.IntN(120))
				if step%3 != 0 { // a change that keeps most of it
					kept := slices.DeleteFunc(slices.Clone(now.Frontends), func(proxy.Frontend) bool { return r.IntN(6) == 0 })
					next = proxy.NewTable(append(kept, random(r, r.IntN(9)).Frontends...)...)
				}
				must(t, d.Sync(t.Context(), proxytest.Step(now, next)))
				now = next
				proxytest.CheckDump(t, d, now)
			}
			must(t, d.Sync(t.Context(), proxytest.Step(now, proxy.Table{})))
			proxytest.CheckDump(t, d, proxy.Table{})
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestDriftIsSeenAndRepaired interferes as people and programs do.
func TestDriftIsSeenAndRepaired(t *testing.T) {
	affine := frontend("sticky", "10.96.0.6:80", "10.244.0.11:8080", "10.244.0.12:8080", "10.244.0.13:8080")
	affine.Affinity = time.Minute
	refused := frontend("refused", "10.96.0.7:80")
	refused.Verdict, refused.Masquerade = proxy.Reject, 0
	table := proxy.NewTable(frontend("web", "10.96.0.5:80", "10.244.0.11:8080", "10.244.0.12:8080"), affine, refused)
	for _, variant := range variants {
		lab := &proxytest.Lab{Node: proxy.Node{PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}}}
		d := open(t, lab, variant)
		must(t, d.Resync(t.Context(), table))
		iptables := "iptables-" + string(variant)
		chain := func(kind string) string {
			return regexp.MustCompile(`SVCPLANE-` + kind + `-\w+`).FindString(run(t, iptables+"-save", "-t", "nat"))
		}
		for name, args := range map[string][]string{
			"nat flushed":         {"-t", "nat", "-F"},
			"a jump removed":      {"-t", "nat", "-D", "OUTPUT", "1"},
			"a jump doubled":      {"-t", "nat", "-A", "PREROUTING", "-j", chainServices},
			"an endpoint removed": {"-t", "nat", "-D", chain("F"), "2"},
			"a rule added":        {"-t", "nat", "-I", chain("E"), "-j", "RETURN"},
			"a rule replaced":     {"-t", "filter", "-R", chainReject, "1", "-j", "ACCEPT"},
			"a leaf removed":      {"-t", "filter", "-F", chainRefuse},
			"a chain added":       {"-t", "nat", "-N", "SVCPLANE-STRANGE"},
			"masquerading off":    {"-t", "nat", "-F", chainPostrouting},
		} {
			t.Run(string(variant)+" "+name, func(t *testing.T) {
				run(t, iptables, args...)
				have, err := d.Dump(t.Context())
				must(t, err)
				if len(table.Diff(have)) == 0 {
					t.Fatal("the difference was not seen")
				}
				if names := strings.Join(table.Diff(have), "\n"); name == "a rule added" && !strings.Contains(names, " of default/") {
					t.Errorf("no Service is named:\n%s", names)
				}
				must(t, d.Resync(t.Context(), table))
				proxytest.CheckDump(t, d, table)
			})
		}
		must(t, d.Close(t.Context()))
	}
}

// TestARefusedChangeLeavesWhatWas gives the kernel a batch that it refuses.
func TestARefusedChangeLeavesWhatWas(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			d := open(t, &proxytest.Lab{}, variant)
			good := proxy.NewTable(frontend("web", "10.96.0.5:80", "10.244.0.11:8080"))
			must(t, d.Resync(t.Context(), good))
			bad := frontend("bad", "10.96.0.6:80", "[fd00::1]:80")
			if err := d.Sync(t.Context(), proxy.Change{Set: []proxy.Frontend{bad}}); err == nil || !strings.Contains(err.Error(), "default/bad") {
				t.Fatalf("got %v, want an error that names the service", err)
			}
			proxytest.CheckDump(t, d, good)
			next := frontend("next", "10.96.0.7:80", "10.244.0.11:8080")
			must(t, d.Sync(t.Context(), proxy.Change{Set: []proxy.Frontend{next}}))
			proxytest.CheckDump(t, d, proxy.NewTable(append(good.Frontends, next)...))
			must(t, d.Close(t.Context()))
		})
	}
	t.Run("IPv6 is off", func(t *testing.T) {
		d, err := New(Config{Variant: NFT})
		must(t, err)
		err = d.Resync(t.Context(), proxy.NewTable(frontend("six", "[fd00::5]:80", "[fd00::11]:80")))
		if err == nil || !strings.Contains(err.Error(), "default/six") {
			t.Errorf("got %v, want an error that names the service", err)
		}
	})
}

// TestALargeChangeGoesInStages writes enough at once for several transactions, at a start and as a change.
func TestALargeChangeGoesInStages(t *testing.T) {
	var all []proxy.Frontend
	for i := range 3 * stageChains {
		all = append(all, frontend(fmt.Sprintf("svc%d", i), fmt.Sprintf("10.96.%d.%d:80", i*7%16, i/16), fmt.Sprintf("10.244.%d.%d:80", i/200, i%200)))
	}
	large, half := proxy.NewTable(all...), proxy.NewTable(all[:len(all)/2]...)
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			d := open(t, &proxytest.Lab{}, variant)
			must(t, d.Resync(t.Context(), large))
			proxytest.CheckDump(t, d, large)
			must(t, d.Sync(t.Context(), proxytest.Step(large, half)))
			proxytest.CheckDump(t, d, half)
			must(t, d.Sync(t.Context(), proxytest.Step(half, large)))
			proxytest.CheckDump(t, d, large)
			must(t, d.Sync(t.Context(), proxytest.Step(large, proxy.Table{})))
			proxytest.CheckDump(t, d, proxy.Table{})
		})
	}
}
