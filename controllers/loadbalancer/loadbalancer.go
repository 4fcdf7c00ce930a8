package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"svcplane/listeners"
)

// Config is what a Controller needs. All fields but Own must be set.
type Config struct {
	Client   kubernetes.Interface // may update services/status
	Factory  informers.SharedInformerFactory
	Recorder record.EventRecorder
	NodeName string        // of the node that Addrs and Own are on
	Addrs    []netip.Addr  // of the node, in order of preference; see SetAddrs
	Own      listeners.Set // svcplane's on the node
}

// Controller writes the node's addresses into status.loadBalancer.
type Controller struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	addrs    atomic.Pointer[[]netip.Addr]
	own      listeners.Set
	services cache.SharedIndexInformer
	node     string
	nodes    corelisters.NodeLister
	synced   []cache.DoneChecker
	queue    workqueue.TypedRateLimitingInterface[types.NamespacedName]
	ready    chan struct{}
	given    atomic.Int64 // Services that have an address

	// of the one goroutine that works the queue
	known map[types.NamespacedName]known
}

// known is what was last decided for a Service.
type known struct {
	uid     types.UID
	addrs   []netip.Addr
	ports   []PortKey // those it holds on addrs
	trouble string
}

const (
	byPort    = "svcplane.loadbalancer.port"
	firstLook = time.Second // pauses between looks at a socket that is in the way
	lastLook  = 15 * time.Second
)

// New registers with the informers of cfg.Factory; the caller starts the factory, then calls Run.
func New(cfg Config) (*Controller, error) {
	if cfg.Client == nil || cfg.Factory == nil || cfg.Recorder == nil || cfg.NodeName == "" || len(cfg.Addrs) == 0 {
		return nil, errors.New("load-balancer addresses need a client, an informer factory, an event recorder, and the node's name and address")
	}
	c := &Controller{
		client:   cfg.Client,
		recorder: cfg.Recorder,
		own:      cfg.Own,
		services: cfg.Factory.Core().V1().Services().Informer(),
		node:     cfg.NodeName,
		nodes:    cfg.Factory.Core().V1().Nodes().Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](firstLook, lastLook)),
		ready: make(chan struct{}),
		known: map[types.NamespacedName]known{},
	}
	c.addrs.Store(unmapped(cfg.Addrs))
	if err := c.services.AddIndexers(cache.Indexers{byPort: indexByPort}); err != nil {
		return nil, fmt.Errorf("indexing services by port: %w", err)
	}
	registration, err := c.services.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { c.changed(o) },
		UpdateFunc: func(old, o any) { c.changed(old, o) },
		DeleteFunc: func(o any) { c.changed(o) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching services: %w", err)
	}
	c.synced = []cache.DoneChecker{registration.HasSyncedChecker(), cfg.Factory.Core().V1().Nodes().Informer().HasSyncedChecker()}
	return c, nil
}

func unmapped(addrs []netip.Addr) *[]netip.Addr {
	var all []netip.Addr
	for _, a := range addrs {
		all = append(all, a.Unmap())
	}
	return &all
}

// SetAddrs follows the node's addresses: all Services get theirs anew.
func (c *Controller) SetAddrs(addrs []netip.Addr) {
	c.addrs.Store(unmapped(addrs))
	for _, o := range c.services.GetStore().List() {
		if svc, ok := o.(*corev1.Service); ok && Ours(svc) {
			c.queue.Add(keyOf(svc))
		}
	}
}

func indexByPort(o any) ([]string, error) {
	svc, ok := o.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	var values []string
	for _, p := range PortsOf(svc) {
		values = append(values, p.String())
	}
	return values, nil
}

// changed queues the Service and, when it may have freed or taken something, all that want the same ports.
func (c *Controller) changed(states ...any) {
	for _, o := range states {
		if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		svc, ok := o.(*corev1.Service)
		if !ok {
			continue
		}
		c.queue.Add(keyOf(svc))
		for _, port := range PortsOf(svc) {
			for _, rival := range c.rivals(port) {
				if Ours(rival) {
					c.queue.Add(keyOf(rival))
				}
			}
		}
	}
}

func (c *Controller) rivals(port PortKey) []*corev1.Service {
	objects, err := c.services.GetIndexer().ByIndex(byPort, port.String())
	if err != nil { // only for an index that does not exist
		return nil
	}
	found := make([]*corev1.Service, 0, len(objects))
	for _, o := range objects {
		found = append(found, o.(*corev1.Service))
	}
	return found
}

// Run gives addresses until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if !cache.WaitFor(ctx, "", c.synced...) {
		return nil // ctx ended first
	}
	stop := context.AfterFunc(ctx, c.queue.ShutDown)
	defer stop()
	close(c.ready)
	for {
		key, shutdown := c.queue.Get()
		if shutdown {
			return nil
		}
		if err := c.sync(ctx, key); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Giving a load-balancer address failed, it will be tried again", "service", key)
			c.queue.AddRateLimited(key)
		}
		c.queue.Done(key)
	}
}

// Ready is closed once all Services are known and addresses are being given.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

// Figure is a short count for people: "2 load balancers".
func (c *Controller) Figure() string { return fmt.Sprintf("%d load balancers", c.given.Load()) }

// sync brings one Service's status to what is decided for it.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) error {
	o, exists, err := c.services.GetStore().GetByKey(key.String())
	if err != nil {
		return fmt.Errorf("looking up the service: %w", err)
	}
	svc, _ := o.(*corev1.Service)
	switch {
	case !exists || svc.DeletionTimestamp != nil:
		c.forget(key)
		return nil
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
		c.forget(key)
		_, err := c.write(ctx, svc, nil)
		return err
	case !Ours(svc):
		c.forget(key)
		return nil
	}
	var looked look
	made := Decide(svc, Node{Addrs: *c.addrs.Load(), Own: c.own, Rivals: c.rivals, Listener: looked.listener, Holds: c.holds})
	if looked.err != nil {
		return looked.err
	}
	if done, err := c.write(ctx, svc, made.Addrs); err != nil || !done {
		return err
	}
	c.tell(svc, made)
	if made.Listening {
		c.queue.AddRateLimited(key) // nobody tells when a socket closes
	} else {
		c.queue.Forget(key)
	}
	return nil
}
