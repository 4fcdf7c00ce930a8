package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// Table is all Frontends, sorted by ID, each ID once.
type Table struct {
	Frontends []Frontend `json:"frontends,omitempty"`
	// Faults are things found in a kernel that no Frontend explains, or that are missing around them, one
	// line each. A wanted Table has none.
	Faults []string `json:"faults,omitempty"`
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

// String is the Frontend on one line.
func (f Frontend) String() string { return strings.Join(f.columns(), "  ") }

// columns are address, origin, clients, what happens, endpoints.
func (f Frontend) columns() []string {
	notes := []string{f.Verdict.String()}
	if f.Verdict == Balance && f.Masquerade != MasqueradeHairpin {
		notes = append(notes, "masquerade "+f.Masquerade.String())
	}
	if f.Affinity > 0 {
		notes = append(notes, "sticky "+f.Affinity.String())
	}
	if len(f.SourceRanges) > 0 {
		notes = append(notes, "only "+joined(f.SourceRanges))
	}
	endpoints := "-"
	if len(f.Endpoints) > 0 {
		endpoints = joined(f.Endpoints)
	}
	return []string{f.Address.String(), f.Origin(), f.Scope.String(), strings.Join(notes, ", "), endpoints}
}

func joined[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, " ")
}

// Write prints the Table for people, one line for each Frontend under a heading.
func (t Table) Write(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "ADDRESS\tSERVICE\tCLIENTS\tACTION\tENDPOINTS")
	for _, f := range t.Frontends {
		fmt.Fprintln(tab, strings.Join(f.columns(), "\t"))
	}
	for _, fault := range t.Faults {
		fmt.Fprintln(tab, "fault: "+fault)
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	return nil
}

// String is what Write prints.
func (t Table) String() string {
	var b strings.Builder
	_ = t.Write(&b) // a strings.Builder takes everything
	return b.String()
}

// frontendJSON is the form of a Frontend for scripts.
type frontendJSON struct {
	Address      netip.AddrPort   `json:"address"`
	Protocol     corev1.Protocol  `json:"protocol"`
	Clients      Scope            `json:"clients"`
	Service      string           `json:"service"`
	PortName     string           `json:"portName,omitempty"`
	Action       Verdict          `json:"action"`
	Masquerade   Masquerade       `json:"masquerade"`
	Affinity     int              `json:"affinitySeconds,omitempty"`
	SourceRanges []netip.Prefix   `json:"sourceRanges,omitempty"`
	Endpoints    []netip.AddrPort `json:"endpoints,omitempty"`
}

// MarshalJSON gives {"address","protocol","clients","service","portName","action","masquerade",
// "affinitySeconds","sourceRanges","endpoints"}.
func (f Frontend) MarshalJSON() ([]byte, error) {
	j := frontendJSON{
		Address: f.AddrPort, Protocol: f.Protocol, Clients: f.Scope, Service: f.Service.String(), PortName: f.PortName,
		Action: f.Verdict, Masquerade: f.Masquerade, Affinity: int(f.Affinity / time.Second), SourceRanges: f.SourceRanges,
	}
	for _, e := range f.Endpoints {
		j.Endpoints = append(j.Endpoints, e.AddrPort)
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Frontend) UnmarshalJSON(data []byte) error {
	var j frontendJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("reading a frontend: %w", err)
	}
	key, _, ok := SplitOrigin(j.Service)
	if !ok {
		return fmt.Errorf("reading a frontend: service %q is not NAMESPACE/NAME", j.Service)
	}
	*f = Frontend{
		ID: ID{Address: Address{AddrPort: j.Address, Protocol: j.Protocol}, Scope: j.Clients}, Service: key, PortName: j.PortName,
		Verdict: j.Action, Masquerade: j.Masquerade, Affinity: time.Duration(j.Affinity) * time.Second, SourceRanges: j.SourceRanges,
	}
	for _, e := range j.Endpoints {
		f.Endpoints = append(f.Endpoints, Endpoint{e})
	}
	return nil
}
