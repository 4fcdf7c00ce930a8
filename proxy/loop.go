package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"svcplane/catalog"
)

// Run programs the kernel until ctx ends, and leaves in it what is there.
func (p *Proxy) Run(ctx context.Context) error {
	// first of all: from now on the catalog calls no endpoint drained before the kernel has taken the change
	sub := p.cfg.Catalog.Subscribe()
	defer sub.Close()
	select {
	case <-p.cfg.Catalog.Ready():
	case <-ctx.Done():
		return nil
	}
	defer p.health.close()
	defer p.loopbacks.close()
	if p.cfg.Nodes != nil {
		unfollow, err := p.follow(ctx, p.cfg.Nodes)
		if err != nil {
			return err
		}
		defer unfollow()
	}
	if err := p.followAddresses(ctx); err != nil {
		return err
	}
	unhealthy, err := p.openHealthPort(ctx)
	if err != nil {
		return err
	}
	defer unhealthy()
	for wait := firstBackOff; ; wait = min(2*wait, startBackOff) {
		err := p.start(ctx, sub)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			klog.ErrorS(err, "the kernel does not take the rules; it keeps what it has", "retryIn", wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
	close(p.ready)
	p.reportLeftovers(ctx)
	p.loop(ctx, sub)
	return nil
}

// start brings the kernel from whatever an earlier process left to what is wanted now, in one step. When the
// kernel refuses that, it keeps what it held and the Services are tried as a change, which finds the culprit.
func (p *Proxy) start(ctx context.Context, sub *catalog.Subscription) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.rehomed: // what it tells is taken now
	default:
	}
	p.node = p.atHome(p.node)
	p.health.queued(time.Now())
	found, err := p.cfg.Dataplane.Dump(ctx)
	if err != nil {
		return fmt.Errorf("reading what the kernel holds: %w", err)
	}
	p.ledger = newLedger()
	p.ledger.adopt(found)
	p.cfg.Metrics.kube.took()
	keys := union(sub.Take(), p.ledger.keys())
	batch := p.prepare(keys)
	began := time.Now()
	next := p.ledger.plan(batch)
	p.version++
	err = p.cfg.Dataplane.Resync(ctx, p.ledger.table())
	p.cfg.Metrics.synced(began, true, err)
	if err == nil {
		p.applied(ctx, next)
		p.report(ctx, sub, batch, nil)
		p.started, p.current = true, true
		return nil
	}
	next.undo()
	if again := p.cfg.Dataplane.Resync(ctx, p.ledger.table()); again != nil {
		sub.Retry(keys...)
		return fmt.Errorf("programming all services: %w", err)
	}
	p.report(ctx, sub, batch, p.apply(ctx, batch))
	p.started, p.current = true, true
	return nil
}

func union(a, b []catalog.Key) []catalog.Key {
	all := slices.Concat(a, b)
	slices.SortFunc(all, compareKeys)
	return slices.Compact(all)
}

// loop applies changes as they come: the first at once, the others together as soon as it is done.
func (p *Proxy) loop(ctx context.Context, sub *catalog.Subscription) {
	comparing := make(chan struct{})
	go func() {
		defer close(comparing)
		p.compareForever(ctx)
	}()
	defer func() { <-comparing }()
	tick := time.NewTicker(tickPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sub.Dirty():
			p.health.queued(time.Now())
			p.cfg.Metrics.kube.took()
			p.reconcile(ctx, sub, sub.Take())
		case <-p.rehomed:
			if err := p.setNode(ctx, func(node *Node) { *node = p.atHome(*node) }); err != nil && ctx.Err() == nil {
				klog.ErrorS(err, "following the node's zone and addresses; services are served as before")
			}
		case now := <-tick.C:
			p.tick(ctx, sub, now)
		}
	}
}

// compareForever looks at the kernel from time to time, beside the loop: it takes long where there is much.
func (p *Proxy) compareForever(ctx context.Context) {
	compare := time.NewTimer(p.cfg.ComparePeriod)
	defer compare.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-compare.C:
			began := time.Now()
			p.readAddresses() // events may have been lost
			p.compare(ctx)
			// reading a very large table takes seconds, and must not take a large part of the time
			compare.Reset(max(p.cfg.ComparePeriod, compareShare*time.Since(began)))
		}
	}
}

