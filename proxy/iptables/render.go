package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/listeners"
	"svcplane/proxy"
)

const (
	nat    = "nat"
	filter = "filter"

	prefix           = "SVCPLANE-"
	chainServices    = prefix + "SERVICES"
	chainOutsidePods = prefix + "OUTSIDE-PODS"
	chainPostrouting = prefix + "POSTROUTING"
	chainRefuse      = prefix + "REFUSE"
	chainReject      = prefix + "REJECT"
	chainForward     = prefix + "FORWARD"
)

// The kinds of chains that are named by their contents.
const (
	kindEndpoint = prefix + "E-"
	kindFrontend = prefix + "F-"
	kindInternal = prefix + "I-"
	kindExternal = prefix + "O-"
	kindRanges   = prefix + "R-"
)

// chainID names a chain in a table.
type chainID struct{ table, name string }

// ruleset is chains with their rules, each rule as iptables-save prints it after "-A CHAIN ".
type ruleset map[chainID][]string

// renderer turns Frontends of one address family into rules.
type renderer struct {
	ipv6        bool
	mark        uint32
	podCIDRs    []netip.Prefix // of this family, as are serviceCIDRs
	serviceCIDR []netip.Prefix
	randomFully bool
	own         []string // rules at the head of both trees, for what comes for svcplane itself
	loopMatch   bool     // -m bpf works: endpoints need chains of their own only with session affinity
}

// hashed is 16 characters that stand for text.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

// entry is what one Address needs: rules in a leaf of either tree, and chains that they lead to.
type entry struct {
	nat, filter []string
	chains      ruleset
}

// add makes the chain that has these rules and returns its name.
func (e *entry) add(table, kind string, rules []string) string {
	name := kind + hashed(strings.Join(rules, "\n"))
	e.chains[chainID{table, name}] = rules
	return name
}

// entry renders the Frontends of one Address.
func (r renderer) entry(frontends []proxy.Frontend) entry {
	e := entry{chains: ruleset{}}
	for _, f := range frontends {
		match := fmt.Sprintf("-d %s %s --dport %d -m comment --comment \"%s\" -j ", r.host(f.Addr()), protocol(f.Address), f.Port(), f.Origin())
		switch f.Verdict {
		case proxy.Balance:
			target := r.ranges(&e, nat, r.balance(&e, f), f, "")
			e.nat = append(e.nat, match+r.scope(&e, nat, target, f.Scope))
			if len(f.SourceRanges) > 0 {
				// who is in range was translated and does not come here under this address
				e.filter = append(e.filter, match+r.scope(&e, filter, "DROP", f.Scope))
			}
		case proxy.Reject:
			target := r.ranges(&e, filter, chainReject, f, "DROP")
			e.filter = append(e.filter, match+r.scope(&e, filter, target, f.Scope))
		case proxy.Drop:
			e.filter = append(e.filter, match+r.scope(&e, filter, "DROP", f.Scope))
		}
	}
	return e
}

func protocol(a proxy.Address) string {
	p := strings.ToLower(string(a.Protocol))
	return "-p " + p + " -m " + p
}

