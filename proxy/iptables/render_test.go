package iptables

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestRender pins the rules down, text for text.
func TestRender(t *testing.T) {
	for name, kind := range map[string]renderer{
		"ipv4":           {loopMatch: true, randomFully: true},
		"ipv6":           {loopMatch: true, randomFully: true, ipv6: true},
		"ipv4-old-tools": {},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Mark: DefaultMark, PodCIDRs: prefixes("10.244.0.0/16", "10.245.0.0/16", "fd00:244::/64"), ServiceCIDRs: prefixes("10.96.0.0/16", "fd00:96::/112")}
			render := newRenderer(cfg, kind.ipv6)
			render.loopMatch, render.randomFully = kind.loopMatch, kind.randomFully
			got := restoreText(modelOf(render, examples()).all(), nil, jumps())
			file := filepath.Join("testdata", name+".golden")
			if *update {
				must(t, os.MkdirAll("testdata", 0o755))
				must(t, os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			must(t, err)
			if got != string(want) {
				t.Errorf("rendering changed; look at the difference with git after go test -run TestRender -update. Got:\n%s", got)
			}
		})
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// examples has one Frontend of each kind in both families, and enough neighbours to make the tree branch.
func examples() proxy.Table {
	var all []proxy.Frontend
	add := func(name, v4, v6 string, change func(f *proxy.Frontend)) {
		four := frontend(name, v4, "10.244.0.11:8080", "10.244.0.12:8080", "10.244.0.13:8080")
		six := frontend(name, v6, "[fd00:244::11]:8080", "[fd00:244::12]:8080")
		for _, f := range []*proxy.Frontend{&four, &six} {
			change(f)
			if f.Verdict != proxy.Balance {
				f.Endpoints, f.Masquerade = nil, 0
			}
			all = append(all, *f)
		}
	}
	add("cluster", "10.96.0.5:80", "[fd00:96::5]:80", func(*proxy.Frontend) {})
	add("sticky", "10.96.0.6:80", "[fd00:96::6]:80", func(f *proxy.Frontend) { f.Affinity = 3 * time.Hour })
	add("datagrams", "10.96.0.7:53", "[fd00:96::7]:53", func(f *proxy.Frontend) { f.Protocol = corev1.ProtocolUDP })
	add("associations", "10.96.0.8:132", "[fd00:96::8]:132", func(f *proxy.Frontend) { f.Protocol = corev1.ProtocolSCTP })
	add("refused", "10.96.0.9:80", "[fd00:96::9]:80", func(f *proxy.Frontend) { f.Verdict = proxy.Reject })
	add("local", "192.0.2.1:30080", "[2001:db8::1]:30080", func(f *proxy.Frontend) { f.Scope = proxy.Internal })
	add("local", "192.0.2.1:30080", "[2001:db8::1]:30080", func(f *proxy.Frontend) { f.Scope, f.Masquerade = proxy.External, proxy.MasqueradeHairpin })
	add("dropped", "192.0.2.1:30081", "[2001:db8::1]:30081", func(f *proxy.Frontend) { f.Scope, f.Verdict = proxy.External, proxy.Drop })
	add("ranged", "192.0.2.1:80", "[2001:db8::1]:80", func(f *proxy.Frontend) {
		f.Masquerade, f.SourceRanges = proxy.MasqueradeEverybody, prefixes("198.51.100.0/24", "203.0.113.7/32")
		if f.Addr().Is6() {
			f.SourceRanges = prefixes("2001:db8:7::/48")
		}
	})
	for i := range 20 {
		add(fmt.Sprintf("crowd%d", i), fmt.Sprintf("192.0.2.1:%d", 31000+i), fmt.Sprintf("[fd00:96::%x]:80", 0x1000+i*16), func(f *proxy.Frontend) { f.Verdict = proxy.Reject })
	}
	return proxy.NewTable(all...)
}

// walk follows the rules as the kernel does for a first packet, through the tree only, and counts them.
func walk(chains ruleset, root string, to proxy.Address) (found []string, met int) {
	var follow func(chain string)
	follow = func(chain string) {
		for _, rule := range chains[chainID{nat, chain}] {
			met++
			if !matches(rule, to) {
				continue
			}
			target := targetOf(rule)
			if strings.HasPrefix(target, prefix+"T-") {
				follow(target)
			} else {
				found = append(found, target)
			}
		}
	}
	follow(root)
	return found, met
}

func matches(rule string, to proxy.Address) bool {
	words := strings.Fields(rule)
	for i, word := range words {
		switch word {
		case "-d":
			if !netip.MustParsePrefix(words[i+1]).Contains(to.Addr()) {
				return false
			}
		case "-p":
			if words[i+1] != strings.ToLower(string(to.Protocol)) {
				return false
			}
		case "--dport":
			low, high := 0, 0
			if n, _ := fmt.Sscanf(words[i+1], "%d:%d", &low, &high); n == 1 {
				high = low
			}
			if int(to.Port()) < low || int(to.Port()) > high {
				return false
			}
		}
	}
	return true
}

// TestTreeFindsEverythingSoon builds trees of many shapes one address at a time, takes half out again, and
// holds them against a tree built at once; then it walks them.
func TestTreeFindsEverythingSoon(t *testing.T) {
	shapes := map[string]func(i int) string{
		"services":     func(i int) string { return fmt.Sprintf("10.96.%d.%d:80", i*7919%65536/256, i*7919%256) },
		"node ports":   func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 30000+i%2768) },
		"six":          func(i int) string { return fmt.Sprintf("[fd00:96::%x]:443", i*7919%65536) },
		"many of each": func(i int) string { return fmt.Sprintf("10.96.%d.1:%d", i%64, 1+i/64) },
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			const size = 2500
			ipv6 := strings.HasPrefix(shape(0), "[")
			grown, fresh := newTree(nat, chainServices, nil, nil, ipv6), newTree(nat, chainServices, nil, nil, ipv6)
			kept := ruleset{}
			var addresses []proxy.Address
			for i := range size {
				addresses = append(addresses, proxy.Address{AddrPort: netip.MustParseAddrPort(shape(i)), Protocol: corev1.ProtocolTCP})
			}
			rule := func(a proxy.Address) []string {
				return []string{fmt.Sprintf("-d %s/32 -p tcp -m tcp --dport %d -j %s", a.Addr(), a.Port(), a)}
			}
			if ipv6 {
				rule = func(a proxy.Address) []string {
					return []string{fmt.Sprintf("-d %s/128 -p tcp -m tcp --dport %d -j %s", a.Addr(), a.Port(), a)}
				}
			}
			change := func(a proxy.Address, rules []string) {
				grown.put(a, rules)
				for id, rules := range grown.take() {
					if kept[id] = rules; rules == nil {
						delete(kept, id)
					}
				}
			}
			for _, i := range rand.New(rand.NewPCG(5, 6)).Perm(size) {
				change(addresses[i], rule(addresses[i]))
			}
			for _, a := range addresses[size/2:] {
				change(a, nil)
			}
			for _, a := range addresses[:size/2] {
				fresh.put(a, rule(a))
			}
			want := ruleset{}
			fresh.all(want)
			if diff := difference(kept, want); len(diff) > 0 {
				t.Fatalf("%d chains differ from those of a tree that was built at once", len(diff))
			}
			for _, a := range addresses[:size/2] {
				found, met := walk(want, chainServices, a)
				if !slices.Equal(found, []string{a.String()}) || met > 100 {
					t.Fatalf("%s: found %v after %d rules", a, found, met)
				}
			}
		})
	}
}

// TestAChangeIsSmall counts the chains that one Service concerns among many.
func TestAChangeIsSmall(t *testing.T) {
	m := newModel(newRenderer(Config{Mark: DefaultMark}, false))
	for i := range 5000 {
		m.apply(proxy.Change{Set: []proxy.Frontend{frontend(fmt.Sprintf("svc%d", i), fmt.Sprintf("10.96.%d.%d:80", i/200, i%200), fmt.Sprintf("10.244.%d.%d:80", i/200, i%200))}})
	}
	m.written = map[chainID]uint64{}
	m.confirm(m.pending())
	m.apply(proxy.Change{Set: []proxy.Frontend{frontend("svc7", "10.96.0.7:80", "10.244.0.7:80", "10.244.99.9:80")}})
	if changed := m.pending(); len(changed) != 4 { // the leaf, the new endpoint, the frontend before and after
		t.Errorf("one endpoint more changed %d chains: %v", len(changed), changed)
	}
}