func (p *Proxy) reconcile(ctx context.Context, sub *catalog.Subscription, keys []catalog.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		p.cfg.Metrics.queued.Observe(time.Since(sub.Since(key)).Seconds())
	}
	p.cfg.Metrics.changes.Add(float64(len(keys)))
	batch := p.prepare(keys)
	p.report(ctx, sub, batch, p.apply(ctx, batch))
}

// read takes Services from the catalog; those that are gone are nil.
func (p *Proxy) read(keys []catalog.Key) map[catalog.Key]*catalog.Service {
	services := make(map[catalog.Key]*catalog.Service, len(keys))
	for _, key := range keys {
		if svc, ok := p.cfg.Catalog.Get(key); ok {
			services[key] = svc
		} else {
			services[key] = nil
		}
	}
	return services
}

// prepare reads Services anew, brings notices and sockets up to date, and returns what the kernel has to do.
func (p *Proxy) prepare(keys []catalog.Key) map[catalog.Key]request {
	services := p.read(keys)
	p.observe(services)
	p.openSockets(services)
	return build(services, p.node)
}

// observe notes what people should know about Services.
func (p *Proxy) observe(services map[catalog.Key]*catalog.Service) {
	for key, svc := range services {
		if svc == nil {
			p.notices.forget(key)
			delete(p.triggered, key)
		} else {
			p.notices.observe(svc, p.node)
		}
	}
}

// openSockets listens for Services in user space: on health-check node ports, and on NodePorts of loopback addresses.
func (p *Proxy) openSockets(services map[catalog.Key]*catalog.Service) {
	for key, svc := range services {
		if svc == nil {
			_ = p.health.set(key, nil, 0) // closing does not fail
			_ = p.loopbacks.set(key, nil, p.node)
			continue
		}
		p.openHealth(svc)
		p.openLoopback(svc)
	}
}

// openHealth answers on the healthCheckNodePort of a Service.
func (p *Proxy) openHealth(svc *catalog.Service) {
	var at []netip.AddrPort
	if svc.ExternalLocal && svc.HealthCheckNodePort != 0 && !svc.ForeignProxy {
		for _, addr := range p.node.Addrs {
			at = append(at, netip.AddrPortFrom(addr, svc.HealthCheckNodePort))
		}
	}
	message := ""
	if err := p.health.set(svc.Key, at, localReady(svc, p.node.Name)); err != nil {
		message = fmt.Sprintf("load balancers cannot ask node %s: %v: stop what has the port", p.node.Name, err)
	}
	p.notices.of(svc.Key).set("FailedToStartServiceHealthcheck", message, 0)
}

func (p *Proxy) openLoopback(svc *catalog.Service) {
	if !p.cfg.LoopbackNodePorts {
		return
	}
	message := ""
	if err := p.loopbacks.set(svc.Key, svc, p.node); err != nil {
		message = fmt.Sprintf("node %s does not serve the service on loopback: %v: stop what has the port", p.node.Name, err)
	}
	p.notices.of(svc.Key).set("LoopbackNodePortInUse", message, 0)
}

