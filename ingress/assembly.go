package ingress

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"svcplane/catalog"
	"svcplane/ingress/route"
	"svcplane/ingress/serve"
	"svcplane/ingress/source"
	"svcplane/ingress/source/ingress/annotations"
	"svcplane/ingress/upstream"
)

// drainWait is how long a Service's change may wait for requests under way on endpoints that left it, before the
// catalog hears that nobody sends there any more. Longer ones go on; their endpoint may then be asked to stop.
const drainWait = 3 * time.Second

// assembly puts together what the server serves: the routes that a source has translated, the groups of endpoints that they
// send to, the policies in force and the certificates. One goroutine, run, changes them.
type assembly struct {
	server  *serve.Server
	source  *source.Source
	catalog *catalog.Catalog
	nodes   corelisters.NodeLister
	node    string // that we run on; empty: unknown
	synced  cache.InformerSynced
	moved   chan struct{}             // receives when the node's object changed
	acks    chan types.NamespacedName // an endpoint that left this Service is drained

	waiting map[types.NamespacedName]int // how many acks are to come, only used by run

	mu      sync.Mutex // guards what follows, also against readers
	inForce map[route.Object]*route.Translation
	routes  *route.Set
	table   *route.Table[serve.Route]
	groups  *upstream.GroupSet
	certs   *certStore
	guards  *guardSet
	stats   map[route.Object]map[string]*serve.RouteStats // of each route, by what it is about
}

func newAssembly(cfg Config, s *serve.Server) (*assembly, error) {
	core := cfg.Factory.Core().V1()
	a := &assembly{
		server:  s,
		catalog: cfg.Catalog,
		nodes:   core.Nodes().Lister(),
		node:    cfg.NodeName,
		moved:   make(chan struct{}, 1),
		acks:    make(chan types.NamespacedName),
		waiting: map[types.NamespacedName]int{},
		inForce: map[route.Object]*route.Translation{},
		routes:  route.NewSet(),
		table:   &route.Table[serve.Route]{},
		stats:   map[route.Object]map[string]*serve.RouteStats{},
		groups: upstream.NewGroupSet(upstream.Config{Get: cfg.Catalog.Get, Closed: closedBy(core.Services().Lister()), At: upstream.Place{Node: cfg.NodeName},
			MaxConnections: cfg.MaxEndpointConnections}),
	}
	var err error
	a.source, err = source.New(source.Config{Client: cfg.Client, Factory: cfg.Factory, ClassNames: cfg.ClassNames, Controller: cfg.Controller,
		Addresses: cfg.Addresses, Recorder: cfg.Recorder, Problems: a.problems})
	if err != nil {
		return nil, err
	}
	a.certs, a.guards = newCertStore(a.source.Secret), newGuardSet(a.source.Secret)
	watched, err := core.Nodes().Informer().AddEventHandler(source.OnEvery(a.nodeChanged))
	if err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	a.synced = watched.HasSynced
	return a, nil
}

// closedBy says why a Service may not be served: its annotations ask for a protection that nobody carries out. It reads from
// the informer that the catalog's is, too: whatever changes a Service has its groups resolved again.
func closedBy(services corelisters.ServiceLister) func(types.NamespacedName) string {
	return func(key types.NamespacedName) string {
		svc, err := services.Services(key.Namespace).Get(key.Name)
		if err != nil {
			return "" // a lister fails only when there is none
		}
		return annotations.OfService(svc.Annotations)
	}
}

func (a *assembly) nodeChanged(key types.NamespacedName) {
	if key.Name == a.node {
		select {
		case a.moved <- struct{}{}:
		default:
		}
	}
}

// followZone has the endpoints chosen by the zone of our node, which topology hints go by.
func (a *assembly) followZone() {
	at := upstream.Place{Node: a.node}
	if node, err := a.nodes.Get(a.node); err == nil { // a lister fails only when there is none
		at.Zone = node.Labels[corev1.LabelTopologyZone]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.groups.Move(at)
}

// start waits until the whole state was read and makes the first tables; false when ctx ended before.
func (a *assembly) start(ctx context.Context) bool {
	if !cache.WaitForCacheSync(ctx.Done(), a.synced) || !a.source.Start(ctx) {
		return false
	}
	select {
	case <-a.catalog.Ready():
	case <-ctx.Done():
		return false
	}
	a.followZone()
	a.apply(a.source.Take())
	return true
}

// run applies changes until ctx ends.
func (a *assembly) run(ctx context.Context) {
	sub := a.catalog.Subscribe()
	defer sub.Close()
	var drains sync.WaitGroup
	defer drains.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.source.Changed():
			a.apply(a.source.Take())
		case <-a.moved:
			a.followZone()
		case <-sub.Dirty():
			for _, key := range sub.Take() {
				if gone := a.applyService(key); len(gone) > 0 {
					a.waiting[key]++
					drains.Go(func() { a.awaitDrain(ctx, key, gone) })
				}
				if a.waiting[key] == 0 {
					sub.Done(key)
				}
			}
		case key := <-a.acks:
			if a.waiting[key]--; a.waiting[key] == 0 {
				delete(a.waiting, key)
				sub.Done(key)
			}
		}
	}
}

