package iptables

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
)

// masquerading is the chain that gives pods the node's address when they talk to the outside (node/sandbox). Its rules do
// not concern packets between pods, nor those that data planes translate. The other chains of the table, which there are while
// pods have host ports, do.
const (
	podsTable    = "svcplane-pods"
	masquerading = "postrouting"
)

// passing are the hooks that a packet on its way through the node meets.
var passing = map[nftables.ChainHook]bool{
	*nftables.ChainHookPrerouting: true, *nftables.ChainHookForward: true, *nftables.ChainHookPostrouting: true,
}

// Bystander names a chain with rules about packets in transit through this network namespace; it is empty when there is none,
// and a data plane may redirect packets past netfilter. Empty chains that accept do not count, as iptables-nft
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

// passed says whether packets in transit meet a chain whose rules may concern them.
func passed(chain *nftables.Chain) bool {
	ours := chain.Table.Name == podsTable && chain.Name == masquerading
	switch chain.Table.Family {
	case nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet:
		return chain.Hooknum != nil && passing[*chain.Hooknum] && !ours
	}
	return false
}
