package iptables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// builtin are the kernel chains of our tables. iptables-nft makes those that it needs and leaves them behind.
var builtin = map[string][]string{
	nat:    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	filter: {"INPUT", "FORWARD", "OUTPUT"},
}

// markTable marks a table that was not there before us.
const markTable = "TABLE"

func (t tool) nftFamily() nftables.TableFamily {
	if t.ipv6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

// missingBase lists the kernel chains, and as markTable the tables, that do not exist before the first
// write of ours. Legacy iptables always has all of them.
func (t tool) missingBase(have state) ([]chainID, error) {
	if t.variant == Legacy {
		return nil, nil
	}
	tables, chains, err := t.baseChains()
	if err != nil {
		return nil, err
	}
	var missing []chainID
	for _, table := range []string{filter, nat} {
		first := true
		for id := range have.ours {
			first = first && id.table != table
		}
		if !first {
			continue
		}
		if !tables[table] {
			missing = append(missing, chainID{table, markTable})
		}
		for _, name := range builtin[table] {
			if chains[chainID{table, name}] == nil {
				missing = append(missing, chainID{table, name})
			}
		}
	}
	return missing, nil
}

func (t tool) baseChains() (tables map[string]bool, chains map[chainID]*nftables.Chain, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, nil, fmt.Errorf("opening a netlink socket to nf_tables (needs CAP_NET_ADMIN): %w", err)
	}
	list, err := conn.ListTablesOfFamily(t.nftFamily())
	if err != nil {
		return nil, nil, fmt.Errorf("listing nf_tables tables: %w", err)
	}
	tables = map[string]bool{}
	for _, table := range list {
		tables[table.Name] = true
	}
	found, err := conn.ListChainsOfTableFamily(t.nftFamily())
	if err != nil {
		return nil, nil, fmt.Errorf("listing nf_tables chains: %w", err)
	}
	chains = map[chainID]*nftables.Chain{}
	for _, chain := range found {
		chains[chainID{chain.Table.Name, chain.Name}] = chain
	}
	return tables, chains, nil
}

// remove takes our chains and the jumps to them out, then what iptables-nft made on our behalf.
func (t tool) remove(ctx context.Context) error {
	have, err := t.read(ctx)
	if err != nil {
		return err
	}
	if len(have.ours) == 0 && len(have.jumps) == 0 && len(have.made) == 0 {
		return nil
	}
	gone := ruleset{}
	for id := range have.ours {
		gone[id] = nil
	}
	for _, id := range have.made {
		gone[chainID{id.table, markMade + id.name}] = nil
	}
	if err := t.restore(ctx, restoreText(gone, have.jumps, nil)); err != nil {
		return fmt.Errorf("removing svcplane's rules: %w", err)
	}
	if t.variant == NFT && len(have.made) > 0 {
		return t.unmake(have.made)
	}
	return nil
}

// unmake deletes the kernel chains and tables made for us that nobody else has come to use.
func (t tool) unmake(made []chainID) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening a netlink socket to nf_tables (needs CAP_NET_ADMIN): %w", err)
	}
	_, chains, err := t.baseChains()
	if err != nil {
		return err
	}
	left := map[string]int{}
	for id := range chains {
		left[id.table]++
	}
	for _, id := range made {
		chain := chains[id]
		if chain == nil || chain.Policy != nil && *chain.Policy != nftables.ChainPolicyAccept {
			continue
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return fmt.Errorf("listing the rules of %s in nf_tables: %w", id.name, err)
		}
		if len(rules) == 0 {
			conn.DelChain(chain)
			left[id.table]--
		}
	}
	for table, count := range left {
		if count == 0 && slices.Contains(made, chainID{table, markTable}) {
			conn.DelTable(&nftables.Table{Name: table, Family: t.nftFamily()})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("removing the empty tables that iptables-nft made: %w", err)
	}
	return nil
}

// Present says whether the kernel holds chains of any Dataplane, of either variant, without running a program
// where it can. A ForwardChain is not one.
func Present(ctx context.Context) (bool, error) {
	for _, ipv6 := range families(true) {
		// without nf_tables in the kernel there are none
		_, chains, err := tool{variant: NFT, ipv6: ipv6}.baseChains()
		for id := range chains {
			if err == nil && whole(id) {
				return true, nil
			}
		}
		t, err := findTool(Legacy, ipv6)
		if err != nil || len(t.existing()) == 0 {
			continue
		}
		have, err := t.read(ctx)
		if err != nil {
			return false, err
		}
		for id := range have.ours {
			if whole(id) {
				return true, nil
			}
		}
	}
	return false, nil
}

// whole says whether a chain is one that only a Dataplane has.
func whole(id chainID) bool {
	return (id.table == nat || id.table == filter) && strings.HasPrefix(id.name, prefix) &&
		!strings.HasPrefix(id.name, markMade) && id.name != chainForward
}
