package ingress

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"svcplane/catalog"
)

// drainWait is how long a Service's change may wait for requests under way on endpoints that left it, before the
// catalog hears that nobody sends there any more. Longer ones go on; their endpoint may then be asked to stop.
const drainWait = 3 * time.Second

var everything = labels.Everything()

// controller keeps the tables of a server as the API says. One goroutine, run, changes them.
type controller struct {
	server    *server
	catalog   *catalog.Catalog
	classes   classes
	ingresses networkinglisters.IngressLister
	secrets   corelisters.SecretLister
	nodes     corelisters.NodeLister
	node      string                          // that we run on; empty: unknown
	own       informers.SharedInformerFactory // of the Secrets, with what we need of them
	synced    []cache.InformerSynced
	dirty     *dirtySet
	told      *feedback
	moved     chan struct{}             // receives when the node's object changed
	acks      chan types.NamespacedName // an endpoint that left this Service is drained

	waiting map[types.NamespacedName]int // how many acks are to come, only used by run

	mu       sync.Mutex // guards what follows, also against readers
	compiled map[types.NamespacedName]*compiled
	routes   *routeSet
	groups   *groupSet
	certs    *certStore
	guards   *guardSet
}

func newController(cfg Config, s *server) (*controller, error) {
	net := cfg.Factory.Networking().V1()
	own := informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0,
		informers.WithTransform(onlyOurKeys))
	c := &controller{
		server:    s,
		catalog:   cfg.Catalog,
		classes:   classes{lister: net.IngressClasses().Lister(), controller: cfg.Controller, served: cfg.ClassNames},
		ingresses: net.Ingresses().Lister(),
		secrets:   own.Core().V1().Secrets().Lister(),
		nodes:     cfg.Factory.Core().V1().Nodes().Lister(),
		node:      cfg.NodeName,
		own:       own,
		moved:     make(chan struct{}, 1),
		dirty:     newDirtySet(),
		acks:      make(chan types.NamespacedName),
		waiting:   map[types.NamespacedName]int{},
		compiled:  map[types.NamespacedName]*compiled{},
		routes:    newRouteSet(),
		groups:    newGroupSet(cfg.Catalog.Get, annotationsOf(cfg.Factory.Core().V1().Services().Lister()), home{node: cfg.NodeName}),
	}
	c.groups.lines = &lines{most: int64(cfg.MaxEndpointConnections)}
	c.certs = newCertStore(c.secret)
	c.guards = newGuardSet(c.secret)
	c.told = newFeedback(cfg, c)
	watch := func(what string, informer cache.SharedIndexInformer, changed func(types.NamespacedName)) error {
		_, err := informer.AddEventHandler(onEvery(changed))
		if err != nil {
			return fmt.Errorf("watching %s: %w", what, err)
		}
		c.synced = append(c.synced, informer.HasSynced)
		return nil
	}
	if err := watch("ingresses", net.Ingresses().Informer(), func(k types.NamespacedName) { c.dirty.markIngress(k) }); err != nil {
		return nil, err
	}
	if err := watch("ingress classes", net.IngressClasses().Informer(), c.classChanged); err != nil {
		return nil, err
	}
	if err := watch("secrets", own.Core().V1().Secrets().Informer(), c.dirty.markSecret); err != nil {
		return nil, err
	}
	if err := watch("nodes", cfg.Factory.Core().V1().Nodes().Informer(), c.nodeChanged); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *controller) nodeChanged(key types.NamespacedName) {
	if key.Name == c.node {
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
}

// settle follows the zone of our node, which topology hints go by.
func (c *controller) settle() {
	at := home{node: c.node}
	if node, err := c.nodes.Get(c.node); err == nil { // a lister fails only when there is none
		at.zone = node.Labels[corev1.LabelTopologyZone]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at != c.groups.home {
		c.groups.move(at)
	}
}

// onEvery calls changed with the name of every object that comes, changes or goes.
func onEvery(changed func(types.NamespacedName)) cache.ResourceEventHandler {
	mark := func(o any) {
		if name, err := cache.DeletionHandlingObjectToName(o); err == nil {
			changed(types.NamespacedName{Namespace: name.Namespace, Name: name.Name})
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: mark, DeleteFunc: mark, UpdateFunc: func(_, o any) { mark(o) }}
}

// setAddresses has the statuses of our Ingresses name other addresses.
func (c *controller) setAddresses(addresses []netip.Addr) {
	c.told.want(addresses)
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.compiled {
		c.told.status(key) // there is none before start has made the queues
	}
}

// markAll has every Ingress looked at again.
func (c *controller) markAll() {
	all, _ := c.ingresses.List(everything) // a lister of everything does not fail
	for _, ing := range all {
		c.dirty.markIngress(nameOf(ing))
	}
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (c *controller) secret(key types.NamespacedName) *corev1.Secret {
	s, err := c.secrets.Secrets(key.Namespace).Get(key.Name)
	if err != nil {
		return nil // a lister fails only when there is none
	}
	return s
}

// start waits until the whole state was read and makes the first tables; false when ctx ended before.
func (c *controller) start(ctx context.Context) bool {
	c.own.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return false
	}
	select {
	case <-c.catalog.Ready():
	case <-ctx.Done():
		return false
	}
	c.told.open()
	c.settle()
	c.markAll()
	c.applyObjects(c.dirty.take())
	return true
}

// run applies changes until ctx ends.
func (c *controller) run(ctx context.Context) {
	sub := c.catalog.Subscribe()
	defer sub.Close()
	var drains sync.WaitGroup
	defer drains.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dirty.wake:
			c.applyObjects(c.dirty.take())
		case <-c.moved:
			c.settle()
		case <-sub.Dirty():
			for _, key := range sub.Take() {
				if gone := c.applyService(key); len(gone) > 0 {
					c.waiting[key]++
					drains.Go(func() { c.awaitDrain(ctx, key, gone) })
				}
				if c.waiting[key] == 0 {
					sub.Done(key)
				}
			}
		case key := <-c.acks:
			if c.waiting[key]--; c.waiting[key] == 0 {
				delete(c.waiting, key)
				sub.Done(key)
			}
		}
	}
}

// awaitDrain sends an ack once no request is under way on endpoints that left a Service.
func (c *controller) awaitDrain(ctx context.Context, key types.NamespacedName, gone []*endpoint) {
	limit := time.NewTimer(drainWait)
	defer limit.Stop()
	for _, e := range gone {
		select {
		case <-e.drained:
			continue
		case <-limit.C:
		case <-ctx.Done():
		}
		break
	}
	select {
	case c.acks <- key:
	case <-ctx.Done():
	}
}

// applyService puts the endpoints of a Service into force and returns those that left.
func (c *controller) applyService(key types.NamespacedName) []*endpoint {
	c.mu.Lock()
	gone, affected := c.groups.refresh(key)
	c.mu.Unlock()
	c.told.report(affected...)
	return gone
}

// applyObjects compiles what changed, swaps the tables and lets go what they no longer use.
func (c *controller) applyObjects(ingresses, secrets names) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := map[types.NamespacedName]*compiled{}
	for key := range ingresses {
		c.told.status(key)
		next := c.compile(key)
		if old := c.compiled[key]; !reflect.DeepEqual(old, next) {
			changes[key] = next
		} else if next == nil {
			c.told.report(key) // whose it is may have changed
		}
	}
	newCerts := false
	for key, next := range changes {
		newCerts = c.certs.setIngress(key, next) || newCerts
	}
	for key := range secrets {
		for user := range c.certs.refresh(key) {
			newCerts = true
			c.told.report(user)
		}
		for user := range c.guards.refresh(key) {
			c.told.report(user)
		}
	}
	if newCerts {
		c.server.certs.Store(c.certs.table(c.server.certs.Load().fallback))
	}
	c.applyRoutes(changes)
}

