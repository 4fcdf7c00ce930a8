package binder

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// watch keeps the cluster up to date from the informers of factory.
func (b *Binder) watch(factory informers.SharedInformerFactory) error {
	core := factory.Core().V1()
	for _, w := range []struct {
		what     string
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{"nodes", core.Nodes().Informer(), handler(b.nodeChanged)},
		{"pods", core.Pods().Informer(), handler(b.podChanged)},
		{"namespaces", core.Namespaces().Informer(), handler(b.namespaceChanged)},
		{"persistent volume claims", core.PersistentVolumeClaims().Informer(), handler(b.claimChanged)},
		{"persistent volumes", core.PersistentVolumes().Informer(), handler(b.volumeChanged)},
		{"storage classes", factory.Storage().V1().StorageClasses().Informer(), handler(b.classChanged)},
	} {
		registration, err := w.informer.AddEventHandler(w.handler)
		if err != nil {
			return fmt.Errorf("watching %s: %w", w.what, err)
		}
		b.synced = append(b.synced, registration.HasSyncedChecker())
	}
	return nil
}

// handler turns the three callbacks into one: old is nil for a new object, obj for one that is gone.
func handler[T any](changed func(old, obj *T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { changed(nil, as[T](o)) },
		UpdateFunc: func(old, o any) { changed(as[T](old), as[T](o)) },
		DeleteFunc: func(o any) {
			if last := as[T](o); last != nil {
				changed(last, nil)
			}
		},
	}
}

// as unwraps also what an informer hands over when it missed the deletion itself.
func as[T any](o any) *T {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	t, _ := o.(*T)
	return t
}

func (b *Binder) nodeChanged(old, n *corev1.Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n == nil {
		b.cluster.RemoveNode(old.Name)
	} else {
		b.cluster.SetNode(n)
	}
	// a heartbeat makes no room, what the node offers may
	if old == nil || n == nil || old.Spec.Unschedulable != n.Spec.Unschedulable ||
		!equality.Semantic.DeepEqual(old.Labels, n.Labels) ||
		!equality.Semantic.DeepEqual(old.Spec.Taints, n.Spec.Taints) ||
		!equality.Semantic.DeepEqual(old.Status.Allocatable, n.Status.Allocatable) {
		b.wake()
	}
}

func (b *Binder) namespaceChanged(old, ns *corev1.Namespace) {
	if old == nil || ns == nil || equality.Semantic.DeepEqual(old.Labels, ns.Labels) {
		return // an affinity term can be about pods of a relabelled namespace only
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake()
}

func (b *Binder) claimChanged(old, pvc *corev1.PersistentVolumeClaim) {
	if old == nil || pvc == nil || claimState(old) != claimState(pvc) {
		b.storageChanged()
	}
}

func (b *Binder) volumeChanged(old, pv *corev1.PersistentVolume) {
	if old == nil || pv == nil || old.Status.Phase != pv.Status.Phase ||
		!equality.Semantic.DeepEqual(old.Labels, pv.Labels) || !equality.Semantic.DeepEqual(old.Spec, pv.Spec) {
		b.storageChanged()
	}
}

func (b *Binder) classChanged(old, class *storagev1.StorageClass) {
	if old == nil || class == nil { // what matters of a class cannot be changed
		b.storageChanged()
	}
}

// storageChanged has waiting pods tried again, and those whose volumes are being bound at once.
func (b *Binder) storageChanged() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake()
	for key := range b.promise {
		b.queue.Add(key)
	}
}

func (b *Binder) podChanged(old, pod *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old != nil && (pod == nil || old.UID != pod.UID) {
		b.podGone(old)
		old = nil
	}
	switch {
	case pod == nil:
	case finished(pod):
		b.podGone(pod)
	case pod.Spec.NodeName != "":
		b.podBound(old, pod)
	case ours(pod):
		b.podPending(old, pod)
	default:
		b.forget(keyOf(pod))
	}
}

// podGone frees what the pod held.
func (b *Binder) podGone(pod *corev1.Pod) {
	if b.pending[keyOf(pod)] == pod.UID {
		b.forget(keyOf(pod))
	}
	if b.cluster.RemovePod(pod.UID) {
		b.wake()
	}
}

func (b *Binder) podBound(old, pod *corev1.Pod) {
	if b.pending[keyOf(pod)] == pod.UID {
		b.forget(keyOf(pod))
	}
	if old != nil && old.Spec.NodeName == pod.Spec.NodeName && sameNeeds(old, pod) {
		return // a status update: by far the most frequent event
	}
	b.cluster.SetPod(NewPod(pod), pod.Spec.NodeName)
	b.wake() // others may want to be near it, or it asks for less than it did
}

func (b *Binder) podPending(old, pod *corev1.Pod) {
	key := keyOf(pod)
	if _, waits := b.waiting[key]; waits && old != nil && sameNeeds(old, pod) {
		return // our own condition came back
	}
	delete(b.waiting, key)
	b.pending[key] = pod.UID
	b.queue.Add(key)
}

func (b *Binder) forget(key types.NamespacedName) {
	delete(b.waiting, key)
	delete(b.pending, key)
	delete(b.promise, key)
	b.queue.Forget(key)
}

// wake has every waiting pod tried again, each after its own pause; b.mu is held.
func (b *Binder) wake() {
	for key := range b.waiting {
		delete(b.waiting, key)
		b.queue.AddRateLimited(key)
	}
}

// ours says whether the pod waits for this binder: no node yet, no gate, not on its way out.
func ours(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && !finished(pod) &&
		len(pod.Spec.SchedulingGates) == 0 &&
		(pod.Spec.SchedulerName == "" || pod.Spec.SchedulerName == corev1.DefaultSchedulerName)
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// sameNeeds says that nothing changed that a placement, of this pod or of another, depends on. Every change of the
// spec counts up the generation, a resize in place as well.
func sameNeeds(a, b *corev1.Pod) bool {
	return a.Generation == b.Generation && len(a.Spec.SchedulingGates) == len(b.Spec.SchedulingGates) &&
		(a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels)
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}
