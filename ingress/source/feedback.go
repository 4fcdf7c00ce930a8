package source

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"svcplane/ingress/route"
	"svcplane/ingress/source/ingress"
)

const (
	// reportAfter is how long a problem must last before there is an Event: an Ingress is often applied just before its Service.
	reportAfter   = time.Second
	statusWorkers = 4
	minBackOff    = 20 * time.Millisecond
	maxBackOff    = 30 * time.Second
)

// feedback writes what became of Ingresses back to the API: addresses into the status, problems as Events.
type feedback struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	wanted   atomic.Pointer[[]networkingv1.IngressLoadBalancerIngress]
	from     *Source

	statuses workqueue.TypedRateLimitingInterface[route.Object]
	reports  workqueue.TypedRateLimitingInterface[route.Object]

	mu      sync.Mutex
	written map[route.Object]bool                   // whose status has our addresses
	said    map[route.Object]map[route.Problem]bool // Events that need no repeating
}

func newFeedback(cfg Config, from *Source) *feedback {
	f := &feedback{
		client:   cfg.Client,
		recorder: cfg.Recorder,
		from:     from,
		written:  map[route.Object]bool{},
		said:     map[route.Object]map[route.Problem]bool{},
	}
	f.want(cfg.Addresses)
	return f
}

// want changes the addresses that statuses are to have.
func (f *feedback) want(addresses []netip.Addr) {
	status := loadBalancerStatus(addresses)
	f.wanted.Store(&status)
}

// open makes the queues, which start goroutines of their own; run ends them.
func (f *feedback) open() {
	queue := func() workqueue.TypedRateLimitingInterface[route.Object] {
		return workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[route.Object](minBackOff, maxBackOff))
	}
	f.statuses, f.reports = queue(), queue()
}

func loadBalancerStatus(addresses []netip.Addr) []networkingv1.IngressLoadBalancerIngress {
	var all []networkingv1.IngressLoadBalancerIngress
	for _, a := range addresses {
		all = append(all, networkingv1.IngressLoadBalancerIngress{IP: a.String()})
	}
	return all
}

// status has the status of an Ingress compared and, if need be, written.
func (f *feedback) status(key route.Object) { f.statuses.Add(key) }

// report queues objects whose problems become Events if they last.
func (f *feedback) report(keys ...route.Object) {
	for _, key := range keys {
		f.reports.AddAfter(key, reportAfter)
	}
}

// run works until ctx ends.
func (f *feedback) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range statusWorkers {
		wg.Go(func() { work(f.statuses, func(k route.Object) error { return f.writeStatus(ctx, k) }) })
	}
	wg.Go(func() { work(f.reports, f.sendEvents) })
	<-ctx.Done()
	f.statuses.ShutDown()
	f.reports.ShutDown()
	wg.Wait()
}

// work handles the items of a queue until it is shut down, again with back-off those that failed.
func work(queue workqueue.TypedRateLimitingInterface[route.Object], handle func(route.Object) error) {
	for {
		key, end := queue.Get()
		if end {
			return
		}
		if err := handle(key); err != nil {
			klog.V(2).InfoS("Writing back to an object failed and is tried again", "object", key.Kind, "name", key.NamespacedName, "err", err)
			queue.AddRateLimited(key)
		} else {
			queue.Forget(key)
		}
		queue.Done(key)
	}
}

func (f *feedback) writeStatus(ctx context.Context, key route.Object) error {
	ing, err := f.from.ingresses.Ingresses(key.Namespace).Get(key.Name)
	if err != nil {
		f.setWritten(key, false)
		return nil // a lister fails only when there is none
	}
	owned := f.from.owned(key) != nil
	want := *f.wanted.Load()
	switch {
	case owned:
	case f.leftOver(ing):
		want = nil
	default:
		return nil
	}
	if !sameAddresses(ing.Status.LoadBalancer.Ingress, want) {
		ing = ing.DeepCopy()
		ing.Status.LoadBalancer.Ingress = want
		_, err := f.client.NetworkingV1().Ingresses(key.Namespace).UpdateStatus(ctx, ing, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("writing the addresses of ingress %s: %w", key, err)
		}
	}
	f.setWritten(key, owned)
	return nil
}

// leftOver says whether the addresses in the status of an Ingress that is not ours are ours to remove: we wrote
// them, or an earlier process did and no other controller has the Ingress.
func (f *feedback) leftOver(ing *networkingv1.Ingress) bool {
	f.mu.Lock()
	wrote := f.written[ingress.ObjectOf(ing)]
	f.mu.Unlock()
	have := ing.Status.LoadBalancer.Ingress
	return len(have) > 0 && sameAddresses(have, *f.wanted.Load()) && (wrote || f.from.classes.OwnerOf(ing) == ingress.Nobody)
}

// sameAddresses compares what a status says with what it should say.
func sameAddresses(have []networkingv1.IngressLoadBalancerIngress, want []networkingv1.IngressLoadBalancerIngress) bool {
	if len(have) != len(want) {
		return false
	}
	for i := range have {
		if have[i].IP != want[i].IP || have[i].Hostname != want[i].Hostname || len(have[i].Ports) != 0 {
			return false
		}
	}
	return true
}

func (f *feedback) setWritten(key route.Object, written bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if written {
		f.written[key] = true
	} else {
		delete(f.written, key)
	}
}

// problems finds an object and what is wrong with it; nil when there is none of that name.
func (f *feedback) problems(key route.Object) (runtime.Object, []route.Problem) {
	if key.Kind == kindClass {
		class, err := f.from.classes.Lister.Get(key.Name)
		if err != nil {
			return nil, nil // a lister fails only when there is none
		}
		return class, f.from.classes.Problems(class)
	}
	ing, err := f.from.ingresses.Ingresses(key.Namespace).Get(key.Name)
	if err != nil {
		return nil, nil
	}
	return ing, f.from.problemsOf(ing)
}

// sendEvents writes an Event for each problem of an object that had none before.
func (f *feedback) sendEvents(key route.Object) error {
	about, problems := f.problems(key)
	if about == nil {
		f.mu.Lock()
		delete(f.said, key)
		f.mu.Unlock()
		return nil
	}
	now := map[route.Problem]bool{}
	var fresh []route.Problem
	f.mu.Lock()
	for _, p := range problems {
		if !now[p] && !f.said[key][p] {
			fresh = append(fresh, p)
		}
		now[p] = true
	}
	f.said[key] = now
	f.mu.Unlock()
	for _, p := range fresh {
		f.recorder.Event(about, corev1.EventTypeWarning, p.Reason, p.Message)
	}
	return nil
}
