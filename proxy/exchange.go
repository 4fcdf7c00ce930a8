package proxy

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Role is what a Dataplane does while another one is there, too.
type Role uint8

const (
	// Draining goes on with the connections that it has and leaves new ones to the other one.
	Draining Role = iota
	// Active takes new connections and leaves those of the other one alone.
	Active
	// Sole is that there is no other one.
	Sole
)

// Exchangeable is a Dataplane that can take the place of another one while connections live. Resync and Prove
// work in every role.
type Exchangeable interface {
	Dataplane
	// SetSource follows the node's addresses, at most one of a family. It may be called at any time.
	SetSource(ctx context.Context, source []netip.Addr) error
	// Act gives it a role; called again with the same, it looks again at the connections of both.
	Act(ctx context.Context, role Role) error
	// Prove makes a real connection through ProbeAddress, which is translated only by the Dataplane that is
	// asked. The Table stays as it is.
	Prove(ctx context.Context) error
	// Left counts the connections to addresses of table that need this Dataplane: that would break, or see
	// another address than the one dialled, if it closed now.
	Left(ctx context.Context, table Table) (int, error)
	AffinityReader
	// SetAffinities takes over what another Dataplane knows of clients with session affinity.
	SetAffinities(ctx context.Context, all []ClientAffinity) error
}

// ForwardMark is the bit of the packet mark that says that a data plane without rules has translated a packet, and
// that it is to pass a host's own rules about forwarding.
const ForwardMark = 0x1000

// ClientAffinity is a client that is to stay with an endpoint of one port of a Service.
type ClientAffinity struct {
	Origin   string // of the Frontend
	Protocol corev1.Protocol
	Client   netip.Addr
	Endpoint netip.AddrPort
	Last     time.Time // of the last new connection
}
