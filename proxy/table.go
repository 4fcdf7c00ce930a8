package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"svcplane/catalog"
)

// Table is all Frontends, sorted by ID, each ID once.
type Table struct {
	Frontends []Frontend
	// Faults are things found in a kernel that no Frontend explains, or that are missing around them, one
	// line each. A wanted Table has none.
	Faults []string
}

// NewTable sorts frontends; of several with one ID the last counts.
func NewTable(frontends ...Frontend) Table {
	byID := make(map[ID]Frontend, len(frontends))
	for _, f := range frontends {
		byID[f.ID] = f
	}
	return Table{Frontends: slices.SortedFunc(maps.Values(byID), func(a, b Frontend) int { return a.ID.Compare(b.ID) })}
}

// Equal says whether both ask the same of a kernel.
func (t Table) Equal(u Table) bool {
	return slices.EqualFunc(t.Frontends, u.Frontends, Frontend.Equal) && slices.Equal(t.Faults, u.Faults)
}

// Of keeps the Frontends of one Service.
func (t Table) Of(key catalog.Key) Table {
	var kept []Frontend
	for _, f := range t.Frontends {
		if f.Service == key {
			kept = append(kept, f)
		}
	}
	return Table{Frontends: kept}
}

// Diff says, line by line, how have, read from a kernel, differs from what is wanted; none when it is the same.
func (t Table) Diff(have Table) []string {
	found := make(map[ID]Frontend, len(have.Frontends))
	for _, f := range have.Frontends {
		found[f.ID] = f
	}
	var lines []string
	for _, want := range t.Frontends {
		got, ok := found[want.ID]
		delete(found, want.ID)
		switch {
		case !ok:
			lines = append(lines, "missing: "+want.String())
		case !want.Equal(got):
			lines = append(lines, "wanted:  "+want.String(), "found:   "+got.String())
		}
	}
	for _, f := range have.Frontends {
		if _, extra := found[f.ID]; extra {
			lines = append(lines, "extra:   "+f.String())
		}
	}
	for _, fault := range have.Faults {
		lines = append(lines, "fault:   "+fault)
	}
	return lines
}

// String is the Frontend on one line: address, origin, clients, what happens, endpoints.
func (f Frontend) String() string {
	notes := []string{f.Verdict.String()}
	if f.Verdict == Balance && f.Masquerade != MasqueradeHairpin {
		notes = append(notes, "masquerade "+f.Masquerade.String())
	}
	if f.Affinity > 0 {
		notes = append(notes, "affinity "+f.Affinity.String())
	}
	if len(f.SourceRanges) > 0 {
		notes = append(notes, "only "+joined(f.SourceRanges))
	}
	endpoints := "-"
	if len(f.Endpoints) > 0 {
		endpoints = joined(f.Endpoints)
	}
	return strings.Join([]string{f.Address.String(), f.Origin(), f.Scope.String(), strings.Join(notes, ", "), endpoints}, "  ")
}

func joined[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, " ")
}

// String is one line for each Frontend and fault.
func (t Table) String() string {
	var b strings.Builder
	for _, f := range t.Frontends {
		b.WriteString(f.String() + "\n")
	}
	for _, fault := range t.Faults {
		b.WriteString("fault: " + fault + "\n")
	}
	return b.String()
}
