package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
)

// SetAddrs follows the addresses of the machine, with a certificate for them: the kubelet's port moves there, the Node
// and the statuses of its pods say so. No container is touched: what it was told at its start stays in its environment.
func (n *Node) SetAddrs(addrs []netip.Addr, serving tls.Certificate) error {
	n.serving.Store(&serving)
	if before := *n.addrs.Swap(&addrs); !slices.Equal(before, addrs) {
		n.tellMoved()
	}
	return n.server.move(addrs[0])
}

// tellMoved has the Node and the statuses of pods written.
func (n *Node) tellMoved() {
	select {
	case n.moved <- struct{}{}:
	default:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.workers {
		w.poke()
	}
}

// Dial connects to the kubelet's port without the network: whatever the machine's addresses are, and however they change.
func (n *Node) Dial(ctx context.Context) (net.Conn, error) { return n.server.inside.Dial(ctx, "", "") }
