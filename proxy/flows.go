package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flow is a translated connection that a Dataplane keeps track of itself, beside the kernel's connection table.
type Flow struct {
	Dialled   Address        // what the client dialled
	Answering netip.AddrPort // the endpoint
	Opening   bool           // TCP that nobody has answered yet
	Socket    bool           // a socket that is connected to the endpoint's own address
}

// endStaleFlows removes flows of the past from the kernel's table and from the Dataplane's.
func endStaleFlows(ctx context.Context, plane Dataplane, filter staleFlows) (uint, error) {
	removed, err := removeStaleFlows(ctx, filter)
	keeper := plane.Capabilities().Flows
	if keeper == nil {
		return removed, err
	}
	routes := sync.OnceValues(func() ([]netip.Prefix, error) { return podRoutes(filter.node.PodCIDRs) })
	filter.routed = func(pod netip.Addr) bool {
		all, err := routes()
		return err != nil || containsAddr(all, pod)
	}
	ended, keeperErr := keeper.EndFlows(ctx, func(f Flow) bool {
		return filter.match(flow{dialled: f.Dialled, answering: f.Answering, syn: f.Opening, socket: f.Socket})
	})
	return removed + ended, errors.Join(err, keeperErr)
}

// podRoutes are the routes of this namespace to pods.
func podRoutes(pods []netip.Prefix) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil || r.Type != unix.RTN_UNICAST {
				continue
			}
			ones, _ := r.Dst.Mask.Size()
			addr, ok := netip.AddrFromSlice(r.Dst.IP)
			if to := netip.PrefixFrom(addr.Unmap(), ones); ok && containsAddr(pods, to.Addr()) {
				all = append(all, to)
			}
		}
	}
	return all, nil
}
