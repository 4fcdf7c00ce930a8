package proxy

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// accounting is where the kernel is told to count packets and octets of each connection (sysctl
// net.netfilter.nf_conntrack_acct of this network namespace; it counts for connections that begin later).
const accounting = "/proc/sys/net/netfilter/nf_conntrack_acct"

// Count is what passes at present between the clients of one address of a Service and one endpoint.
type Count struct {
	Service  catalog.Key     `json:"service"`
	Address  netip.AddrPort  `json:"address"`
	Protocol corev1.Protocol `json:"protocol"`
	Endpoint netip.AddrPort  `json:"endpoint"`
	Flows    uint64          `json:"flows"` // open connections
	Packets  uint64          `json:"packets"`
	Bytes    uint64          `json:"bytes"` // of both directions, with IP headers
}

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

// Counts sums up the connections that the kernel tracks now, by Service, address and endpoint. Packets and
// octets are zero for connections that began while counting was off.
func (p *Proxy) Counts(ctx context.Context) ([]Count, error) {
	type pair struct {
		dialled  Address
		endpoint netip.AddrPort
	}
	sums := map[pair]*Count{}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			return nil, fmt.Errorf("listing the kernel's connections (needs nf_conntrack_netlink and CAP_NET_ADMIN): %w", err)
		}
		for _, raw := range flows {
			f, ok := flowOf(raw)
			if !ok {
				continue
			}
			at := pair{f.dialled, f.answering}
			if sums[at] == nil {
				sums[at] = &Count{Address: f.dialled.AddrPort, Protocol: f.dialled.Protocol, Endpoint: f.answering}
			}
			sums[at].Flows++
			sums[at].Packets += raw.Forward.Packets + raw.Reverse.Packets
			sums[at].Bytes += raw.Forward.Bytes + raw.Reverse.Bytes
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Count
	for at, sum := range sums {
		if keys := p.ledger.owners[at.dialled]; len(keys) > 0 {
			sum.Service = keys[0]
			all = append(all, *sum)
		}
	}
	slices.SortFunc(all, func(a, b Count) int {
		return cmp.Or(compareKeys(a.Service, b.Service), a.Address.Compare(b.Address), cmp.Compare(a.Protocol, b.Protocol), a.Endpoint.Compare(b.Endpoint))
	})
	return all, nil
}

// WriteCounts prints counts for people.
func WriteCounts(w io.Writer, counts []Count) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, strings.Join([]string{"SERVICE", "ADDRESS", "ENDPOINT", "OPEN", "PACKETS", "BYTES"}, "\t"))
	for _, c := range counts {
		fmt.Fprintf(tab, "%s\t%s/%s\t%s\t%d\t%d\t%d\n", c.Service, c.Address, c.Protocol, c.Endpoint, c.Flows, c.Packets, c.Bytes)
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("printing the counts: %w", err)
	}
	return nil
}
