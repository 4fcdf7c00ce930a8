package node

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

func (n *Node) podsDir() string { return filepath.Join(n.cfg.Dir, "pods") }

// register follows pods and what they refer to. Before adoptAll the handlers only see an empty set of
// workers, so nothing happens until the whole state is known.
func (n *Node) register(services, configMaps, secrets cache.SharedIndexInformer) error {
	add := func(what string, inf cache.SharedIndexInformer, f func(o any)) error {
		reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    f,
			UpdateFunc: func(_, o any) { f(o) },
			DeleteFunc: func(o any) {
				if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = last.Obj
				}
				f(o)
			},
		})
		if err != nil {
			return fmt.Errorf("watching %s: %w", what, err)
		}
		n.synced = append(n.synced, reg.HasSynced)
		return nil
	}
	if err := add("pods", n.pods, n.podChanged); err != nil {
		return err
	}
	if err := add("services", services, n.serviceChanged); err != nil {
		return err
	}
	if err := add("config maps", configMaps, func(o any) {
		if cm, ok := o.(*corev1.ConfigMap); ok {
			n.referenceChanged(cm.Namespace, func(p *corev1.Pod) bool { return usesConfigMap(p, cm.Name) })
		}
	}); err != nil {
		return err
	}
	return add("secrets", secrets, func(o any) {
		if s, ok := o.(*corev1.Secret); ok {
			n.referenceChanged(s.Namespace, func(p *corev1.Pod) bool { return usesSecret(p, s.Name) })
		}
	})
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
		defer n.mu.Unlock()
		delete(n.workers, pod.UID)
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
	uid := podUID(labels)
	if uid == "" {
		return // not ours: it does not carry a pod's labels
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.startWorker(podFromLabels(labels, annotations), func() {})
}

func listedRunning(c *runtimeapi.Container) bool {
	return c.State == runtimeapi.ContainerState_CONTAINER_RUNNING
}