func (r renderer) host(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// scope lets only the clients that a Frontend is for pass to target.
func (r renderer) scope(e *entry, table, target string, scope proxy.Scope) string {
	const local = "-m addrtype --src-type LOCAL -j "
	var rules []string
	switch scope {
	case proxy.Internal:
		for _, c := range r.podCIDRs {
			rules = append(rules, fmt.Sprintf("-s %s -j %s", c, target))
		}
		return e.add(table, kindInternal, append(rules, local+target))
	case proxy.External:
		for _, c := range r.podCIDRs {
			rules = append(rules, fmt.Sprintf("-s %s -j RETURN", c))
		}
		return e.add(table, kindExternal, append(rules, local+"RETURN", "-j "+target))
	}
	return target
}

// ranges lets only clients in the source ranges pass to target, and the others to otherwise, or back.
func (r renderer) ranges(e *entry, table, target string, f proxy.Frontend, otherwise string) string {
	if len(f.SourceRanges) == 0 {
		return target
	}
	var rules []string
	for _, c := range f.SourceRanges {
		rules = append(rules, fmt.Sprintf("-s %s -j %s", c, target))
	}
	if otherwise != "" {
		rules = append(rules, "-j "+otherwise)
	}
	return e.add(table, kindRanges, rules)
}

// balance chooses an endpoint: with session affinity the one that the client had last, else a random one.
func (r renderer) balance(e *entry, f proxy.Frontend) string {
	rules := r.masquerade(f.Masquerade)
	targets := make([]string, len(f.Endpoints))
	match := ""
	for i, endpoint := range f.Endpoints {
		if r.loopMatch && f.Affinity == 0 {
			match, targets[i] = r.portless(f.Address), "DNAT --to-destination "+endpoint.String()
		} else {
			targets[i] = r.endpoint(e, f, endpoint)
		}
	}
	if f.Affinity > 0 {
		for i, endpoint := range f.Endpoints {
			rules = append(rules, fmt.Sprintf("-m recent --rcheck --seconds %d --reap %s -j %s",
				f.Affinity/time.Second, r.recent(f, endpoint), targets[i]))
		}
	}
	for i, target := range targets {
		choose := ""
		if left := len(targets) - i; left > 1 {
			choose = fmt.Sprintf("-m statistic --mode random --probability %s ", probability(left))
		}
		rules = append(rules, match+choose+"-j "+target)
	}
	return e.add(nat, kindFrontend, rules)
}

// masquerade marks the clients whose addresses are replaced. It is one rule where that is possible: nf_tables
// walks every rule that a hook can reach at each change, so the rules of a Service are what a change costs.
func (r renderer) masquerade(whom proxy.Masquerade) []string {
	switch {
	case whom == proxy.MasqueradeEverybody:
		return []string{r.setMark()}
	case whom == proxy.MasqueradeOutsidePods && len(r.podCIDRs) == 1:
		return []string{fmt.Sprintf("! -s %s %s", r.podCIDRs[0], r.setMark())}
	case whom == proxy.MasqueradeOutsidePods:
		return []string{"-j " + chainOutsidePods}
	}
	return nil
}

func (r renderer) setMark() string {
	return fmt.Sprintf("-j MARK --set-xmark 0x%x/0x%x", r.mark, r.mark)
}

// portless matches the protocol alone: DNAT to a port asks for it, and -m tcp would be a match more to walk.
func (r renderer) portless(a proxy.Address) string {
	return "-p " + strings.ToLower(string(a.Protocol)) + " "
}

// probability is one in n in the form that iptables-save prints: the kernel counts in parts of 2^31.
func probability(n int) string {
	return fmt.Sprintf("%.11f", math.Round(float64(1<<31)/float64(n))/(1<<31))
}

func (r renderer) endpoint(e *entry, f proxy.Frontend, endpoint proxy.Endpoint) string {
	var rules []string
	if !r.loopMatch {
		rules = append(rules, fmt.Sprintf("-s %s %s", r.host(endpoint.Addr()), r.setMark()))
	}
	if f.Affinity > 0 {
		rules = append(rules, "-m recent --set "+r.recent(f, endpoint))
	}
	rules = append(rules, fmt.Sprintf("%s-j DNAT --to-destination %s", r.portless(f.Address), endpoint))
	return e.add(nat, kindEndpoint, rules)
}

// recent is the kernel's list of clients that an endpoint had. It is one for all addresses of the port of a
// Service, and stays when other endpoints come and go.
func (r renderer) recent(f proxy.Frontend, endpoint proxy.Endpoint) string {
	mask := "255.255.255.255"
	if r.ipv6 {
		mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return fmt.Sprintf("--name %s --mask %s --rsource", recentList(f.Origin(), f.Protocol, endpoint.AddrPort), mask)
}

// recentList names it.
func recentList(origin string, protocol corev1.Protocol, endpoint netip.AddrPort) string {
	return prefix + hashed(origin+" "+string(protocol)+" "+endpoint.String())
}

// spare are the rules that keep what comes for the listeners of this family out of the trees.
func (r renderer) spare(own listeners.Set) []string {
	var rules []string
	for _, l := range own {
		at := l.At.Addr().Unmap()
		to := "-m addrtype --dst-type LOCAL "
		switch {
		case at.IsUnspecified() && (at.Is6() || !r.ipv6):
		case at.IsUnspecified() || at.Is6() != r.ipv6:
			continue
		default:
			to = ""
		}
		match := fmt.Sprintf("%s --dport %d ", protocol(proxy.Address{Protocol: l.Protocol}), l.At.Port())
		if to == "" {
			match = "-d " + r.host(at) + " " + match
		}
		rules = append(rules, match+to+"-j RETURN")
	}
	return rules
}

// static are the chains that do not depend on the Services, and what stands at the end of the trees' roots.
func (r renderer) static() (chains ruleset, refuseTail []string) {
	mark := fmt.Sprintf("0x%x/0x%x", r.mark, r.mark)
	unreachable, random := "icmp-port-unreachable", ""
	if r.ipv6 {
		unreachable = "icmp6-port-unreachable"
	}
	if r.randomFully {
		random = " --random-fully"
	}
	var outsidePods, masquerade []string
	// first what nearly every packet is
	forward := []string{"-m conntrack --ctstate RELATED,ESTABLISHED -m conntrack --ctstate DNAT -j ACCEPT"}
	for _, c := range r.podCIDRs {
		if r.loopMatch {
			// an endpoint that dialled itself would take the reply for its own packet
			masquerade = append(masquerade, fmt.Sprintf("-s %s -m conntrack --ctstate DNAT %s -j MASQUERADE%s", c, loopMatch(r.ipv6), random))
		}
		outsidePods = append(outsidePods, fmt.Sprintf("-s %s -j RETURN", c))
		// conntrack has given such a packet up; with the endpoint's address on it, it would make the client reset
		forward = append(forward, fmt.Sprintf("-s %s -p tcp -m conntrack --ctstate INVALID -j DROP", c))
	}
	passing := fmt.Sprintf("0x%x/0x%x", proxy.ForwardMark, proxy.ForwardMark)
	forward = append(forward, "-m mark --mark "+mark+" -j ACCEPT", "-m mark --mark "+passing+" -j ACCEPT")
	for _, c := range r.podCIDRs {
		forward = append(forward, fmt.Sprintf("-s %s -j ACCEPT", c), fmt.Sprintf("-d %s -j ACCEPT", c))
	}
	for _, c := range r.serviceCIDR {
		// no Service has this address and port; those that the node itself has are not ours to refuse
		refuseTail = append(refuseTail, fmt.Sprintf("-d %s -m addrtype ! --dst-type LOCAL -j %s", c, chainReject))
	}
	chains = ruleset{
		{nat, chainPostrouting}: append(masquerade,
			"-m mark ! --mark "+mark+" -j RETURN",
			fmt.Sprintf("-j MARK --set-xmark 0x0/0x%x", r.mark),
			"-j MASQUERADE"+random),
		{filter, chainForward}: forward,
		{filter, chainReject}:  {"-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with " + unreachable},
	}
	if len(r.podCIDRs) != 1 {
		chains[chainID{nat, chainOutsidePods}] = append(outsidePods, r.setMark())
	}
	return chains, refuseTail
}

// jumps are the rules that the kernel's own chains need, in order.
func jumps() map[chainID][]string {
	to := func(why, match, chain string) string {
		return match + "-m comment --comment \"svcplane " + why + "\" -j " + chain
	}
	const fresh = "-m conntrack --ctstate NEW "
	refuse := to("refuses new connections", fresh, chainRefuse)
	return map[chainID][]string{
		{nat, "PREROUTING"}:  {to("finds the service", "", chainServices)},
		{nat, "OUTPUT"}:      {to("finds the service", "", chainServices)},
		{nat, "POSTROUTING"}: {to("masquerades what it marked", "", chainPostrouting)},
		{filter, "INPUT"}:    {refuse},
		{filter, "OUTPUT"}:   {refuse},
		{filter, "FORWARD"}:  {refuse, to("lets its own traffic pass", "", chainForward)},
	}
}
