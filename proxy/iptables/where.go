package iptables

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"svcplane/proxy"
)

// Where lists the rules that are only for a Frontend, as iptables-save prints them: first those that its packets
// find through the tree of chains, then the chains that these lead to.
func (d *Dataplane) Where(f proxy.Frontend, _ netip.Addr) []string {
	at := slices.IndexFunc(d.families, func(family *family) bool { return family.render.ipv6 == f.Addr().Is6() })
	if at < 0 {
		return nil
	}
	e := d.families[at].render.entry([]proxy.Frontend{f})
	var lines []string
	for _, leaf := range []struct {
		table, tree string
		rules       []string
	}{{nat, chainServices, e.nat}, {filter, chainRefuse, e.filter}} {
		for _, rule := range leaf.rules {
			lines = append(lines, leaf.table+": below "+leaf.tree+": "+rule)
		}
	}
	ids := slices.SortedFunc(maps.Keys(e.chains), func(a, b chainID) int { return strings.Compare(a.table+a.name, b.table+b.name) })
	for _, id := range ids {
		for _, rule := range e.chains[id] {
			lines = append(lines, id.table+": -A "+id.name+" "+rule)
		}
	}
	return lines
}
