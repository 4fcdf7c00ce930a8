package proxy

import (
	"context"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// Capabilities are what a Dataplane can do besides; a field is nil where it cannot. That a data plane has what it names here
// is checked by the compiler.
type Capabilities struct {
	Runner    Runner
	Monitor   Monitor
	Flows     FlowKeeper
	Counters  Tallier
	Affinity  AffinityReader
	Explainer Explainer
	Leftovers LeftoverFinder
	Metrics   prometheus.Collector
}

// Runner has something to do beside the calls of a Dataplane, until ctx ends.
type Runner interface {
	Run(ctx context.Context) error
}

// Monitor finds out by itself whether the data plane does what it should.
type Monitor interface {
	// Problem is one line about what the last look found wrong, empty when nothing.
	Problem() string
	// Unproven is what the last probe (Exchangeable.Prove) found wrong, nil when it passed.
	Unproven() error
}

// FlowKeeper keeps track of connections itself, beside the kernel's connection table.
type FlowKeeper interface {
	// EndFlows forgets the connections for which stale is true, and returns how many there were. A program whose
	// socket is connected to the endpoint gets ECONNABORTED.
	EndFlows(ctx context.Context, stale func(Flow) bool) (uint, error)
}

// Tallier counts connections, packets and octets itself.
type Tallier interface {
	// Tallies are those of the Services of the Table.
	Tallies(ctx context.Context) ([]Tally, error)
}

// AffinityReader knows which endpoint clients with session affinity have.
type AffinityReader interface {
	// Affinities are those of clients of the Frontends of table.
	Affinities(ctx context.Context, table Table) ([]ClientAffinity, error)
}

// Explainer can say where in the kernel it does what a Frontend asks for a client: one line for each place. An invalid
// client is the node itself.
type Explainer interface {
	Where(f Frontend, client netip.Addr) []string
}

// LeftoverFinder finds what another proxy has left in the kernel: one text for each thing, as "12 chains named KUBE-*".
type LeftoverFinder interface {
	Leftovers(ctx context.Context) ([]string, error)
}
