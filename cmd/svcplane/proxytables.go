package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"svcplane/server/admin"
)

// frontendsTable prints one line for each frontend under a heading.
func frontendsTable(w io.Writer, t admin.Table) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "ADDRESS\tSERVICE\tCLIENTS\tACTION\tENDPOINTS")
	for _, f := range t.Frontends {
		service := f.Service
		if f.PortName != "" {
			service += ":" + f.PortName
		}
		fmt.Fprintf(tab, "%s/%s\t%s\t%s\t%s\t%s\n", f.Address, f.Protocol, service, f.Clients, actionText(&f), cmp.Or(spaced(f.Endpoints), "-"))
	}
	for _, fault := range t.Faults {
		fmt.Fprintln(tab, "fault: "+fault)
	}
	return tab.Flush()
}

func actionText(f *admin.Frontend) string {
	notes := []string{f.Action}
	if f.Action == "balance" && f.Masquerade != "hairpin" { // hairpin is what everybody needs
		notes = append(notes, "masquerade "+f.Masquerade)
	}
	if f.Affinity > 0 {
		notes = append(notes, "affinity "+(time.Duration(f.Affinity)*time.Second).String())
	}
	if len(f.SourceRanges) > 0 {
		notes = append(notes, "only "+spaced(f.SourceRanges))
	}
	return strings.Join(notes, ", ")
}

func spaced[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, " ")
}

// countsTable prints a line for each tally.
func countsTable(w io.Writer, counts []admin.Tally) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "SERVICE\tENDPOINT\tOPEN\tTOTAL\tPACKETS\tBYTES")
	for _, c := range counts {
		endpoint, open := c.Endpoint.String(), fmt.Sprint(c.Open)
		if c.Subject != admin.CountedServing {
			endpoint = "(" + c.Subject + ")"
		}
		if c.Subject == admin.CountedRefused {
			open = "-"
		}
		fmt.Fprintf(tab, "%s/%s\t%s\t%s\t%s\t%s\t%s\n", c.Service, c.Protocol, endpoint, open, known(c.Total),
			known(c.Sent.Packets+c.Received.Packets), known(c.Sent.Bytes+c.Received.Bytes))
	}
	return tab.Flush()
}

// known is a sum for people; nothing that is listed had none.
func known(sum uint64) string {
	if sum == 0 {
		return "-"
	}
	return fmt.Sprint(sum)
}
