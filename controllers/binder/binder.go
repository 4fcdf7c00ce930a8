package binder

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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

// Config is what a Binder needs. All fields but Workers, NodeName and Own must be set.
type Config struct {
	Client   kubernetes.Interface // may bind pods, patch pods/status
	Factory  informers.SharedInformerFactory
	Recorder record.EventRecorder // component default-scheduler: that is where people look for these Events
	Workers  int                  // bindings in flight at once; 0: 4
	NodeName string               // the node that Own are on
	Own      listeners.Set        // svcplane's, whose ports no pod gets as a hostPort there
}

// Binder binds pending pods to nodes.
type Binder struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	workers  int
	pods     corelisters.PodLister
	synced   []cache.DoneChecker
	queue    workqueue.TypedRateLimitingInterface[types.NamespacedName]
	ready    chan struct{}

	mu      sync.Mutex
	cluster *Cluster
	pending map[types.NamespacedName]types.UID // pods without a node that are ours to bind
	waiting map[types.NamespacedName]string    // those that fit nowhere, and why
	promise map[types.NamespacedName]bool      // those whose volumes are being bound on the node they were promised to
}

// A pod that fits nowhere is tried again at once after the first change and ever later after further ones.
const (
	firstPause = time.Millisecond
	lastPause  = 10 * time.Second
)

// New registers with the informers of cfg.Factory; the caller starts the factory, then calls Run.
func New(cfg Config) (*Binder, error) {
	if cfg.Client == nil || cfg.Factory == nil || cfg.Recorder == nil {
		return nil, errors.New("binder needs a client, an informer factory and an event recorder")
	}
	core := cfg.Factory.Core().V1()
	b := &Binder{
		client:   cfg.Client,
		recorder: cfg.Recorder,
		workers:  cfg.Workers,
		pods:     core.Pods().Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](firstPause, lastPause)),
		ready:   make(chan struct{}),
		cluster: NewCluster(),
		pending: map[types.NamespacedName]types.UID{},
		waiting: map[types.NamespacedName]string{},
		promise: map[types.NamespacedName]bool{},
	}
	if b.workers == 0 {
		b.workers = 4
	}
	b.cluster.NamespaceLabels = namespaceLabels(core.Namespaces().Lister())
	b.cluster.Storage = storage(cfg.Factory)
	b.cluster.SetListeners(cfg.NodeName, cfg.Own)
	return b, b.watch(cfg.Factory)
}

func namespaceLabels(namespaces corelisters.NamespaceLister) func(string) labels.Set {
	return func(name string) labels.Set {
		ns, err := namespaces.Get(name)
		if err != nil { // the only error of a lister is that it is not there
			return nil
		}
		return ns.Labels
	}
}

// Run binds pods until ctx ends, and waits for the bindings in flight.
func (b *Binder) Run(ctx context.Context) error {
	if !cache.WaitFor(ctx, "", b.synced...) {
		return nil // ctx ended first
	}
	var wg sync.WaitGroup
	for range b.workers {
		wg.Go(func() { b.work(ctx) })
	}
	close(b.ready)
	<-ctx.Done()
	b.queue.ShutDown()
	wg.Wait()
	return nil
}

// Ready is closed once all pods and nodes are known and pods are being bound.
func (b *Binder) Ready() <-chan struct{} { return b.ready }

// Figure is a short count for people: "40 pods bound, 2 pending".
func (b *Binder) Figure() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("%d pods bound, %d pending", len(b.cluster.on), len(b.pending))
}

func (b *Binder) work(ctx context.Context) {
	for {
		key, shutdown := b.queue.Get()
		if shutdown {
			return
		}
		b.try(ctx, key)
		b.queue.Done(key)
	}
}

// try places one pod. Deciding is done under the lock, the API calls are not.
func (b *Binder) try(ctx context.Context, key types.NamespacedName) {
	pod, err := b.pods.Pods(key.Namespace).Get(key.Name)
	if err != nil || !ours(pod) {
		return // gone or bound meanwhile: the informer's handlers have seen it or will
	}
	d := b.decide(key, pod)
	switch {
	case len(d.steps) > 0:
		b.prepare(ctx, key, d)
	case d.node != "":
		b.bind(ctx, pod, d.node)
	case d.news:
		b.recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", d.why)
		b.explain(ctx, pod, d.why)
	}
}

// decision is what is to be done with a pod; nothing when it is the zero value.
type decision struct {
	node  string // it was promised to, empty: none
	steps []step // before it can be bound to node
	why   string // it fits nowhere
	news  bool   // it did not wait for the same before
}

// decide places pod and promises it to the node, or makes it wait.
func (b *Binder) decide(key types.NamespacedName, pod *corev1.Pod) decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending[key] != pod.UID || b.cluster.Holds(pod.UID) != nil && !b.promise[key] {
		return decision{} // promised already: the watch has not shown the binding yet
	}
	p := NewPod(pod)
	if b.promise[key] && b.cluster.volumesUnseen(p) {
		return decision{} // it keeps the promise
	}
	delete(b.promise, key)
	b.cluster.RemovePod(pod.UID) // its volumes have come, or never will on that node: it is placed anew
	node, why := Place(p, b.cluster)
	if node == "" {
		b.waiting[key] = why
		return decision{why: why, news: unschedulableFor(pod) != why}
	}
	b.cluster.SetPod(p, node)
	steps, _ := b.cluster.volumesOn(p, b.cluster.node(node))
	if len(steps) > 0 {
		b.promise[key] = true
	}
	return decision{node: node, steps: steps}
}

// prepare asks for the pod's volumes. The watch shows when they are bound, or that they cannot be.
func (b *Binder) prepare(ctx context.Context, key types.NamespacedName, d decision) {
	for _, s := range d.steps {
		err := s.take(ctx, b.client, d.node)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) { // these two are what the watch is about to show
			klog.ErrorS(err, "Asking for the volume of a pod failed, it will be tried again", "pod", key, "claim", klog.KObj(s.claim))
		}
		b.queue.AddRateLimited(key)
	}
}

// bind makes the promise true, or takes it back.
func (b *Binder) bind(ctx context.Context, pod *corev1.Pod, node string) {
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	err := b.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err == nil {
		b.queue.Forget(key)
		b.recorder.Eventf(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s to %s", key, node)
		return
	}
	b.mu.Lock()
	if promised := b.cluster.Holds(pod.UID); promised != nil && promised.Spec.NodeName == "" {
		b.cluster.RemovePod(pod.UID)
	}
	b.mu.Unlock()
	if ctx.Err() != nil || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return // it is gone, or about to be: a namespace does not come back from its end
	}
	klog.ErrorS(err, "Binding a pod failed, it will be tried again", "pod", key, "node", node)
	b.queue.AddRateLimited(key)
}
