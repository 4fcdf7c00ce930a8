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
)

// lockFile is what programs that write to legacy iptables lock; iptables-nft has transactions instead.
const lockFile = "/run/xtables.lock"

// meters count what a Dataplane does.
type meters struct {
	waits  prometheus.Counter
	writes prometheus.Counter
	rules  atomic.Int64
	gauge  prometheus.GaugeFunc
}

func newMeters() *meters {
	m := &meters{
		waits: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "svcplane", Subsystem: "iptables", Name: "lock_waits_total",
			Help: "Writes that found another program holding " + lockFile + "."}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "svcplane", Subsystem: "iptables", Name: "writes_total",
			Help: "Calls of iptables-restore and ip6tables-restore."}),
	}
	m.gauge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "svcplane", Subsystem: "iptables", Name: "rules",
		Help: "Rules in chains named SVCPLANE-* when they were last read."}, func() float64 { return float64(m.rules.Load()) })
	return m
}

func (m *meters) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.waits, m.writes, m.gauge}
}

// Describe implements prometheus.Collector.
func (d *Dataplane) Describe(out chan<- *prometheus.Desc) {
	for _, c := range d.meters.collectors() {
		c.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (d *Dataplane) Collect(out chan<- prometheus.Metric) {
	for _, c := range d.meters.collectors() {
		c.Collect(out)
	}
}

// wrote counts a write that is about to be made.
func (m *meters) wrote(variant Variant) {
	m.writes.Inc()
	if variant == Legacy && locked(lockFile) {
		m.waits.Inc()
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

// Leftovers names what kube-proxy has left in the kernel. It is not touched: whoever runs it may want it.
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
