package iptables

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"svcplane/proxy"
)

// model is the rules of one address family for the Frontends in it. It is pure: it knows what should be in
// the kernel, and which chains a change concerns.
type model struct {
	render    renderer
	frontends map[proxy.ID]proxy.Frontend
	services  *tree              // in nat
	refuse    *tree              // in filter
	uses      map[chainID]int    // chains named by contents: how many Addresses lead to them
	fresh     ruleset            // such chains that came into use, nil for those that went out of it
	written   map[chainID]uint64 // digests of what the kernel holds; nil when that is not known
}

func newModel(render renderer) *model {
	_, tail := render.static()
	return &model{
		render:    render,
		frontends: map[proxy.ID]proxy.Frontend{},
		services:  newTree(nat, chainServices, render.own, nil, render.ipv6),
		refuse:    newTree(filter, chainRefuse, render.own, tail, render.ipv6),
		uses:      map[chainID]int{},
		fresh:     ruleset{},
	}
}

// modelOf holds the Frontends of a table that are of the renderer's family.
func modelOf(render renderer, table proxy.Table) *model {
	m := newModel(render)
	m.apply(proxy.Change{Set: table.Frontends})
	return m
}

func (m *model) owns(addr netip.Addr) bool { return addr.Is4() != m.render.ipv6 }

// apply takes in the part of a change that is of this family and returns the change that takes it back.
func (m *model) apply(change proxy.Change) (inverse proxy.Change) {
	touched := map[proxy.Address]bool{}
	note := func(id proxy.ID) {
		touched[id.Address] = true
		if was, ok := m.frontends[id]; ok {
			inverse.Set = append(inverse.Set, was)
		} else {
			inverse.Remove = append(inverse.Remove, id)
		}
	}
	next := map[proxy.ID]*proxy.Frontend{}
	for _, id := range change.Remove {
		if m.owns(id.Addr()) {
			note(id)
			next[id] = nil
		}
	}
	for i := range change.Set {
		if f := &change.Set[i]; m.owns(f.Addr()) {
			if _, noted := next[f.ID]; !noted {
				note(f.ID)
			}
			next[f.ID] = f
		}
	}
	for addr := range touched {
		m.release(m.entry(addr))
	}
	for id, f := range next {
		if f == nil {
			delete(m.frontends, id)
		} else {
			m.frontends[id] = *f
		}
	}
	for addr := range touched {
		m.install(addr, m.entry(addr))
	}
	return inverse
}

// entry renders what an Address has now.
func (m *model) entry(addr proxy.Address) entry {
	var all []proxy.Frontend
	for _, scope := range []proxy.Scope{proxy.Internal, proxy.External, proxy.Everywhere} {
		if f, ok := m.frontends[proxy.ID{Address: addr, Scope: scope}]; ok {
			all = append(all, f)
		}
	}
	return m.render.entry(all)
}

func (m *model) release(e entry) {
	for id := range e.chains {
		if m.uses[id]--; m.uses[id] == 0 {
			delete(m.uses, id)
			m.fresh[id] = nil
		}
	}
}

func (m *model) install(addr proxy.Address, e entry) {
	for id, rules := range e.chains {
		m.uses[id]++
		m.fresh[id] = rules
	}
	m.services.put(addr, e.nat)
	m.refuse.put(addr, e.filter)
}

// all is every chain that should be in the kernel.
func (m *model) all() ruleset {
	chains, _ := m.render.static()
	m.services.all(chains)
	m.refuse.all(chains)
	addresses := map[proxy.Address]bool{}
	for id := range m.frontends {
		addresses[id.Address] = true
	}
	for addr := range addresses {
		maps.Copy(chains, m.entry(addr).chains)
	}
	return chains
}

// pending is what a Sync has to write: chains that differ from what the kernel holds, nil for those to remove.
func (m *model) pending() ruleset {
	changed := m.fresh
	m.fresh = ruleset{}
	maps.Copy(changed, m.services.take())
	maps.Copy(changed, m.refuse.take())
	for id, rules := range changed {
		was, there := m.written[id]
		if there && rules != nil && was == digest(rules) || !there && rules == nil {
			delete(changed, id)
		}
	}
	return changed
}

// confirm notes that the kernel holds changed.
func (m *model) confirm(changed ruleset) {
	if m.written == nil {
		m.written = map[chainID]uint64{}
	}
	for id, rules := range changed {
		if rules == nil {
			delete(m.written, id)
		} else {
			m.written[id] = digest(rules)
		}
	}
}

// difference is what turns have into want: chains to write, nil for those to remove.
func difference(have, want ruleset) ruleset {
	changed := ruleset{}
	for id := range have {
		if _, ok := want[id]; !ok {
			changed[id] = nil
		}
	}
	for id, rules := range want {
		if was, ok := have[id]; !ok || !slices.Equal(was, rules) {
			changed[id] = rules
		}
	}
	return changed
}

func (m *model) forget() {
	m.written = nil
	m.fresh = ruleset{}
	clear(m.services.dirty)
	clear(m.refuse.dirty)
}

func digest(rules []string) uint64 {
	h := fnv.New64a()
	for _, rule := range rules {
		h.Write([]byte(rule))
		h.Write([]byte{'\n'})
	}
	return h.Sum64()
}
