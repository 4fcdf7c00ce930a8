package catalog

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Catalog follows the API's Services and EndpointSlices.
type Catalog struct {
	services cache.SharedIndexInformer
	slices   cache.SharedIndexInformer
	ready    chan struct{}
	history  history

	mu      sync.Mutex
	subs    []*Subscription
	counts  Changes
	seq     uint64        // counts changes; a Subscription remembers the oldest it has not applied
	serving servingIndex  // what the subscribers have been told, not what the informer already knows
	changed chan struct{} // closed and replaced when Drained should look again
}

// bySvc is the index of EndpointSlices by "namespace/name" of their Service.
const bySvc = "svcplane.service"

// New registers with the informers of factory; the caller starts the factory, then calls Run.
func New(factory informers.SharedInformerFactory) (*Catalog, error) {
	c := &Catalog{
		services: factory.Core().V1().Services().Informer(),
		slices:   factory.Discovery().V1().EndpointSlices().Informer(),
		ready:    make(chan struct{}),
		changed:  make(chan struct{}),
		serving:  servingIndex{},
		history:  history{seen: map[Key]state{}},
	}
	if err := c.slices.AddIndexers(cache.Indexers{bySvc: indexByService}); err != nil {
		return nil, fmt.Errorf("indexing endpoint slices: %w", err)
	}
	if _, err := c.services.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.serviceChanged,
		UpdateFunc: func(_, o any) { c.serviceChanged(o) },
		DeleteFunc: func(o any) { c.serviceChanged(lastState(o)) },
	}); err != nil {
		return nil, fmt.Errorf("watching services: %w", err)
	}
	if _, err := c.slices.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { c.sliceChanged(nil, o) },
		UpdateFunc: c.sliceChanged,
		DeleteFunc: func(o any) { c.sliceChanged(lastState(o), nil) },
	}); err != nil {
		return nil, fmt.Errorf("watching endpoint slices: %w", err)
	}
	return c, nil
}

// lastState unwraps what an informer hands over when it missed the deletion itself.
func lastState(o any) any {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return o
}

// Changes counts what the API has sent.
type Changes struct{ Services, Slices uint64 }

// Changes is how many changes there were since the start.
func (c *Catalog) Changes() Changes {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

func (c *Catalog) serviceChanged(o any) {
	if svc, ok := o.(*corev1.Service); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counts.Services++
		c.markDirty(Key{Namespace: svc.Namespace, Name: svc.Name})
	}
}

// sliceChanged marks the owner of both states: a slice can move from one Service to another.
func (c *Catalog) sliceChanged(old, obj any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Slices++
	if slice, ok := old.(*discoveryv1.EndpointSlice); ok {
		c.serving.remove(slice)
		c.markOwner(slice)
	}
	if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
		c.serving.add(slice)
		c.markOwner(slice)
	}
}

func indexByService(o any) ([]string, error) {
	slice, ok := o.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, nil
	}
	key, ok := KeyOfSlice(slice)
	if !ok {
		return nil, nil
	}
	return []string{key.String()}, nil
}

// Run waits until the whole state was read, makes the catalog ready, and returns when ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), c.services.HasSynced, c.slices.HasSynced) {
		return context.Cause(ctx)
	}
	close(c.ready)
	<-ctx.Done()
	return nil
}

// Ready is closed once every Service and EndpointSlice that the API held has been read.
func (c *Catalog) Ready() <-chan struct{} { return c.ready }

// Figure is a short count for people: "12 services".
func (c *Catalog) Figure() string {
	return fmt.Sprintf("%d services", len(c.services.GetStore().ListKeys()))
}

// Get builds the present value of a Service; ok is false when there is none.
func (c *Catalog) Get(key Key) (*Service, bool) {
	svc, names, ok := c.history.step(key, func() (*corev1.Service, bool) { return c.service(key) })
	if !ok {
		return nil, false
	}
	own := c.slicesOf(key)
	if len(names) > 0 {
		c.history.followed(key, svc, own)
	}
	return build(svc, own, names), true
}

func (c *Catalog) service(key Key) (*corev1.Service, bool) {
	o, ok, err := c.services.GetStore().GetByKey(key.String())
	if err != nil || !ok {
		return nil, false
	}
	return o.(*corev1.Service), true
}

// Keys lists every Service.
func (c *Catalog) Keys() []Key {
	objects := c.services.GetStore().List()
	keys := make([]Key, 0, len(objects))
	for _, o := range objects {
		svc := o.(*corev1.Service)
		keys = append(keys, Key{Namespace: svc.Namespace, Name: svc.Name})
	}
	return keys
}

func (c *Catalog) slicesOf(key Key) []*discoveryv1.EndpointSlice {
	objects, err := c.slices.GetIndexer().ByIndex(bySvc, key.String())
	if err != nil {
		return nil
	}
	found := make([]*discoveryv1.EndpointSlice, 0, len(objects))
	for _, o := range objects {
		found = append(found, o.(*discoveryv1.EndpointSlice))
	}
	return found
}
