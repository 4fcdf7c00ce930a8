package ebpf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"svcplane/proxy"
)

// hookedAt says for people where the socket programs are attached: a hierarchy that is mounted nowhere has no path of its own.
func (d *Dataplane) hookedAt() string {
	if strings.HasPrefix(d.cfg.Cgroup, "/proc/self/fd/") {
		return "cgroup hooks at the root of cgroup v2"
	}
	return "cgroup hooks at " + d.cfg.Cgroup
}

// Where says whether the socket or the packets of a client are translated, as resolve of bpf/socket.h decides.
func (d *Dataplane) Where(f proxy.Frontend, client netip.Addr) (lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := !client.IsValid() || client.IsLoopback() || slices.Contains(d.cfg.Source, client)
	pod := !node && contains(d.cfg.PodCIDRs, client)
	entry := fmt.Sprintf("map frontends, key %s", f.Address)
	if f.Verdict == proxy.Balance {
		entry += fmt.Sprintf("; map endpoints, set %016x with %d endpoints", setID(f), len(f.Endpoints))
	}
	defer func() {
		if d.bypass == bypassOn && f.Verdict == proxy.Balance {
			lines = append(lines, "packets to pods of this node take the bypass, past its network stack: no rule of netfilter is about them")
		}
	}()
	packets := "packets are translated where they enter and leave the node (tc programs svc_ingress and svc_egress, map flows): "
	switch {
	case f.Verdict == proxy.Drop && node:
		return []string{"connections are led to where nobody answers, and datagrams are not permitted (" + d.hookedAt() + ")", entry}
	case f.Verdict == proxy.Drop:
		return []string{"packets are dropped where they enter the node (tc program svc_ingress)", entry}
	case !node && !pod && f.Verdict == proxy.Reject:
		return []string{"packets are refused where they enter the node (tc program svc_ingress)", entry}
	case !node && !pod:
		return []string{packets + "the client is outside", entry}
	case pod && len(f.SourceRanges) > 0:
		return []string{packets + "source ranges need the client's address", entry}
	case f.Verdict == proxy.Reject:
		return []string{"connect() fails with ECONNREFUSED (" + d.hookedAt() + ")", entry}
	case pod && f.Masquerade == proxy.MasqueradeEverybody:
		return []string{packets + "the client's address is replaced", entry}
	}
	lines = []string{"connect() and sendmsg() are given the endpoint's address (" + d.hookedAt() + "): no packet is translated", entry}
	if pod && slices.ContainsFunc(f.Endpoints, func(e proxy.Endpoint) bool { return e.Addr() == client }) {
		lines = append(lines, "where the endpoint is the client itself, "+packets+"its address is replaced")
	}
	return lines
}
