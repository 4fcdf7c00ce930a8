package proxy

import (
	"context"
	"errors"
	"net/netip"
)

// Flow is a translated connection that a Dataplane keeps track of itself, beside the kernel's connection table.
type Flow struct {
	Dialled   Address        // what the client dialled
	Answering netip.AddrPort // the endpoint
	Opening   bool           // TCP that nobody has answered yet
}

// FlowKeeper is a Dataplane that keeps track of connections itself.
type FlowKeeper interface {
	// EndFlows forgets the connections for which stale is true, and returns how many there were.
	EndFlows(ctx context.Context, stale func(Flow) bool) (uint, error)
}

// endStaleFlows removes flows of the past from the kernel's table and from the Dataplane's.
func endStaleFlows(ctx context.Context, plane Dataplane, filter staleFlows) (uint, error) {
	removed, err := removeStaleFlows(ctx, filter)
	keeper, ok := plane.(FlowKeeper)
	if !ok {
		return removed, err
	}
	ended, keeperErr := keeper.EndFlows(ctx, func(f Flow) bool {
		return filter.match(flow{dialled: f.Dialled, answering: f.Answering, syn: f.Opening})
	})
	return removed + ended, errors.Join(err, keeperErr)
}
