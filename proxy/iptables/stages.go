package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// stageChains is how many chains one stage names. iptables-nft keeps the names that a transaction mentions in a
// sorted list, so a transaction's cost grows with the square of their number.
const stageChains = 256

// staged takes those chains out of a large change that do not exist yet, and returns what makes them, stage by
// stage, and the rest: nothing leads to them until that, which is one transaction, is in force. The marks
// come first, while it is still known what was not there before us.
func (t tool) staged(changed ruleset, fresh func(chainID) bool, marks []chainID) (text string, rest ruleset) {
	var b strings.Builder
	var made []chainID
	for _, id := range marks {
		made = append(made, chainID{id.table, markMade + id.name})
	}
	declare(&b, made)
	if t.variant != NFT || len(changed) <= stageChains {
		return b.String(), changed // legacy iptables writes the whole table for each transaction
	}
	rest = maps.Clone(changed)
	for _, table := range []string{filter, nat} {
		var early []chainID
		for _, id := range sortedChains(changed, table) {
			if changed[id] != nil && fresh(id) {
				early = append(early, id)
			}
		}
		declare(&b, early)
		for stage := range slices.Chunk(early, stageChains) {
			fmt.Fprintf(&b, "*%s\n", table)
			for _, id := range stage {
				for _, rule := range changed[id] {
					fmt.Fprintf(&b, "-A %s %s\n", id.name, rule)
				}
				delete(rest, id)
			}
			b.WriteString("COMMIT\n")
		}
	}
	return b.String(), rest
}

// declare makes empty chains.
func declare(b *strings.Builder, chains []chainID) {
	for _, table := range []string{filter, nat} {
		of := slices.DeleteFunc(slices.Clone(chains), func(id chainID) bool { return id.table != table })
		for stage := range slices.Chunk(of, stageChains) {
			fmt.Fprintf(b, "*%s\n", table)
			for _, id := range stage {
				fmt.Fprintf(b, ":%s - [0:0]\n", id.name)
			}
			b.WriteString("COMMIT\n")
		}
	}
}
