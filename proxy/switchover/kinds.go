package switchover

import (
	"context"

	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
)

// The names of Kinds.
const (
	IPTables = "iptables"
	EBPF     = "ebpf"
)

// Kinds are the data planes of this machine. Programs leave new connections to others until a Switch gives them a role.
func Kinds(rules iptables.Config, programs ebpf.Config) map[string]Kind {
	forward := iptables.NewForwardChain(rules)
	programs.Draining = true
	return map[string]Kind{
		IPTables: {
			Open: func(context.Context) (proxy.Exchangeable, error) {
				d, err := iptables.New(rules)
				if err != nil {
					return nil, err
				}
				return iptablesPlane{d, forward}, nil
			},
			There:   iptables.Present,
			Cleanup: forward.Retire,
		},
		EBPF: {
			Open: func(context.Context) (proxy.Exchangeable, error) {
				d, err := ebpf.New(programs)
				if err != nil {
					return nil, err
				}
				return ebpfPlane{d, forward}, nil
			},
			ProvenAtOnce: true,
			There:        func(context.Context) (bool, error) { return ebpf.Present() },
			Cleanup:      func(context.Context) error { return ebpf.Cleanup() },
		},
	}
}

// iptablesPlane is rules that give way to programs.
type iptablesPlane struct {
	*iptables.Dataplane
	forward iptables.ForwardChain
}

// Close removes all rules but those by which packets that programs forward pass chain FORWARD.
func (p iptablesPlane) Close(ctx context.Context) error { return p.forward.Retire(ctx) }
