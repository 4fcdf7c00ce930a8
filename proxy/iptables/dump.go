package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

var (
	leafRule     = regexp.MustCompile(`^-d (\S+)/\d+ -p (\w+) -m \w+ --dport (\d+) -m comment --comment "([^"]+)" -j (\S+)$`)
	sourceRule   = regexp.MustCompile(`^-s (\S+) -j (\S+)$`)
	targetRule   = regexp.MustCompile(`-j (\S+)$`)
	affinityRule = regexp.MustCompile(`^-m recent --rcheck --seconds (\d+) `)
	endpointRule = regexp.MustCompile(`-j DNAT --to-destination (\S+)$`)
)

// frontendsIn reads Frontends out of rules. It takes what it understands and checks nothing: the caller
// renders the result again, and the difference shows what was not as it should be.
func frontendsIn(chains ruleset) []proxy.Frontend {
	found := map[proxy.ID]proxy.Frontend{}
	// in nat stands what is balanced, which may have a companion in filter
	for _, table := range []string{nat, filter} {
		for id, rules := range chains {
			if id.table != table {
				continue
			}
			for _, rule := range rules {
				if f, ok := parseLeaf(chains, table, rule); ok {
					if _, known := found[f.ID]; !known {
						found[f.ID] = f
					}
				}
			}
		}
	}
	return slices.Collect(maps.Values(found))
}

func parseLeaf(chains ruleset, table, rule string) (proxy.Frontend, bool) {
	m := leafRule.FindStringSubmatch(rule)
	if m == nil {
		return proxy.Frontend{}, false
	}
	addr, err := netip.ParseAddr(m[1])
	port, err2 := strconv.ParseUint(m[3], 10, 16)
	key, portName, ok := proxy.SplitOrigin(m[4])
	if err != nil || err2 != nil || !ok {
		return proxy.Frontend{}, false
	}
	f := proxy.Frontend{Service: key, PortName: portName}
	f.AddrPort, f.Protocol = netip.AddrPortFrom(addr, uint16(port)), corev1.Protocol(strings.ToUpper(m[2]))
	target := parseScope(chains, table, m[5], &f)
	target = parseRanges(chains, table, target, &f)
	switch {
	case table == nat:
		parseBalance(chains, target, &f)
	case target == "DROP":
		f.Verdict = proxy.Drop
	default:
		f.Verdict = proxy.Reject
	}
	return f, true
}

// parseScope passes through a chain that tells clients apart and returns what it leads to.
func parseScope(chains ruleset, table, target string, f *proxy.Frontend) string {
	rules := chains[chainID{table, target}]
	f.Scope = proxy.Everywhere
	if len(rules) == 0 {
		return target
	}
	switch {
	case strings.HasPrefix(target, kindInternal):
		f.Scope = proxy.Internal
	case strings.HasPrefix(target, kindExternal):
		f.Scope = proxy.External
	default:
		return target
	}
	return targetOf(rules[len(rules)-1])
}

func parseRanges(chains ruleset, table, target string, f *proxy.Frontend) string {
	if !strings.HasPrefix(target, kindRanges) {
		return target
	}
	for _, rule := range chains[chainID{table, target}] {
		m := sourceRule.FindStringSubmatch(rule)
		if m == nil {
			continue
		}
		if r, err := netip.ParsePrefix(m[1]); err == nil {
			f.SourceRanges = append(f.SourceRanges, r)
			target = m[2]
		}
	}
	return target
}

func parseBalance(chains ruleset, target string, f *proxy.Frontend) {
	for _, rule := range chains[chainID{nat, target}] {
		switch to := targetOf(rule); {
		case strings.HasPrefix(rule, "-j MARK "):
			f.Masquerade = proxy.MasqueradeEverybody
		case to == chainOutsidePods, strings.HasPrefix(rule, "! -s "):
			f.Masquerade = proxy.MasqueradeOutsidePods
		case affinityRule.MatchString(rule):
			seconds, _ := strconv.Atoi(affinityRule.FindStringSubmatch(rule)[1])
			f.Affinity = time.Duration(seconds) * time.Second
		case to == "":
			f.Endpoints = append(f.Endpoints, parseEndpoint([]string{rule})...)
		default:
			f.Endpoints = append(f.Endpoints, parseEndpoint(chains[chainID{nat, to}])...)
		}
	}
}

func parseEndpoint(rules []string) []proxy.Endpoint {
	for _, rule := range rules {
		if m := endpointRule.FindStringSubmatch(rule); m != nil {
			if to, err := netip.ParseAddrPort(m[1]); err == nil {
				return []proxy.Endpoint{{AddrPort: to}}
			}
		}
	}
	return nil
}

func targetOf(rule string) string {
	if m := targetRule.FindStringSubmatch(rule); m != nil {
		return m[1]
	}
	return ""
}

// faults says how rules differ from those that a model of the Frontends found in them gives.
func (f *family) faults(have state, found *model) []string {
	want := found.all()
	name := "iptables"
	if f.ipv6 {
		name = "ip6tables"
	}
	differs := difference(have.ours, want)
	var of map[chainID][]string
	if len(differs) > 0 {
		of = origins(want)
		for id, services := range origins(have.ours) {
			if of[id] == nil {
				of[id] = services
			}
		}
	}
	var lines []string
	say := func(id chainID, format string, args ...any) {
		chain := id.name
		switch services := of[id]; len(services) {
		case 0:
		case 1:
			chain += " of " + services[0]
		default:
			chain += fmt.Sprintf(" of %s and %d more", services[0], len(services)-1)
		}
		lines = append(lines, fmt.Sprintf("%s -t %s, chain %s: ", name, id.table, chain)+fmt.Sprintf(format, args...))
	}
	for id := range differs {
		rules, there := have.ours[id]
		wanted, known := want[id]
		switch {
		case !there:
			say(id, "missing")
		case !known:
			say(id, "nothing needs it")
		default:
			sayRules(id, rules, wanted, say)
		}
	}
	for id, wanted := range jumps() {
		if !slices.Equal(have.jumps[id], wanted) {
			sayRules(id, have.jumps[id], wanted, say)
		}
	}
	for id, rules := range have.jumps {
		if _, ours := jumps()[id]; !ours {
			sayRules(id, rules, nil, say)
		}
	}
	slices.Sort(lines)
	return lines
}

// origins says which ports of Services, as "default/web:http", lead to a chain. A chain of endpoints that several have in
// common has all of them; those that sort addresses have none.
func origins(chains ruleset) map[chainID][]string {
	of := map[chainID][]string{}
	var mark func(id chainID, origin string)
	mark = func(id chainID, origin string) {
		if _, ours := chains[id]; !ours || slices.Contains(of[id], origin) {
			return
		}
		of[id] = append(of[id], origin)
		for _, rule := range chains[id] {
			mark(chainID{id.table, targetOf(rule)}, origin)
		}
	}
	for id, rules := range chains {
		for _, rule := range rules {
			if m := leafRule.FindStringSubmatch(rule); m != nil {
				mark(chainID{id.table, m[5]}, m[4])
			}
		}
	}
	for _, services := range of {
		slices.Sort(services)
	}
	return of
}

func sayRules(id chainID, have, wanted []string, say func(chainID, string, ...any)) {
	for i := range max(len(have), len(wanted)) {
		switch {
		case i >= len(have):
			say(id, "rule %q is missing", wanted[i])
		case i >= len(wanted):
			say(id, "rule %q is not svcplane's", have[i])
		case have[i] != wanted[i]:
			say(id, "rule %d is %q instead of %q", i+1, have[i], wanted[i])
			return
		}
	}
}
