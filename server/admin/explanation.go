package admin

import "net/netip"

// Explanation says what becomes of something that is asked for, and why. It is one form for a connection to a Service, a name
// and a URL, so that what one part says can be put after what another said.
type Explanation struct {
	Part string `json:"part"`           // who decides: proxy, dns, ingress
	From string `json:"from,omitempty"` // who asks: "the node", "pod shop/client"
	// To is what is asked for: an address, port and protocol; a name and a type of records; a host and a path.
	To string `json:"to"`
	// Outcome is what comes of it: balance, reject, drop or pass; a DNS response code; a Service's port, 404 or 503.
	Outcome  string   `json:"outcome"`
	Steps    []Step   `json:"steps,omitempty"`    // in the order in which they are taken
	Records  []string `json:"records,omitempty"`  // of DNS, in presentation form
	Route    *Route   `json:"route,omitempty"`    // of the ingress; nil: no rule takes it
	Searches []string `json:"searches,omitempty"` // the search path by which a name came to be asked for
	Kernel   []string `json:"kernel,omitempty"`   // where a data plane does it
	Mistakes []string `json:"mistakes,omitempty"` // what is wrong with the Service behind it, one sentence each
	Hints    []string `json:"hints,omitempty"`    // what may have been meant, if there is no such thing
}

// Step is one thing that was looked at, what was decided about it, and why.
type Step struct {
	Kind     StepKind       `json:"kind"`
	Endpoint netip.AddrPort `json:"endpoint,omitzero"` // of a StepEndpoint
	Pod      string         `json:"pod,omitempty"`     // that it belongs to
	Chosen   bool           `json:"chosen,omitempty"`  // of a StepEndpoint: new connections get there
	Why      string         `json:"why"`
}

// StepKind is what a Step is about.
type StepKind string

// The kinds of steps.
const (
	StepDecision StepKind = "decision" // a sentence of its own
	StepEndpoint StepKind = "endpoint"
	StepRule     StepKind = "rule"     // of an Ingress, with what became of it
	StepPolicy   StepKind = "policy"   // what is done before or instead of sending a request on
	StepUnserved StepKind = "unserved" // an Ingress for the host that is another controller's
)

// Sentences are steps that are a sentence each.
func Sentences(kind StepKind, sentences []string) []Step {
	var steps []Step
	for _, s := range sentences {
		steps = append(steps, Step{Kind: kind, Why: s})
	}
	return steps
}

// Sentences are those of the steps of a kind.
func (e *Explanation) Sentences(kind StepKind) []string {
	var all []string
	for _, s := range e.Steps {
		if s.Kind == kind {
			all = append(all, s.Why)
		}
	}
	return all
}
