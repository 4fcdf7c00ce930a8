package ebpf

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/klog/v2"
)

const (
	// eventPause gathers the events of one change: a pod's link, its addresses and routes come one by one.
	eventPause = 20 * time.Millisecond
	// followPause is the time until what could not be attached is tried again.
	followPause = time.Second
	// provePeriod is the time between two probes.
	provePeriod = time.Minute
)

// Run attaches the programs to links that come, translates the sockets of pods that come, and proves every
// minute that the programs are in the path, until ctx ends. What is in the kernel stays there.
func (d *Dataplane) Run(ctx context.Context) error {
	links, routes := make(chan netlink.LinkUpdate, 64), make(chan netlink.RouteUpdate, 64)
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	if err := netlink.RouteSubscribe(routes, ctx.Done()); err != nil {
		return fmt.Errorf("watching routes: %w", err)
	}
	addrs := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return fmt.Errorf("watching addresses: %w", err)
	}
	prove := time.NewTicker(provePeriod)
	defer prove.Stop()
	tidy := time.NewTicker(tidyPeriod)
	defer tidy.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-links:
			if !ok {
				links = nil
			}
			due.Reset(eventPause)
		case _, ok := <-addrs:
			if !ok {
				addrs = nil
			}
			due.Reset(eventPause)
		case _, ok := <-routes:
			if !ok {
				routes = nil
			}
			due.Reset(eventPause)
		case <-due.C:
			err := d.follow()
			d.report("following links and namespaces", err)
			if err != nil {
				due.Reset(followPause)
			}
		case <-tidy.C:
			d.tidy()
		case <-prove.C:
			d.report("proving that eBPF is in the path", d.Prove(ctx))
		}
	}
}

// follow does nothing before the first Resync, which attaches everything anyway.
func (d *Dataplane) follow() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return nil
	}
	return d.surround()
}

// report keeps what went wrong for Problem, and logs it once.
func (d *Dataplane) report(what string, err error) {
	problem := ""
	if err != nil {
		problem = what + ": " + err.Error()
	}
	if was := d.problem.Swap(&problem); problem != "" && (was == nil || *was != problem) {
		klog.ErrorS(err, "the eBPF data plane is not as it should be; it is tried again", "while", what)
	}
}

// Problem says what the last look found wrong, and which devices have no XDP though it was asked for; empty when
// nothing.
func (d *Dataplane) Problem() string {
	for _, p := range []*string{d.problem.Load(), d.noXDP.Load()} {
		if p != nil && *p != "" {
			return *p
		}
	}
	return ""
}
