package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// accounting is the file by which the kernel is made to count packets and octets of each connection (sysctl
// net.netfilter.nf_conntrack_acct of this network namespace; it counts for connections that begin later).
const accounting = "/proc/sys/net/netfilter/nf_conntrack_acct"

// Count makes the kernel count packets and octets, or no longer.
func (p *Proxy) Count(on bool) error {
	text := "0"
	if on {
		text = "1"
	}
	if err := os.WriteFile(accounting, []byte(text), 0o644); err != nil {
		return fmt.Errorf("switching the kernel's counting of connections (needs nf_conntrack): %w", err)
	}
	return nil
}

// Counts sums up by Service and endpoint the connections that the kernel tracks now, and what the Dataplane counts
// by itself. Packets and octets are zero for connections that began while counting was off.
func (p *Proxy) Counts(ctx context.Context) ([]Tally, error) {
	sums := map[Counted]*Tally{}
	if err := p.countTracked(ctx, sums); err != nil {
		return nil, err
	}
	if own := p.cfg.Dataplane.Capabilities().Counters; own != nil {
		more, err := own.Tallies(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range more {
			t.addTo(sums)
		}
	}
	all := make([]Tally, 0, len(sums))
	for _, sum := range sums {
		all = append(all, *sum)
	}
	slices.SortFunc(all, func(a, b Tally) int { return a.compare(b.Counted) })
	return all, nil
}

func (t Tally) addTo(sums map[Counted]*Tally) {
	sum := sums[t.Counted]
	if sum == nil {
		sum = &Tally{Counted: t.Counted}
		sums[t.Counted] = sum
	}
	sum.Open += t.Open
	sum.Total += t.Total
	sum.Sent, sum.Received = sum.Sent.plus(t.Sent), sum.Received.plus(t.Received)
}

func (c Counted) compare(d Counted) int {
	return cmp.Or(cmp.Compare(c.Origin, d.Origin), cmp.Compare(c.Protocol, d.Protocol), cmp.Compare(c.Subject, d.Subject), c.Endpoint.Compare(d.Endpoint))
}

// countTracked adds what netfilter translates.
func (p *Proxy) countTracked(ctx context.Context, sums map[Counted]*Tally) error {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		// a table that changed meanwhile is listed but for what came and went
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("listing the kernel's connections (needs nf_conntrack_netlink and CAP_NET_ADMIN): %w", err)
		}
		p.mu.Lock()
		for _, raw := range flows {
			f, ok := flowOf(raw)
			if !ok || f.answering == f.dialled.AddrPort {
				continue
			}
			if origin, ok := p.ledger.origin(f.dialled); ok {
				t := Tally{Sent: Volume{raw.Forward.Packets, raw.Forward.Bytes}, Received: Volume{raw.Reverse.Packets, raw.Reverse.Bytes}}
				t.Counted = Counted{Origin: origin, Protocol: f.dialled.Protocol, Endpoint: f.answering}
				if !f.closed {
					t.Open = 1
				}
				t.addTo(sums)
			}
		}
		p.mu.Unlock()
	}
	return nil
}