// endpointsOf lists those that serve, or those that do not.
func endpointsOf(svc *catalog.Service, serving bool) []netip.AddrPort {
	var all []netip.AddrPort
	for _, port := range svc.Ports {
		for _, e := range port.Endpoints {
			if (e.Ready || e.Serving) == serving {
				all = append(all, e.AddrPort)
			}
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// apply writes to the kernel, and returns what it refused. A batch that is refused is halved until the culprit
// stands alone, within maxSyncs attempts.
func (p *Proxy) apply(ctx context.Context, batch map[catalog.Key]request) map[catalog.Key]error {
	failed := map[catalog.Key]error{}
	keys := slices.SortedFunc(maps.Keys(batch), compareKeys)
	budget := maxSyncs
	var try func(keys []catalog.Key)
	try = func(keys []catalog.Key) {
		part := make(map[catalog.Key]request, len(keys))
		for _, key := range keys {
			part[key] = batch[key]
		}
		budget--
		err := p.sync(ctx, part)
		switch {
		case err == nil:
		case len(keys) > 1 && budget > 0 && ctx.Err() == nil:
			try(keys[:len(keys)/2])
			try(keys[len(keys)/2:])
		default:
			for _, key := range keys {
				failed[key] = err
			}
		}
	}
	if len(keys) > 0 {
		try(keys)
	}
	return failed
}

func (p *Proxy) sync(ctx context.Context, batch map[catalog.Key]request) error {
	next := p.ledger.plan(batch)
	if !next.Empty() {
		p.version++
		began := time.Now()
		err := p.cfg.Dataplane.Sync(ctx, next.Change)
		p.cfg.Metrics.synced(began, false, err)
		if err != nil {
			next.undo()
			return err
		}
	}
	p.applied(ctx, next)
	return nil
}

// applied notes what the kernel has taken, and ends flows that it leaves behind: those of UDP now, the
// others with the next tick.
func (p *Proxy) applied(ctx context.Context, done plan) {
	for _, key := range done.contested {
		p.rivals[key] = true
	}
	for _, id := range done.Remove {
		p.gone[id.Address] = sweepsOfGone
	}
	for _, f := range done.Set {
		delete(p.gone, f.Address)
	}
	p.sweep = p.sweep || done.strands
	if done.strandsUDP {
		p.sweepFlows(ctx)
	}
	p.services.Store(int64(len(p.ledger.requests)))
	p.endpoints.Store(int64(p.ledger.endpoints))
}

// report says to the catalog and in Events what is in force, and plans what is tried again.
func (p *Proxy) report(ctx context.Context, sub *catalog.Subscription, batch map[catalog.Key]request, failed map[catalog.Key]error) {
	for key := range batch {
		err, bad := failed[key]
		if !bad {
			delete(p.failing, key)
			p.observeLatency(key, batch[key], sub.Since(key))
			sub.Done(key)
			p.notices.accepted(key, append(p.ledger.lost(key), batch[key].refused...))
			continue
		}
		if ctx.Err() != nil {
			continue
		}
		attempts := p.failing[key].attempts
		wait := min(firstBackOff<<min(attempts, 10), lastBackOff)
		p.failing[key] = failure{attempts: attempts + 1, due: time.Now().Add(wait)}
		p.cfg.Metrics.failures.Inc()
		if attempts == 0 {
			p.notices.refused(key, err)
		}
	}
	if len(failed) < len(batch) || len(batch) == 0 {
		p.health.took(time.Now()) // the loop works; an Event says which Service was refused
		p.cfg.Metrics.kube.applied()
	}
	p.observeRivals()
	p.observePorts(slices.Collect(maps.Keys(batch)))
	p.notices.report(p.cfg.Recorder, time.Now())
}

// observeRivals notes which Services have lost an address to another one, or got it back, without a change of their own.
func (p *Proxy) observeRivals() {
	for key := range p.rivals {
		p.notices.without(key, append(p.ledger.lost(key), p.ledger.requests[key].refused...))
	}
	clear(p.rivals)
}

// observeLatency counts how long a change was on its way: from when the endpoints changed, where the controller
// noted that (EndpointSlice annotation endpoints.kubernetes.io/last-change-trigger-time), else from its arrival.
func (p *Proxy) observeLatency(key catalog.Key, c request, arrived time.Time) {
	since, exact := arrived, false
	if c.triggered.After(p.began) && c.triggered.After(p.triggered[key]) {
		since, exact = c.triggered, true
		p.triggered[key] = c.triggered
	}
	if !since.IsZero() {
		p.cfg.Metrics.programmed(time.Since(since), exact)
	}
}

// tick does what is due: failed Services again, Events that waited, a comparison of flows.
func (p *Proxy) tick(ctx context.Context, sub *catalog.Subscription, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, f := range p.failing {
		if !now.Before(f.due) {
			f.due = now.Add(lastBackOff) // until the attempt sets its own
			p.failing[key] = f
			sub.Retry(key)
		}
	}
	p.notices.report(p.cfg.Recorder, now)
	if p.sweep {
		p.sweepFlows(ctx)
	}
}
