package ebpf

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"svcplane/proxy"
)

// entry is one key and value in a map, as the kernel has them.
type entry struct{ table, key, value string }

// object is what several frontends may share: a set of endpoints, of ranges, or an origin.
type object struct {
	table string
	id    uint64
}

// group is the Frontends of one Address.
type group []proxy.Frontend

// hash names what text stands for; never 0.
func hash(parts ...string) uint64 {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return native.Uint64(sum[:]) | 1
}

// setID is of the endpoints of f; those with session affinity have entries in affinity_match, too.
func setID(f proxy.Frontend) uint64 {
	var b []byte
	if f.Affinity > 0 {
		b = append(b, "affinity"...)
	}
	for _, e := range f.Endpoints {
		b = putAddrPort(b, e.AddrPort)
	}
	return hash("endpoints", string(b))
}

func rangesID(f proxy.Frontend) uint64 {
	var b []byte
	for _, r := range f.SourceRanges {
		b = append(putAddr(b, r.Addr()), byte(r.Bits()))
	}
	return hash("ranges", string(b))
}

func originID(f proxy.Frontend) uint64 { return hash("origin", f.Origin(), string(f.Protocol)) }

// sideFor is how f stands in the value of its Address.
func sideFor(f proxy.Frontend) side {
	s := side{origin: originID(f), count: len(f.Endpoints), affinity: f.Affinity, scope: f.Scope, verdict: f.Verdict, masquerade: f.Masquerade}
	if len(f.Endpoints) > 0 {
		s.set = setID(f)
	}
	if len(f.SourceRanges) > 0 {
		s.ranges = rangesID(f)
	}
	return s
}

// objects are what the Frontends of g refer to, each with its entries.
func (g group) objects() map[object][]entry {
	all := map[object][]entry{}
	for _, f := range g {
		s := sideFor(f)
		text := make([]byte, originSize)
		copy(text, f.Origin())
		all[object{mapServiceNames, s.origin}] = []entry{{mapServiceNames, string(native.AppendUint64(nil, s.origin)), string(text)}}
		if s.set != 0 {
			all[object{mapEndpoints, s.set}] = setEntries(s.set, f)
		}
		if s.ranges == 0 {
			continue
		}
		var entries []entry
		for _, r := range f.SourceRanges {
			entries = append(entries, entry{mapSourceRanges, rangeKey(s.ranges, r), one})
		}
		all[object{mapSourceRanges, s.ranges}] = entries
	}
	return all
}

// one is the value where only the key counts.
var one = string(native.AppendUint32(nil, 1))

func setEntries(set uint64, f proxy.Frontend) []entry {
	entries := make([]entry, 0, len(f.Endpoints))
	for i, e := range f.Endpoints {
		entries = append(entries, entry{mapEndpoints, slotKey(set, i), slot(e.AddrPort)})
		if f.Affinity > 0 {
			entries = append(entries, entry{mapAffinityMatch, memberKey(set, e.AddrPort), one})
		}
	}
	return entries
}

// frontend is the entry of the Address itself: first how the cluster's clients are served, then all others.
func (g group) frontend() entry {
	var inside, outside side
	for _, f := range g {
		if f.Scope&proxy.Internal != 0 {
			inside = sideFor(f)
		}
		if f.Scope&proxy.External != 0 {
			outside = sideFor(f)
		}
	}
	return entry{mapFrontends, frontendKey(g[0].Address), string(outside.append(inside.append(nil)))}
}

// contents are whole maps.
type contents map[string]map[string]string

func newContents() contents {
	c := contents{}
	for _, table := range tables() {
		c[table] = map[string]string{}
	}
	return c
}

// tables are the maps that follow from a Table, each after those that it refers to.
func tables() []string {
	return []string{mapServiceNames, mapSourceRanges, mapAffinityMatch, mapEndpoints, mapFrontends}
}

// render is what the maps hold for table.
func render(table proxy.Table) contents {
	c := newContents()
	for _, g := range groups(table.Frontends) {
		for _, entries := range g.objects() {
			for _, e := range entries {
				c[e.table][e.key] = e.value
			}
		}
		f := g.frontend()
		c[f.table][f.key] = f.value
	}
	return c
}

func groups(frontends []proxy.Frontend) map[proxy.Address]group {
	all := map[proxy.Address]group{}
	for _, f := range frontends {
		all[f.Address] = append(all[f.Address], f)
	}
	return all
}

// parse is the inverse of render. What cannot be read, or belongs to nothing, is a fault.
func parse(c contents) proxy.Table {
	var all []proxy.Frontend
	ranges := rangesIn(c)
	for key, value := range c[mapFrontends] {
		inside, outside := sideOf([]byte(value)), sideOf([]byte(value[sideSize:]))
		if inside.scope != 0 {
			all = append(all, c.read(addressOf(key), inside, ranges))
		}
		if outside.scope != 0 && outside != inside {
			all = append(all, c.read(addressOf(key), outside, ranges))
		}
	}
	table := proxy.NewTable(all...)
	table.Faults = differences(render(table), c)
	return table
}

func rangesIn(c contents) map[uint64][]netip.Prefix {
	all := map[uint64][]netip.Prefix{}
	for key := range c[mapSourceRanges] {
		b := []byte(key)
		set := native.Uint64(b[4:])
		all[set] = append(all[set], prefixOf(b[12:], int(native.Uint32(b))-64))
	}
	for _, prefixes := range all {
		slices.SortFunc(prefixes, netip.Prefix.Compare)
	}
	return all
}

func (c contents) read(addr proxy.Address, s side, ranges map[uint64][]netip.Prefix) proxy.Frontend {
	f := proxy.Frontend{
		ID: proxy.ID{Address: addr, Scope: s.scope}, Verdict: s.verdict, Masquerade: s.masquerade,
		Affinity: s.affinity, SourceRanges: ranges[s.ranges],
	}
	text := c[mapServiceNames][string(native.AppendUint64(nil, s.origin))]
	f.Service, f.PortName, _ = proxy.SplitOrigin(string(bytes.TrimRight([]byte(text), "\x00")))
	for i := range s.count {
		if value, ok := c[mapEndpoints][slotKey(s.set, i)]; ok {
			f.Endpoints = append(f.Endpoints, proxy.Endpoint{AddrPort: getAddrPort([]byte(value))})
		}
	}
	return f
}

// differences counts, map by map, what is not as wanted.
func differences(want, have contents) []string {
	var faults []string
	for _, table := range tables() {
		missing, extra := 0, 0
		for key, value := range want[table] {
			if have[table][key] != value {
				missing++
			}
		}
		for key := range have[table] {
			if _, ok := want[table][key]; !ok {
				extra++
			}
		}
		if missing+extra > 0 {
			faults = append(faults, fmt.Sprintf("map %s: %d entries are missing or wrong, %d belong to no frontend", table, missing, extra))
		}
	}
	return faults
}
