package ebpf

import (
	"maps"
	"net/netip"
	"slices"

	"svcplane/proxy"
)

// model is what the kernel holds, as far as a change has to know it: the Frontends, and how many of them share
// an object. It is not valid after a failed write, until the next Resync.
type model struct {
	groups map[proxy.Address]group
	refs   map[object]int
}

func newModel(table proxy.Table) *model {
	m := &model{groups: groups(table.Frontends), refs: map[object]int{}}
	for _, g := range m.groups {
		for o := range g.objects() {
			m.refs[o]++
		}
	}
	return m
}

// endpoints are those of all Frontends.
func (m *model) endpoints() map[netip.AddrPort]bool {
	all := map[netip.AddrPort]bool{}
	for _, g := range m.groups {
		for _, f := range g {
			for _, e := range f.Endpoints {
				all[e.AddrPort] = true
			}
		}
	}
	return all
}

// step is writes in their order: what is referred to comes before, and goes after, what refers to it. Each
// frontend follows what it needs at once, so that a step that fails in the middle has put some of them into force.
type step struct{ puts, removes []entry }

// apply moves the model by change and returns what has to be written for it.
func (m *model) apply(change proxy.Change) step {
	var s step
	var gone []entry
	before := map[proxy.Address]group{}
	after := m.after(change)
	// all that is needed is counted before anything is given up: what moves from one address to another stays
	for addr, now := range after {
		before[addr] = m.groups[addr]
		for o, entries := range now.objects() {
			if m.refs[o]++; m.refs[o] == 1 {
				s.puts = append(s.puts, entries...)
			}
		}
		if len(now) > 0 {
			m.groups[addr] = now
			// what the kernel has already is left alone: a change that is tried again gets further each time
			if was := before[addr]; len(was) == 0 || was.frontend() != now.frontend() {
				s.puts = append(s.puts, now.frontend())
			}
		}
	}
	for addr, was := range before {
		for o, entries := range was.objects() {
			if m.refs[o]--; m.refs[o] == 0 {
				delete(m.refs, o)
				gone = append(gone, entries...)
			}
		}
		if len(was) > 0 && len(after[addr]) == 0 {
			delete(m.groups, addr)
			s.removes = append(s.removes, was.frontend())
		}
	}
	s.removes = append(s.removes, gone...)
	return s
}

// after are the groups that change touches, as they are then; empty when nothing is left of one.
func (m *model) after(change proxy.Change) map[proxy.Address]group {
	scopes := map[proxy.Address]map[proxy.Scope]proxy.Frontend{}
	of := func(addr proxy.Address) map[proxy.Scope]proxy.Frontend {
		if scopes[addr] == nil {
			scopes[addr] = map[proxy.Scope]proxy.Frontend{}
			for _, f := range m.groups[addr] {
				scopes[addr][f.Scope] = f
			}
		}
		return scopes[addr]
	}
	for _, id := range change.Remove {
		delete(of(id.Address), id.Scope)
	}
	for _, f := range change.Set {
		of(f.Address)[f.Scope] = f
	}
	next := make(map[proxy.Address]group, len(scopes))
	for addr, byScope := range scopes {
		next[addr] = slices.Collect(maps.Values(byScope))
	}
	return next
}

// correction is what turns the maps from have into want.
func correction(have, want contents) step {
	var s step
	for _, table := range tables() {
		for key, value := range want[table] {
			if was, ok := have[table][key]; !ok || was != value {
				s.puts = append(s.puts, entry{table, key, value})
			}
		}
	}
	for _, table := range slices.Backward(tables()) {
		for key, value := range have[table] {
			if _, ok := want[table][key]; !ok {
				s.removes = append(s.removes, entry{table, key, value})
			}
		}
	}
	return s
}
