package iptables

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
)

// masquerading is the chain that gives pods the node's address when they talk to the outside (node/sandbox). It has
// nothing to say to packets between pods, nor to those that data planes translate. Beside it, while pods have host
// ports, are chains that have.
const (
	podsTable    = "svcplane-pods"
	masquerading = "postrouting"
)

// passing are the hooks that a packet on its way through the node meets.
var passing = map[nftables.ChainHook]bool{
	*nftables.ChainHookPrerouting: true, *nftables.ChainHookForward: true, *nftables.ChainHookPostrouting: true,
}

// Bystander names a chain that wants to see the packets that pass through this network namespace; it is empty when
// nobody does: then a data plane may take them past it. Empty chains that accept do not count, as iptables-nft
// leaves them behind.
func Bystander() (string, error) {
	for _, file := range []string{"ip_tables_names", "ip6_tables_names"} {
		if names, err := os.ReadFile("/proc/thread-self/net/" + file); err == nil && len(names) > 0 {
			return "legacy iptables, table " + strings.Fields(string(names))[0], nil
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return "", fmt.Errorf("opening a netlink socket to nf_tables (needs CAP_NET_ADMIN): %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return "", fmt.Errorf("listing nf_tables chains: %w", err)
	}
	for _, chain := range chains {
		if !passed(chain) {
			continue
		}
		name := fmt.Sprintf("chain %s of nftables table %s", chain.Name, chain.Table.Name)
		if chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop {
			return name, nil
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return "", fmt.Errorf("listing the rules of %s: %w", name, err)
		}
		if len(rules) > 0 {
			return name, nil
		}
	}
	return "", nil
}

// passed says whether packets on their way through the node meet a chain that has something to say to them.
func passed(chain *nftables.Chain) bool {
	ours := chain.Table.Name == podsTable && chain.Name == masquerading
	switch chain.Table.Family {
	case nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet:
		return chain.Hooknum != nil && passing[*chain.Hooknum] && !ours
	}
	return false
}
