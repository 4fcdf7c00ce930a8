package iptables

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

// Act has nothing to do: rules get the packets that another data plane lets pass, and the kernel's connection table knows
// which connections are new.
func (d *Dataplane) Act(context.Context, proxy.Role) error { return nil }

// Prove makes a connection through an address that only the rules translate. Resync comes first.
func (d *Dataplane) Prove(ctx context.Context) error {
	at := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, own := range *d.source.Load() {
		if own.Is4() {
			at = own
		}
	}
	there := func(f proxy.Frontend) error { return d.Sync(ctx, proxy.Change{Set: []proxy.Frontend{f}}) }
	away := func(f proxy.Frontend) error {
		return d.Sync(context.WithoutCancel(ctx), proxy.Change{Remove: []proxy.ID{f.ID}})
	}
	if err := proxy.Probe(ctx, at, there, away); err != nil {
		return fmt.Errorf("the rules are in %s, but a connection of this process was not as it should be: %w", d.families[0].base, err)
	}
	return nil
}

// Left counts tracked connections that are translated, and UDP sockets of this network namespace that are
// connected to an address of table: when their connection is forgotten because nothing was said for a while,
// the rules have to make it again.
func (d *Dataplane) Left(ctx context.Context, table proxy.Table) (int, error) {
	addresses := make(map[proxy.Address]bool, len(table.Frontends))
	for _, f := range table.Frontends {
		addresses[f.Address] = true
	}
	flows, err := proxy.Translations(ctx)
	if err != nil {
		return 0, err
	}
	type pair struct{ from, to netip.AddrPort }
	left, known := 0, map[pair]bool{}
	for _, f := range flows {
		if addresses[f.Dialled] && f.Endpoint != f.Dialled.AddrPort && !f.Closed {
			left++
			known[pair{f.Client, f.Dialled.AddrPort}] = true
		}
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagUDP(family)
		if err != nil {
			return 0, fmt.Errorf("listing UDP sockets (needs CONFIG_INET_UDP_DIAG): %w", err)
		}
		for _, s := range sockets {
			at := pair{socketEnd(s.ID.Source, s.ID.SourcePort), socketEnd(s.ID.Destination, s.ID.DestinationPort)}
			if addresses[proxy.Address{AddrPort: at.to, Protocol: corev1.ProtocolUDP}] && !known[at] {
				left++
			}
		}
	}
	return left, nil
}

func socketEnd(ip []byte, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// recentDir holds a file for each list of -m recent in the network namespace of the calling thread.
const recentDir = "/proc/thread-self/net/xt_recent"

// Affinities reads the kernel's lists of clients in the order in which the rules ask them.
func (d *Dataplane) Affinities(_ context.Context, table proxy.Table) ([]proxy.ClientAffinity, error) {
	now, err := jiffies()
	if err != nil {
		return nil, err
	}
	type client struct {
		origin   string
		protocol corev1.Protocol
		addr     netip.Addr
	}
	found := map[client]bool{}
	var all []proxy.ClientAffinity
	for _, f := range table.Frontends {
		if f.Affinity == 0 {
			continue
		}
		for _, endpoint := range f.Endpoints {
			ages, err := recentAges(recentList(f.Origin(), f.Protocol, endpoint.AddrPort), now)
			if err != nil {
				return nil, err
			}
			for addr, age := range ages {
				c := client{f.Origin(), f.Protocol, addr}
				if age > f.Affinity || found[c] {
					continue
				}
				found[c] = true
				all = append(all, proxy.ClientAffinity{Origin: c.origin, Protocol: c.protocol, Client: addr, Endpoint: endpoint.AddrPort, Last: time.Now().Add(-age)})
			}
		}
	}
	return all, nil
}

// SetAffinities writes clients into the lists of their endpoints, and takes them out of those of the others. The kernel notes
// them as of now.
func (d *Dataplane) SetAffinities(_ context.Context, all []proxy.ClientAffinity) error {
	type port struct {
		origin   string
		protocol corev1.Protocol
	}
	endpoints := map[port]map[netip.AddrPort]bool{}
	for _, f := range d.families {
		for _, fe := range f.model.frontends {
			at := port{fe.Origin(), fe.Protocol}
			if fe.Affinity > 0 && endpoints[at] == nil {
				endpoints[at] = map[netip.AddrPort]bool{}
			}
			for _, e := range fe.Endpoints {
				if fe.Affinity > 0 {
					endpoints[at][e.AddrPort] = true
				}
			}
		}
	}
	for _, s := range all {
		for endpoint := range endpoints[port{s.Origin, s.Protocol}] {
			entry := "-" + s.Client.String()
			if endpoint == s.Endpoint {
				entry = "+" + s.Client.String()
			}
			if err := writeRecent(recentList(s.Origin, s.Protocol, endpoint), entry); err != nil {
				return fmt.Errorf("noting a client with session affinity of %s: %w", s.Origin, err)
			}
		}
	}
	return nil
}

// writeRecent puts +CLIENT or -CLIENT into a list. None is no error.
func writeRecent(list, entry string) error {
	f, err := os.OpenFile(filepath.Join(recentDir, list), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, entry)
	return errors.Join(err, f.Close())
}

// recentAges reads a list: "src=192.0.2.2 ttl: 63 last_seen: 4295234567 oldest_pkt: 1 4295234567". None is no error.
func recentAges(list string, now clock) (map[netip.Addr]time.Duration, error) {
	file, err := os.Open(filepath.Join(recentDir, list))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the clients with session affinity of an endpoint: %w", err)
	}
	defer file.Close()
	ages := map[netip.Addr]time.Duration{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		addr, err := netip.ParseAddr(strings.TrimPrefix(fields[0], "src="))
		seen, err2 := strconv.ParseUint(fields[4], 10, 64)
		if err == nil && err2 == nil {
			ages[addr] = now.since(seen)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the clients with session affinity of an endpoint: %w", err)
	}
	return ages, nil
}

// clock is the kernel's count of ticks at a moment.
type clock struct {
	ticks uint64
	tick  time.Duration
}

// jiffies reads it off the clock that counts the same ticks: it begins five minutes before the wrap of 32 bits
// (INITIAL_JIFFIES of linux/jiffies.h), and its resolution is one tick.
func jiffies() (clock, error) {
	var tick, now unix.Timespec
	if err := errors.Join(unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick), unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &now)); err != nil {
		return clock{}, fmt.Errorf("reading the kernel's clock: %w", err)
	}
	perTick := time.Duration(tick.Nano())
	start := int64(1)<<32 - int64(5*time.Minute/perTick)
	return clock{ticks: uint64(start + now.Nano()/int64(perTick)), tick: perTick}, nil
}

func (c clock) since(ticks uint64) time.Duration {
	return time.Duration(max(0, int64(c.ticks-ticks))) * c.tick
}
