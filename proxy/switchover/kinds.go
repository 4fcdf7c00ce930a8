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

// Kinds are the data planes of this machine. Programs that come to serve are passive until a Switch gives them a role.
func Kinds(rules iptables.Config, programs ebpf.Config) map[string]Kind {
	gate := iptables.NewGate(rules)
	programs.Draining = true
	return map[string]Kind{
		IPTables: {
			Open: func(context.Context) (proxy.Exchangeable, error) {
				d, err := iptables.New(rules)
				if err != nil {
					return nil, err
				}
				return leaving{d, gate}, nil
			},
			There:   iptables.Present,
			Cleanup: gate.Retire,
		},
		EBPF: {
			Open: func(context.Context) (proxy.Exchangeable, error) {
				d, err := ebpf.New(programs)
				if err != nil {
					return nil, err
				}
				return gated{d, gate}, nil
			},
			ProvenAtOnce: true,
			There:        func(context.Context) (bool, error) { return ebpf.Present() },
			Cleanup:      func(context.Context) error { return ebpf.Cleanup() },
		},
	}
}

// leaving is rules that give way to programs: what these need of them stays.
type leaving struct {
	*iptables.Dataplane
	gate iptables.Gate
}

// Close removes all the other rules.
func (l leaving) Close(ctx context.Context) error { return l.gate.Retire(ctx) }