// awaitDrain sends an ack once no request is under way on endpoints that left a Service.
func (a *assembly) awaitDrain(ctx context.Context, key types.NamespacedName, gone []*upstream.Endpoint) {
	limit := time.NewTimer(drainWait)
	defer limit.Stop()
	for _, e := range gone {
		select {
		case <-e.Drained():
			continue
		case <-limit.C:
		case <-ctx.Done():
		}
		break
	}
	select {
	case a.acks <- key:
	case <-ctx.Done():
	}
}

// applyService puts the endpoints of a Service into force and returns those that left.
func (a *assembly) applyService(key types.NamespacedName) []*upstream.Endpoint {
	a.mu.Lock()
	gone, affected := a.groups.Refresh(key)
	a.mu.Unlock()
	a.source.Report(affected...)
	return gone
}

// apply puts what changed into force, swaps the tables and lets go what they no longer use.
func (a *assembly) apply(changes source.Changes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	newCerts := false
	for key, next := range changes.Objects {
		newCerts = a.certs.set(key, next) || newCerts
	}
	for secret := range changes.Secrets {
		for user := range a.certs.refresh(secret) {
			newCerts = true
			a.source.Report(user)
		}
		for user := range a.guards.refresh(secret) {
			a.source.Report(user)
		}
	}
	if newCerts {
		a.server.SetCertificates(a.certs.table(a.server.DefaultCertificate()))
	}
	if len(changes.Objects) > 0 {
		a.applyRoutes(changes.Objects)
	}
}

// applyRoutes is called with mu held.
func (a *assembly) applyRoutes(changes map[route.Object]*route.Translation) {
	claims := map[route.Object]*route.Claim{}
	for key, next := range changes {
		a.guards.set(key, next)
		a.keepStats(key, next)
		if next == nil {
			claims[key] = nil
			continue
		}
		claims[key] = &next.Claim
		for _, r := range next.Routes {
			for _, g := range r.Groups {
				a.groups.Acquire(g.GroupKey, key)
			}
		}
	}
	hosts, affected := a.routes.Apply(claims)
	a.table = a.table.With(a.bindHosts(hosts))
	a.server.Publish(a.table)
	for key, next := range changes {
		if old := a.inForce[key]; old != nil {
			for _, r := range old.Routes {
				for _, g := range r.Groups {
					a.groups.Release(g.GroupKey, key)
				}
			}
		}
		if next == nil {
			delete(a.inForce, key)
		} else {
			a.inForce[key] = next
		}
		affected[key] = true
	}
	for key := range affected {
		a.source.Report(key)
	}
}

// bindHosts makes the rules of hosts from the routes that are in force there.
func (a *assembly) bindHosts(hosts map[string][]*route.Placed) map[string]*route.Rules[serve.Route] {
	bound := make(map[string]*route.Rules[serve.Route], len(hosts))
	for host, routes := range hosts {
		if len(routes) == 0 {
			bound[host] = nil
			continue
		}
		rules := &route.Rules[serve.Route]{}
		for _, p := range routes {
			rules.Add(p.Route, a.bind(p))
		}
		bound[host] = rules
	}
	return bound
}

// bind finds what it takes to serve a route.
func (a *assembly) bind(p *route.Placed) *serve.Route {
	var canaries []*serve.Route
	for _, c := range p.Canaries {
		canaries = append(canaries, a.bind(c))
	}
	return serve.NewRoute(p.Route, a.groups.Group, a.guards.of(p.Policy), a.guards.of(p.Over), a.stats[p.Origin.Object][statsKey(p.Route)], canaries)
}

// keepStats lets the figures of an object's routes survive its changes.
func (a *assembly) keepStats(key route.Object, next *route.Translation) {
	old := a.stats[key]
	delete(a.stats, key)
	if next == nil {
		return
	}
	now := map[string]*serve.RouteStats{}
	for _, r := range next.Routes {
		id := statsKey(r)
		if now[id] == nil {
			now[id] = old[id]
		}
		if now[id] == nil {
			now[id] = new(serve.RouteStats)
		}
	}
	a.stats[key] = now
}

// statsKey says what a route is about.
func statsKey(r *route.Route) string {
	return fmt.Sprintf("%s %s %s|%s|%s", r.Kind, r.Host, r.Path, r.When, r.Target())
}

// problems lists what is wrong with what an object refers to now.
func (a *assembly) problems(key route.Object) []route.Problem {
	a.mu.Lock()
	defer a.mu.Unlock()
	own := a.inForce[key]
	if own == nil {
		return nil
	}
	var all []route.Problem
	for _, lost := range a.routes.ConflictsOf(key) {
		all = append(all, lost.Problem())
	}
	for _, r := range own.Routes {
		for _, g := range r.Groups {
			if p := a.groups.Group(g.GroupKey).Problem(); p != (route.Problem{}) {
				all = append(all, p)
			}
		}
	}
	all = append(all, a.guards.problemsOf(key)...)
	return append(all, a.certs.problems(key, time.Now())...)
}

// certificates lists those in force, one for each host and Secret.
func (a *assembly) certificates() []serve.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.certs.inForce()
}

// end lets go of endpoints and stops watching Secrets; ctx of start has ended.
func (a *assembly) end() {
	a.source.Shutdown()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.groups.Close()
}
