package node

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	podplan "svcplane/node/pod"
	"svcplane/node/volume"
)

func (n *Node) podsDir() string { return filepath.Join(n.cfg.Dir, "pods") }

// register follows pods and what they refer to. Before adoptAll the handlers only see an empty set of
// workers, so nothing happens until the whole state is known.
func (n *Node) register(core coreinformers.Interface) error {
	for _, w := range []struct {
		what     string
		informer cache.SharedIndexInformer
		changed  func(o any)
	}{
		{"pods", n.pods, n.podChanged},
		{"services", core.Services().Informer(), n.serviceChanged},
		{"config maps", core.ConfigMaps().Informer(), referenced(n, usesConfigMap)},
		{"secrets", core.Secrets().Informer(), referenced(n, usesSecret)},
		{"persistent volume claims", core.PersistentVolumeClaims().Informer(), referenced(n, usesClaim)},
		{"persistent volumes", core.PersistentVolumes().Informer(), func(any) {}}, // its claim changes, too
	} {
		reg, err := w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    w.changed,
			UpdateFunc: func(_, o any) { w.changed(o) },
			DeleteFunc: func(o any) {
				if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = last.Obj
				}
				w.changed(o)
			},
		})
		if err != nil {
			return fmt.Errorf("watching %s: %w", w.what, err)
		}
		n.synced = append(n.synced, reg.HasSynced)
	}
	return nil
}

// referenced wakes the pods that use, by name, what changed.
func referenced(n *Node, uses func(p *corev1.Pod, name string) bool) func(o any) {
	return func(o any) {
		if object, err := meta.Accessor(o); err == nil {
			n.referenceChanged(object.GetNamespace(), func(p *corev1.Pod) bool { return uses(p, object.GetName()) })
		}
	}
}

// ours says whether a pod is bound to this node.
func (n *Node) ours(pod *corev1.Pod) bool { return pod.Spec.NodeName == n.cfg.Name }

// podChanged makes sure that the pod has a worker and wakes it.
func (n *Node) podChanged(o any) {
	pod, ok := o.(*corev1.Pod)
	if !ok || !n.ours(pod) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now, exists := n.lookup(pod)
	if w := n.workers[pod.UID]; w != nil {
		if !exists || now.DeletionTimestamp != nil {
			w.interrupt()
		}
		if own := w.wrote.Load(); !exists || own == nil || *own == "" || *own != now.ResourceVersion {
			w.poke() // what we wrote ourselves is no news
		}
		return
	}
	if exists {
		n.startWorker(pod, func() {})
	}
}

// lookup gives the pod as the API has it, if it is still this very pod.
func (n *Node) lookup(pod *corev1.Pod) (*corev1.Pod, bool) {
	o, ok, err := n.pods.GetStore().GetByKey(pod.Namespace + "/" + pod.Name)
	if err != nil || !ok {
		return nil, false
	}
	now := o.(*corev1.Pod)
	return now, now.UID == pod.UID
}

func (n *Node) serviceChanged(o any) {
	svc, ok := o.(*corev1.Service)
	if !ok || svc.Namespace != n.cfg.MasterService.Namespace || svc.Name != n.cfg.MasterService.Name {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.workers {
		if w.waitsForMaster.Load() {
			w.poke()
		}
	}
}

// masterKnown says whether the API's own Service has an address.
func (n *Node) masterKnown() bool {
	svc, err := n.services.Services(n.cfg.MasterService.Namespace).Get(n.cfg.MasterService.Name)
	return err == nil && svc.Spec.ClusterIP != ""
}

func (n *Node) referenceChanged(namespace string, uses func(*corev1.Pod) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.workers {
		if w.first.Namespace == namespace && uses(w.first) {
			w.poke()
		}
	}
}

func usesConfigMap(pod *corev1.Pod, name string) bool {
	return !podutil.VisitPodConfigmapNames(pod, func(n string) bool { return n != name })
}

func usesSecret(pod *corev1.Pod, name string) bool {
	return !podutil.VisitPodSecretNames(pod, func(n string) bool { return n != name })
}

func usesClaim(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		claim, _ := volume.ClaimOf(pod, &v)
		return claim == name
	})
}

// wake lets the worker of a pod look again.
func (n *Node) wake(uid types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.workers[uid]; w != nil {
		w.poke()
	}
}

// adoptAll starts a worker for every pod that the API or the runtime has. From then on the informer's
// handlers start the others.
func (n *Node) adoptAll(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.run = func(w *worker) { w.loop(ctx) }
	for _, o := range n.pods.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok && n.ours(pod) {
			n.followDNS(pod)
			n.adopt.Add(1)
			n.startWorker(pod, sync.OnceFunc(n.adopt.Done))
		}
	}
}

// startWorker starts the worker of a pod, unless there is one or the node is not running; looked is called
// once the pod was compared with the runtime. n.mu is held.
func (n *Node) startWorker(pod *corev1.Pod, looked func()) {
	if n.run == nil || n.closed || n.workers[pod.UID] != nil {
		return
	}
	w := newWorker(n, pod, looked)
	n.workers[pod.UID] = w
	n.wg.Go(func() {
		defer looked()
		n.run(w)
		n.mu.Lock()
		delete(n.workers, pod.UID)
		n.mu.Unlock()
		n.retryDeferred(pod)
	})
	w.poke()
}

// stopWorkers waits for the workers; their context has ended.
func (n *Node) stopWorkers() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}

// adoptOrphan starts a worker for something in the runtime that has none: a pod that was deleted while the
// node was down. The worker finds that the API does not have it, and ends it.
func (n *Node) adoptOrphan(labels, annotations map[string]string) {
	uid := podplan.UID(labels)
	if uid == "" {
		return // not ours: it does not carry a pod's labels
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.startWorker(podplan.FromLabels(labels, annotations), func() {})
}

func listedRunning(c *runtimeapi.Container) bool {
	return c.State == runtimeapi.ContainerState_CONTAINER_RUNNING
}