// compile returns nil for an Ingress that does not exist or is not ours.
func (c *controller) compile(key types.NamespacedName) *compiled {
	ing, err := c.ingresses.Ingresses(key.Namespace).Get(key.Name)
	if err != nil || c.classes.ownerOf(ing) != ours {
		return nil // a lister fails only when there is none
	}
	return compile(ing)
}

// applyRoutes is called with mu held.
func (c *controller) applyRoutes(changes map[types.NamespacedName]*compiled) {
	if len(changes) == 0 {
		return
	}
	claims := map[types.NamespacedName]*claim{}
	for key, next := range changes {
		claims[key] = c.claim(key, next)
	}
	table, affected := c.routes.apply(claims)
	c.server.publish(table)
	for key, next := range changes {
		if old := c.compiled[key]; old != nil {
			for _, r := range old.routes {
				c.groups.release(r.group, key)
			}
		}
		if next == nil {
			delete(c.compiled, key)
		} else {
			c.compiled[key] = next
		}
		affected[key] = true
	}
	for key := range affected {
		c.told.report(key)
	}
}

// claim finds the groups of an Ingress's routes; nil stays nil.
func (c *controller) claim(key types.NamespacedName, next *compiled) *claim {
	if next == nil {
		c.guards.set(key, nil)
		return nil
	}
	guard := c.guards.set(key, next.policy)
	counted := c.statsOf(key)
	cl := &claim{Origin: next.Origin, closes: next.policy.closesHost(next.Origin)}
	for _, r := range next.routes {
		cl.routes = append(cl.routes, &Route{
			Host:   r.host,
			Path:   r.path,
			Kind:   r.kind,
			Group:  c.groups.acquire(r.group, next.NamespacedName),
			Origin: next.Origin,
			Weak:   r.weak,
			guard:  guard,
			stats:  counted(r),
		})
	}
	return cl
}

// statsOf finds the figures of the routes that an object has in force, so that they survive its changes.
func (c *controller) statsOf(key types.NamespacedName) func(routeSpec) *routeStats {
	old := c.routes.claims[key]
	return func(r routeSpec) *routeStats {
		if old != nil {
			for _, o := range old.routes {
				if o.Host == r.host && o.Path == r.path && o.Kind == r.kind && o.Group.Key == r.group {
					return o.stats
				}
			}
		}
		return new(routeStats)
	}
}

// owns says whether an Ingress is in force.
func (c *controller) owns(key types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compiled[key] != nil
}

// problems lists what is wrong with an Ingress now. Of those that another controller has, nothing is said.
func (c *controller) problems(ing *networkingv1.Ingress) []Problem {
	if owner, why := c.classes.judge(ing); owner == unclaimed {
		return []Problem{why}
	}
	key := nameOf(ing)
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.compiled[key]
	if own == nil {
		return nil
	}
	all := append([]Problem(nil), own.problems...)
	for _, lost := range c.routes.conflictsOf(key) {
		all = append(all, lost.text())
	}
	for _, r := range own.routes {
		if p := c.groups.groups[r.group].problem(); p != (Problem{}) {
			all = append(all, p)
		}
	}
	if p := c.guards.problems[key]; p != (Problem{}) {
		all = append(all, p)
	}
	return append(all, c.certs.problems(key, time.Now())...)
}

// end lets go of endpoints and stops watching Secrets; ctx of start has ended.
func (c *controller) end() {
	c.own.Shutdown()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups.close()
}
