package ebpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"svcplane/proxy"
)

// bequeathing is the layout whose maps hold the same as those of layoutVersion, under other names. A running server of that
// layout is upgraded without a connection being lost.
const bequeathing = "v5"

// presentNames are the names that maps of that layout have now.
var presentNames = map[string]string{
	"slots": mapEndpoints, "members": mapAffinityMatch, "ranges": mapSourceRanges, "origins": mapServiceNames,
	"spaces": mapNetns, "ways": mapPodRoutes, "own": mapOwnListeners, "stickies": mapAffinity, "peers": mapSocketRevnat,
	"draws": mapSocketChoices, "frags": mapFragments, "counts": mapEventCounters, "tallies": mapServiceCounter,
	"turns": mapRRCursor, "loads": mapOpenConns,
}

// presentName is the name that the programs of this binary give to a map of any layout.
func presentName(name string) string {
	if now, ok := presentNames[name]; ok {
		return now
	}
	return name
}

// inherited are the maps whose contents come with traffic, and the notes about qdiscs: they are copied. What follows from the
// Table and the node is written anew, counters are added, and open connections are counted again.
var inherited = []string{mapFlows, mapSocketRevnat, mapSocketChoices, mapAffinity, mapFragments, mapRRCursor, mapQdiscs}

// predecessor is programs of the layout before, which come first at every hook until they are detached.
type predecessor struct {
	kernel          // its maps, by their present names
	copied contents // what was copied so far
}

// predecessors are the sets of programs of that layout, each once.
func (i inventory) predecessors() ([]*predecessor, error) {
	var all []*predecessor
	seen := map[ebpf.MapID]bool{}
	for _, p := range i.own {
		if p.layout() != bequeathing || seen[p.maps[mapConfig]] {
			continue
		}
		seen[p.maps[mapConfig]] = true
		maps, err := p.openMaps()
		if err != nil {
			return all, err
		}
		all = append(all, &predecessor{kernel: kernel{maps: maps}, copied: contents{}})
	}
	return all, nil
}

// takeOver puts the programs of this process in the place of those of other layouts; d.mu is held, and ours stand behind
// them with the whole Table. Those of the layout before are made draining, so that from one moment on all new connections are
// made by ours. What they know is copied before and after, so that it does not matter which of the two a packet of an
// established connection meets; and then they are detached. What still older layouts have ends with them.
func (d *Dataplane) takeOver() error {
	before, err := d.kernel.found.predecessors()
	defer func() {
		for _, p := range before {
			p.close()
		}
	}()
	if err != nil || len(before) == 0 && *d.role == proxy.Draining {
		return err // those of still older layouts end when this data plane takes new connections
	}
	for _, step := range []func(*predecessor) error{
		d.endBypassOf,
		func(p *predecessor) error { return p.copyTo(d.kernel) },
		func(p *predecessor) error { return putSetting(p.maps[mapConfig], roleOffset, uint32(proxy.Draining)) },
		func(p *predecessor) error { return p.copyTo(d.kernel) },
	} {
		for _, p := range before {
			if err := step(p); err != nil {
				return fmt.Errorf("taking over the connections of the programs of layout %s: %w", bequeathing, err)
			}
		}
	}
	if err := d.kernel.removeOlder(); err != nil {
		return err
	}
	if len(before) == 0 {
		return nil
	}
	for _, p := range before {
		if err := errors.Join(p.copyTo(d.kernel), p.addCountersTo(d.kernel)); err != nil {
			return fmt.Errorf("taking over what the programs of layout %s have counted: %w", bequeathing, err)
		}
	}
	return d.recountConns()
}

// endBypassOf has the connections of a predecessor pass the node's own stack, as setBypass does: draining programs redirect
// nothing.
func (d *Dataplane) endBypassOf(p *predecessor) error {
	_, was, err := p.recordedRole()
	if err != nil || was == bypassOff {
		return err
	}
	if err := putSetting(p.maps[mapConfig], bypassOffset, uint32(bypassEnding)); err != nil {
		return err
	}
	flows, err := p.read(mapFlows)
	if err != nil {
		return err
	}
	if err := d.introduce(flows); err != nil {
		return err
	}
	return putSetting(p.maps[mapConfig], bypassOffset, uint32(bypassOff))
}

// copyTo brings to what has changed since it was called last, but for entries that the programs of to have changed.
func (p *predecessor) copyTo(to *kernel) error {
	for _, table := range inherited {
		if p.maps[table] == nil {
			continue
		}
		theirs, err := p.read(table)
		if err != nil {
			return err
		}
		ours, err := to.read(table)
		if err != nil {
			return err
		}
		last := p.copied[table]
		var s step
		for key, value := range theirs {
			if value != last[key] && ours[key] == last[key] {
				s.puts = append(s.puts, entry{table, key, value})
			}
		}
		for key, value := range last {
			if _, there := theirs[key]; !there && ours[key] == value {
				s.removes = append(s.removes, entry{table, key, value})
			}
		}
		if err := write(to, s); err != nil {
			return err
		}
		p.copied[table] = theirs
	}
	return nil
}

// addCountersTo adds what each processor has counted, once nothing is counted there any more.
func (p *predecessor) addCountersTo(to *kernel) error {
	var key counterKey
	var theirs []counters
	all := p.maps[mapServiceCounter].Iterate()
	for all.Next(&key, &theirs) {
		ours := make([]counters, len(theirs))
		if err := to.maps[mapServiceCounter].Lookup(key, &ours); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("reading map %s: %w", mapServiceCounter, err)
		}
		for i := range theirs {
			theirs[i].add(ours[i])
		}
		if err := to.maps[mapServiceCounter].Put(key, theirs); err != nil {
			return fmt.Errorf("writing to map %s: %w", mapServiceCounter, err)
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("reading map %s: %w", mapServiceCounter, err)
	}
	for i := range reasons {
		var theirs, ours []uint64
		if err := errors.Join(p.maps[mapEventCounters].Lookup(uint32(i), &theirs), to.maps[mapEventCounters].Lookup(uint32(i), &ours)); err != nil {
			return fmt.Errorf("reading map %s: %w", mapEventCounters, err)
		}
		for cpu := range ours {
			ours[cpu] += theirs[cpu]
		}
		if err := to.maps[mapEventCounters].Put(uint32(i), ours); err != nil {
			return fmt.Errorf("writing to map %s: %w", mapEventCounters, err)
		}
	}
	return nil
}

// putSetting changes one member of struct settings.
func putSetting(config *ebpf.Map, offset int, to uint32) error {
	var value []byte
	if err := config.Lookup(uint32(0), &value); err != nil {
		return fmt.Errorf("reading map %s: %w", mapConfig, err)
	}
	native.PutUint32(value[offset:], to)
	if err := config.Put(uint32(0), value); err != nil {
		return fmt.Errorf("writing to map %s: %w", mapConfig, err)
	}
	return nil
}
