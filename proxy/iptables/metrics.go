package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"svcplane/metrics"
)

// lockFile is what programs that write to legacy iptables lock; iptables-nft has transactions instead.
const lockFile = "/run/xtables.lock"

// What a Dataplane counts, and what dashboards of kube-proxy ask for.
var (
	lockWaits = metrics.New(metrics.Counter, "svcplane_iptables_lock_waits_total",
		"Writes that found another program holding "+lockFile+".")
	writes = metrics.New(metrics.Counter, "svcplane_iptables_writes_total",
		"Calls of iptables-restore and ip6tables-restore.")
	ruleCount = metrics.New(metrics.Gauge, "svcplane_iptables_rules",
		"Rules in chains named SVCPLANE-* when they were last read.")

	kubeRules = metrics.New(metrics.Gauge, "kubeproxy_sync_proxy_rules_iptables_total",
		"The same by table.", "table", "ip_family")
	kubeFull = metrics.New(metrics.Counter, "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
		"Calls of iptables-restore with everything that failed.", "ip_family")
	kubePartial = metrics.New(metrics.Counter, "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
		"Calls of iptables-restore with what had changed that failed.", "ip_family")
)

// Families are all that a Dataplane collects.
func Families() []*metrics.Family {
	return []*metrics.Family{lockWaits, writes, ruleCount, kubeRules, kubeFull, kubePartial}
}

// meters count what a Dataplane does.
type meters struct {
	waits, writes atomic.Uint64
	// of IPv4 and IPv6
	full, partial [2]atomic.Uint64
	rules         [2]atomic.Pointer[map[string]int] // by table; nil: not read yet
}

// Describe implements prometheus.Collector.
func (d *Dataplane) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, Families()) }

// Collect implements prometheus.Collector.
func (d *Dataplane) Collect(to chan<- prometheus.Metric) {
	m := d.meters
	to <- lockWaits.Value(float64(m.waits.Load()))
	to <- writes.Value(float64(m.writes.Load()))
	all := 0
	for _, f := range d.families {
		i, name := f.number()
		to <- kubeFull.Value(float64(m.full[i].Load()), name)
		to <- kubePartial.Value(float64(m.partial[i].Load()), name)
		if tables := m.rules[i].Load(); tables != nil {
			for table, n := range *tables {
				all += n
				to <- kubeRules.Value(float64(n), table, name)
			}
		}
	}
	to <- ruleCount.Value(float64(all))
}

// number tells an address family apart, and names it as kube-proxy does.
func (t tool) number() (int, string) {
	if t.ipv6 {
		return 1, "IPv6"
	}
	return 0, "IPv4"
}

// holds notes the rules of an address family.
func (m *meters) holds(t tool, chains ruleset) {
	tables := map[string]int{filter: 0, nat: 0}
	for id, rules := range chains {
		tables[id.table] += len(rules)
	}
	i, _ := t.number()
	m.rules[i].Store(&tables)
}

// wrote counts a write that is about to be made.
func (m *meters) wrote(variant Variant) {
	m.writes.Add(1)
	if variant == Legacy && locked(lockFile) {
		m.waits.Add(1)
	}
}

// locked says whether another process has a file locked.
func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() // and with it our own lock, if there is one
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Leftovers names what kube-proxy has left in the kernel. It is not touched, because somebody may run kube-proxy on purpose.
func (d *Dataplane) Leftovers(ctx context.Context) ([]string, error) {
	var found []string
	for _, f := range d.families {
		have, err := f.read(ctx)
		if err != nil {
			return nil, err
		}
		if have.kube > 0 {
			found = append(found, fmt.Sprintf("%d chains named KUBE-* in %s", have.kube, strings.TrimPrefix(f.base, "/usr/sbin/")))
		}
		if f.variant != NFT {
			continue
		}
		tables, _, err := f.baseChains()
		if err != nil {
			return nil, err
		}
		if tables["kube-proxy"] {
			found = append(found, "the nftables table kube-proxy")
		}
	}
	return found, nil
}
