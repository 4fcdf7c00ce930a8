package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// figure is a row that is taken in rounds; a sample is one slice of time of one contender.
type figure struct {
	name, unit string
	// outside: the client is a neighbour of the node, not a pod on it
	outside bool
	take    func(k *contender, c *cluster, o options) (float64, error)
	wanted  []goal
}

var kubeProxies = []string{theirRules, theirTables}

// figures are issue 4's.
var figures = []figure{
	{
		name: "(g) connect through a ClusterIP", unit: "us",
		take: func(k *contender, c *cluster, o options) (float64, error) {
			return k.ends.connecting(k.dialled(c, k.special(dialExchange)), o.connects)
		},
		wanted: []goal{{[]string{direct}, 1.05, true}},
	}, {
		name: "(h) connect, question, answer, close", unit: "/s",
		take: func(k *contender, c *cluster, o options) (float64, error) {
			return k.ends.requesting(k.dialled(c, k.special(dialExchange)), o.slice, func(int) *unix.SockaddrInet4 { return nil })
		},
		wanted: []goal{{[]string{direct}, 0.97, false}, {[]string{theirTables}, 1.3, false}},
	}, {
		name: "(i) UDP, a socket for each exchange", unit: "/s",
		take: func(k *contender, c *cluster, o options) (float64, error) {
			return k.ends.resolving(k.dialled(c, k.special(dialDNS)), o.slice)
		},
		wanted: []goal{{[]string{direct}, 0.95, false}, {kubeProxies, 1.3, false}},
	}, {
		name: "(j) UDP, one connected socket", unit: "/s",
		take: func(k *contender, c *cluster, o options) (float64, error) {
			return k.ends.conversing(k.dialled(c, k.special(dialDNS)), o.slice)
		},
		wanted: []goal{{[]string{direct}, 0.95, false}, {kubeProxies, 1.3, false}},
	}, {
		name: "(k) bulk over one connection", unit: "Gbit/s",
		take: func(k *contender, c *cluster, o options) (float64, error) {
			return k.ends.moving(k.dialled(c, k.special(dialExchange)), o.slice)
		},
		wanted: []goal{{[]string{direct}, 1, false}},
	}, {
		name: "(l) NodePort from the LAN: connect, question, answer, close", unit: "/s", outside: true,
		take: func(k *contender, c *cluster, o options) (float64, error) {
			at := c.behind(netip.AddrPortFrom(netip.MustParseAddr(c.specials[0].ip), dialExchange))
			if k.words != nil {
				at = netip.AddrPortFrom(netip.MustParseAddr(k.network.nodeIP()), c.specials[0].nodePort)
			}
			return k.ends.requesting(at, o.slice, func(n int) *unix.SockaddrInet4 { return &unix.SockaddrInet4{Addr: neighbour(n)} })
		},
		wanted: []goal{{kubeProxies, 1.3, false}},
	},
}

// sample takes a figure of one contender.
func (k *contender) sample(f figure, c *cluster, o options) error {
	from := k.client()
	if f.outside {
		from = place{ns: k.network.lan} // no program of the node's sees its sockets
	}
	return from.do(func() error {
		if err := alone(); err != nil {
			return err
		}
		v, err := f.take(k, c, o)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", f.name, k.name, err)
		}
		k.samples[f.name] = append(k.samples[f.name], v)
		return nil
	})
}

// exchanging takes all figures, contender by contender for each, round by round.
func exchanging(ctx context.Context, o options, c *cluster, all []*contender) error {
	for _, f := range figures {
		for range o.slices {
			for _, k := range all {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := k.sample(f, c, o); err != nil {
					return err
				}
			}
		}
		time.Sleep(100 * time.Millisecond) // what is closed goes
	}
	return nil
}
