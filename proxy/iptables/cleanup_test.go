package iptables

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// frontend is a plain balanced one.
func frontend(name, addr string, endpoints ...string) proxy.Frontend {
	f := proxy.Frontend{Service: catalog.Key{Namespace: "default", Name: name}, PortName: "http", Masquerade: proxy.MasqueradeOutsidePods}
	f.AddrPort, f.Protocol, f.Scope = netip.MustParseAddrPort(addr), corev1.ProtocolTCP, proxy.Everywhere
	for _, e := range endpoints {
		f.Endpoints = append(f.Endpoints, proxy.Endpoint{AddrPort: netip.MustParseAddrPort(e)})
	}
	return f
}

// kernel is everything that iptables and nft say, without counters and dates.
func kernel(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, program := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		for line := range strings.Lines(run(t, program)) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") {
				all.WriteString(line)
			} else if chain, _, ok := strings.Cut(line, " ["); ok {
				all.WriteString(chain + "\n")
			}
		}
	}
	all.WriteString(run(t, "nft", "-s", "list", "ruleset"))
	return all.String()
}

func TestCleanupLeavesTheKernelAsItWas(t *testing.T) {
	for name, before := range map[string][]string{
		"nothing was there":         nil,
		"an empty chain was there":  {"add table ip nat", "add chain ip nat POSTROUTING { type nat hook postrouting priority srcnat; }"},
		"an empty table was there":  {"add table ip filter"},
		"somebody else's rules":     {"add table ip nat", "add chain ip nat PREROUTING { type nat hook prerouting priority dstnat; }", "add chain ip nat OTHERS", "add rule ip nat PREROUTING tcp dport 99 jump OTHERS"},
		"a policy of somebody else": {"add table ip filter", "add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range before {
				run(t, "nft", strings.Fields(command)...)
			}
			defer run(t, "nft", "flush", "ruleset")
			was := kernel(t)
			d := open(t, &proxytest.Lab{}, NFT)
			if kernel(t) != was {
				t.Fatal("making a data plane changed the kernel")
			}
			table := proxy.NewTable(frontend("web", "10.96.0.5:80", "10.244.0.11:8080"), frontend("web6", "[fd00::5]:80", "[fd00::11]:8080"))
			for range 2 { // the second time must not forget what was not there before the first
				if err := d.Resync(t.Context(), table); err != nil {
					t.Fatal(err)
				}
			}
			if !strings.Contains(kernel(t), "10.244.0.11:8080") {
				t.Fatal("the kernel holds no rule for the endpoint")
			}
			if err := Cleanup(t.Context()); err != nil {
				t.Fatal(err)
			}
			if now := kernel(t); now != was {
				t.Errorf("the kernel was\n%s\nand is now\n%s", was, now)
			}
		})
	}
}

func TestCleanupKeepsWhatOthersAddedSince(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			d := open(t, &proxytest.Lab{}, variant)
			if err := d.Resync(t.Context(), proxy.NewTable(frontend("web", "10.96.0.5:80", "10.244.0.11:8080"))); err != nil {
				t.Fatal(err)
			}
			program := "iptables-" + string(variant)
			run(t, program, "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-j", "MASQUERADE")
			defer run(t, program, "-t", "nat", "-F")
			if err := d.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			saved := run(t, program+"-save", "-t", "nat")
			if strings.Contains(saved, prefix) || !strings.Contains(saved, "-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE") {
				t.Errorf("after closing:\n%s", saved)
			}
		})
	}
}

func TestFindingTheVariant(t *testing.T) {
	t.Run("without iptables", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "apt-get install iptables") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line that says how to mend", err)
		}
	})
	t.Run("rules in legacy", func(t *testing.T) {
		run(t, "iptables-legacy", "-A", "INPUT", "-s", "203.0.113.1", "-j", "DROP")
		defer run(t, "iptables-legacy", "-F")
		d, err := New(Config{})
		if err != nil || d.Variant() != Legacy {
			t.Fatalf("got %v, %v; want legacy, which holds the rules", d, err)
		}
		run(t, "iptables-nft", "-A", "INPUT", "-s", "203.0.113.1", "-j", "DROP")
		defer run(t, "nft", "flush", "ruleset")
		if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "both hold rules") {
			t.Errorf("got %v, want a refusal to mix", err)
		}
	})
	t.Run("a foreign mark", func(t *testing.T) {
		for _, mark := range []uint32{0x4000, 0x8000, 0x3} {
			if _, err := New(Config{Mark: mark}); err == nil {
				t.Errorf("mark 0x%x was accepted", mark)
			}
		}
	})
}

// TestLeftoversOfKubeProxy: they are named, and they stay.
func TestLeftoversOfKubeProxy(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			d := open(t, &proxytest.Lab{}, variant)
			if found, err := d.Leftovers(t.Context()); err != nil || len(found) > 0 {
				t.Fatalf("found %q, %v, where nobody has been", found, err)
			}
			program, want := "iptables-"+string(variant), []string{"1 chains named KUBE-* in iptables-" + string(variant)}
			run(t, program, "-t", "nat", "-N", "KUBE-SERVICES")
			defer run(t, program, "-t", "nat", "-X", "KUBE-SERVICES")
			if variant == NFT {
				run(t, "nft", "add", "table", "ip", "kube-proxy")
				defer run(t, "nft", "delete", "table", "ip", "kube-proxy")
				want = append(want, "the nftables table kube-proxy")
			}
			must(t, d.Resync(t.Context(), proxy.NewTable(frontend("web", "10.96.0.5:80", "10.244.0.11:8080"))))
			must(t, d.Close(t.Context()))
			if found, err := d.Leftovers(t.Context()); err != nil || !slices.Equal(found, want) {
				t.Errorf("found %q, %v, want %q", found, err, want)
			}
		})
	}
}
