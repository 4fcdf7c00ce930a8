package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// state is what the kernel holds of one address family.
type state struct {
	ours   ruleset              // chains named SVCPLANE-*, without markers
	made   []chainID            // markers: kernel chains that were not there before us
	jumps  map[chainID][]string // rules of other chains that lead to ours
	tables map[string]bool      // tables that exist
	kube   int                  // chains of kube-proxy or kubelet
	// forwarding says that others drop what is forwarded, or have rules about it
	forwarding bool
}

// markMade begins the name of an empty chain that says: this kernel chain was made for us. It is how
// removal knows what to leave as it was, without anything on disk.
const markMade = prefix + "MADE-"

// parseSave reads the output of iptables-save.
func parseSave(text string) state {
	s := state{ours: ruleset{}, jumps: map[chainID][]string{}, tables: map[string]bool{}}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
			s.tables[table] = true
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			if made, ok := strings.CutPrefix(name, markMade); ok {
				s.made = append(s.made, chainID{table, made})
			} else if strings.HasPrefix(name, prefix) {
				s.ours[chainID{table, name}] = []string{}
			} else if strings.HasPrefix(name, "KUBE-") {
				s.kube++
			} else if table == filter && strings.HasPrefix(line, ":FORWARD DROP") {
				s.forwarding = true
			}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[3:], " ")
			id := chainID{table, name}
			if _, ok := s.ours[id]; ok {
				s.ours[id] = append(s.ours[id], rule)
			} else if strings.Contains(rule, "-j "+prefix) || strings.Contains(rule, "-g "+prefix) {
				s.jumps[id] = append(s.jumps[id], rule)
			} else if table == filter && name == "FORWARD" {
				s.forwarding = true
			}
		}
	}
	return s
}

// restoreText is the input of iptables-restore that writes changed, nil to remove a chain, and puts jumps in
// the kernel's chains in place of those in old.
func restoreText(changed ruleset, old, wanted map[chainID][]string) string {
	var b strings.Builder
	for _, table := range []string{filter, nat} {
		var declare, rules, remove strings.Builder
		for _, id := range sortedChains(changed, table) {
			fmt.Fprintf(&declare, ":%s - [0:0]\n", id.name)
			for _, rule := range changed[id] {
				fmt.Fprintf(&rules, "-A %s %s\n", id.name, rule)
			}
			if changed[id] == nil {
				fmt.Fprintf(&remove, "-X %s\n", id.name)
			}
		}
		writeJumps(&rules, table, old, wanted)
		if body := declare.String() + rules.String() + remove.String(); body != "" {
			fmt.Fprintf(&b, "*%s\n%sCOMMIT\n", table, body)
		}
	}
	return b.String()
}

func writeJumps(b *strings.Builder, table string, old, wanted map[chainID][]string) {
	for _, id := range sortedChains(old, table) {
		if slices.Equal(old[id], wanted[id]) {
			continue
		}
		for _, rule := range old[id] {
			fmt.Fprintf(b, "-D %s %s\n", id.name, rule)
		}
	}
	for _, id := range sortedChains(wanted, table) {
		if slices.Equal(old[id], wanted[id]) {
			continue
		}
		for i, rule := range wanted[id] {
			fmt.Fprintf(b, "-I %s %d %s\n", id.name, i+1, rule)
		}
	}
}

func sortedChains(chains map[chainID][]string, table string) []chainID {
	var ids []chainID
	for id := range chains {
		if id.table == table {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b chainID) int { return strings.Compare(a.name, b.name) })
	return ids
}
