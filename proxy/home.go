package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// home is what a Proxy has found out about the node by itself. Its values are not changed after they were set.
type home struct {
	zone   string
	zoned  bool // the Node object said so
	local  []netip.Addr
	others map[netip.Addr]string
}

func (h home) equal(other home) bool {
	return h.zone == other.zone && h.zoned == other.zoned && slices.Equal(h.local, other.local) && maps.Equal(h.others, other.others)
}

// moved notes a change of home, and wakes the loop.
func (p *Proxy) moved(change func(*home)) {
	for {
		was := p.home.Load()
		var next home
		if was != nil {
			next = *was
		}
		change(&next)
		if was != nil && was.equal(next) {
			return
		}
		if p.home.CompareAndSwap(was, &next) {
			break
		}
	}
	select {
	case p.rehomed <- struct{}{}:
	default:
	}
}

// atHome is the node with what is known of it now.
func (p *Proxy) atHome(node Node) Node {
	h := p.home.Load()
	if h == nil {
		return node
	}
	if h.zoned {
		node.Zone = h.zone
	}
	node.Local, node.Others = h.local, h.others
	return node
}

// addressPause gathers the events of one change of addresses.
const addressPause = 50 * time.Millisecond

// followAddresses keeps the machine's addresses up to date: what listens at every address is met there, so no Service can
// have such a port. It costs nothing while none comes or goes.
func (p *Proxy) followAddresses(ctx context.Context) error {
	changes := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(changes, ctx.Done()); err != nil {
		return fmt.Errorf("watching the machine's addresses: %w", err)
	}
	p.readAddresses()
	go func() {
		due := time.NewTimer(0)
		defer due.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case change, ok := <-changes:
				if !ok {
					changes = nil // with ctx, or a socket that broke: what is known stays
				} else if addr, _ := netip.AddrFromSlice(change.LinkAddress.IP); !addr.IsLinkLocalUnicast() {
					due.Reset(addressPause)
				}
			case <-due.C:
				p.readAddresses()
			}
		}
	}()
	return nil
}

func (p *Proxy) readAddresses() {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		klog.V(2).InfoS("Listing the machine's addresses", "err", err)
		return
	}
	var local []netip.Addr
	for _, a := range all {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.IsLinkLocalUnicast() && !addr.IsLoopback() {
			local = append(local, addr.Unmap())
		}
	}
	slices.SortFunc(local, netip.Addr.Compare)
	local = slices.Compact(local)
	p.moved(func(h *home) { h.local = local })
}

// othersAre takes the addresses of the cluster's other nodes.
func (p *Proxy) othersAre(nodes []any) {
	others := map[netip.Addr]string{}
	for _, o := range nodes {
		node, ok := o.(*corev1.Node)
		if !ok || node.Name == p.cfg.Node.Name {
			continue
		}
		for _, a := range node.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil && !p.cfg.Node.has(addr.Unmap()) {
				others[addr.Unmap()] = node.Name
			}
		}
	}
	p.moved(func(h *home) { h.others = others })
}
