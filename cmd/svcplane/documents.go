package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"svcplane/server/admin"
)

// The documents that commands print of Explanations, whose keys stay (docs/commands.md).

// dialDocument is what becomes of a new connection.
type dialDocument struct {
	Client    string             `json:"client"`
	Address   string             `json:"address"`
	Action    string             `json:"action"`
	Steps     []string           `json:"steps"`
	Mistakes  []string           `json:"mistakes,omitempty"`
	Endpoints []endpointDocument `json:"endpoints,omitempty"`
	Kernel    []string           `json:"kernel,omitempty"`
}

// endpointDocument is an endpoint of the Service's port, and whether new connections get there.
type endpointDocument struct {
	Address netip.AddrPort `json:"address"`
	Pod     string         `json:"pod,omitempty"`
	Takes   bool           `json:"takes"`
	Why     string         `json:"why"`
}

func dialDocuments(all []admin.Explanation) []dialDocument {
	documents := []dialDocument{}
	for _, e := range all {
		d := dialDocument{Client: e.From, Address: e.To, Action: e.Outcome, Steps: e.Sentences(admin.StepDecision), Mistakes: e.Mistakes, Kernel: e.Kernel}
		for _, s := range e.Steps {
			if s.Kind == admin.StepEndpoint {
				d.Endpoints = append(d.Endpoints, endpointDocument{Address: s.Endpoint, Pod: s.Pod, Takes: s.Chosen, Why: s.Why})
			}
		}
		documents = append(documents, d)
	}
	return documents
}

// writeDials prints one paragraph for each address that the Service has.
func writeDials(w io.Writer, all []dialDocument) error {
	var b strings.Builder
	for i, d := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		d.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (d *dialDocument) write(b *strings.Builder) {
	fmt.Fprintf(b, "%s -> %s: %s\n", d.Client, d.Address, d.Action)
	for _, step := range d.Steps {
		fmt.Fprintf(b, "  - %s\n", step)
	}
	for _, mistake := range d.Mistakes {
		fmt.Fprintf(b, "  ! %s\n", mistake)
	}
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	if len(d.Endpoints) > 0 {
		fmt.Fprintln(tab, "\nENDPOINT\tPOD\tTAKES IT\tWHY")
	}
	for _, e := range d.Endpoints {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", e.Address, cmp.Or(e.Pod, "-"), map[bool]string{true: "yes", false: "no"}[e.Takes], e.Why)
	}
	_ = tab.Flush() // a strings.Builder takes everything
	if len(d.Kernel) > 0 {
		fmt.Fprintln(b, "\nIn the kernel:")
	}
	for _, line := range d.Kernel {
		fmt.Fprintf(b, "  %s\n", line)
	}
}

// nameDocument is what a name is answered with: each name that the search path leads to is a trip.
type nameDocument struct {
	Asker    string         `json:"asker"`
	Searches []string       `json:"searches,omitempty"`
	Trips    []tripDocument `json:"trips"`
	Hints    []string       `json:"hints,omitempty"`
}

type tripDocument struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Rcode   string   `json:"rcode"`
	Records []string `json:"records,omitempty"`
	Why     []string `json:"why,omitempty"`
}

func nameDocumentOf(all []admin.Explanation) nameDocument {
	var d nameDocument
	for _, e := range all {
		space := strings.LastIndexByte(e.To, ' ') // a name may have some, too
		d.Trips = append(d.Trips, tripDocument{Name: e.To[:space], Type: e.To[space+1:], Rcode: e.Outcome, Records: e.Records, Why: e.Sentences(admin.StepDecision)})
		d.Asker, d.Searches, d.Hints = e.From, e.Searches, e.Hints
	}
	return d
}

// rcodeSuccess is what an answer has that a resolver takes.
const rcodeSuccess = "NOERROR"

// problem says that the name does not exist, and what may have been meant.
func (d nameDocument) problem(name string) error {
	if len(d.Trips) == 0 {
		return nil
	}
	switch last := d.Trips[len(d.Trips)-1]; {
	case last.Rcode == rcodeSuccess:
		return nil
	case len(d.Hints) > 0:
		return fmt.Errorf("%s is answered %s: %s", name, last.Rcode, strings.Join(d.Hints, "; "))
	default:
		return fmt.Errorf("%s is answered %s", name, last.Rcode)
	}
}

// essence is the document without what changes with every look: the time that records have left, and how long it took.
func (d nameDocument) essence() any {
	var all [][]string
	for _, t := range d.Trips {
		trip := []string{t.Name, t.Type, t.Rcode}
		for _, record := range t.Records {
			if fields := strings.Fields(record); len(fields) > 2 {
				trip = append(trip, strings.Join(slices.Delete(fields, 1, 2), " ")) // NAME TTL CLASS TYPE DATA
			}
		}
		slices.Sort(trip[3:]) // addresses come in another order each time
		all = append(all, trip)
	}
	return append(all, d.Hints)
}

// write prints one paragraph per trip.
func (d nameDocument) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "asked by %s", d.Asker)
	if len(d.Searches) > 0 {
		fmt.Fprintf(&b, ", search %s", strings.Join(d.Searches, " "))
	}
	b.WriteByte('\n')
	for _, t := range d.Trips {
		fmt.Fprintf(&b, "\n%s %s: %s\n", t.Name, t.Type, t.Rcode)
		for _, record := range t.Records {
			fmt.Fprintf(&b, "    %s\n", record)
		}
		for _, why := range t.Why {
			fmt.Fprintf(&b, "  - %s\n", why)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// urlDocument is where a URL leads.
type urlDocument struct {
	Host      string       `json:"host"`
	Path      string       `json:"path"`
	Route     *admin.Route `json:"route,omitempty"`
	Policies  []string     `json:"policies,omitempty"`
	Steps     []string     `json:"steps,omitempty"`
	NotServed []string     `json:"notServed,omitempty"`
	Mistakes  []string     `json:"mistakes,omitempty"`
	Hint      string       `json:"hint,omitempty"`
}

func urlDocumentOf(e admin.Explanation) urlDocument {
	host, path, _ := strings.Cut(e.To, "/")
	return urlDocument{
		Host: host, Path: "/" + path, Route: e.Route, Policies: e.Sentences(admin.StepPolicy), Steps: e.Sentences(admin.StepRule),
		NotServed: e.Sentences(admin.StepUnserved), Mistakes: e.Mistakes, Hint: strings.Join(e.Hints, "; "),
	}
}

// problem says that no rule takes the URL, and which host may have been meant.
func (d urlDocument) problem() error {
	switch {
	case d.Route != nil:
		return nil
	case d.Hint != "":
		return errors.New("no rule takes it: it is answered 404: " + d.Hint)
	}
	return errors.New("no rule takes it: it is answered 404")
}

func (d urlDocument) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "host %s, path %s\n", d.Host, d.Path)
	for _, s := range slices.Concat(d.Steps, d.NotServed) {
		fmt.Fprintln(&b, "  "+s)
	}
	for _, p := range d.Policies {
		fmt.Fprintln(&b, "policy: "+p)
	}
	switch {
	case d.Route == nil:
	case len(d.Route.Closed) > 0:
		fmt.Fprintf(&b, "answered 503 for ingress %s, which is closed\n", d.Route.Origin)
	default:
		fmt.Fprintf(&b, "answered by %s (%s) for ingress %s\n", d.Route.Service, endpointsText(d.Route), d.Route.Origin)
	}
	for _, mistake := range d.Mistakes {
		fmt.Fprintln(&b, "  ! "+mistake)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
