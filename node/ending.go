package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	podplan "svcplane/node/pod"
)

const (
	defaultGrace = 30 * time.Second
	// forcedGrace is left to a pod whose object is gone already: it was deleted by force.
	forcedGrace = 2 * time.Second
	// minStop is left to a process in any case after hooks have used up the grace period (kubelet).
	minStop = 2 * time.Second
	// maxDrain bounds the wait for the data planes to drop a pod, next to half of the grace period.
	maxDrain = 10 * time.Second
)

func graceOf(pod *corev1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return defaultGrace
}

// endGrace is how long the pod's processes may take to end.
func (w *worker) endGrace(exists bool) time.Duration {
	switch {
	case !exists && w.known:
		return forcedGrace
	case exists && w.pod.DeletionGracePeriodSeconds != nil:
		return time.Duration(*w.pod.DeletionGracePeriodSeconds) * time.Second
	case w.evicted.Load() != nil:
		return min(evictGrace, graceOf(w.pod))
	}
	return graceOf(w.pod)
}

// killing is the end of a pod, under way.
type killing struct {
	deadline time.Time
	cancel   context.CancelFunc
	done     chan struct{}
	err      error // readable after done
}

// abandon stops waiting for processes to end; signals that were sent stay sent.
func (k *killing) abandon() {
	k.cancel()
	<-k.done
}

// syncEnding stops everything of the pod, and when nothing runs any more, reports the last status and removes
// what is left. A pod that only finished keeps its containers and logs until it is deleted.
func (w *worker) syncEnding(ctx context.Context, st *podplan.State, exists bool) (time.Duration, bool) {
	w.n.probes.Terminating(w.first.UID)
	alive := len(st.Running()) > 0
	for _, s := range st.Sandboxes {
		alive = alive || s.State == runtimeapi.PodSandboxState_SANDBOX_READY
	}
	if alive || w.ending != nil {
		if err := w.ensureKilling(ctx, st, w.endGrace(exists)); err != nil {
			return w.retry(ctx, err), false
		}
		if err := w.report(ctx, st, false); err != nil {
			return w.retry(ctx, err), false
		}
		if w.ending == nil {
			return 0, false // it is over: look what is left
		}
		return idle, false
	}
	deleted := !exists || w.pod.DeletionTimestamp != nil
	if err := w.finish(ctx, st, exists, deleted); err != nil {
		return w.retry(ctx, err), false
	}
	w.failures = 0
	return idle, deleted
}

// ensureKilling starts to stop the pod, or starts again when it has less time than before. w.ending is nil
// when everything was stopped.
func (w *worker) ensureKilling(ctx context.Context, st *podplan.State, grace time.Duration) error {
	if k := w.ending; k != nil {
		select {
		case <-k.done:
			w.ending = nil
			return k.err
		default:
		}
		if time.Now().Add(grace + time.Second).After(k.deadline) {
			return nil
		}
		k.abandon()
	}
	ctx, cancel := context.WithCancel(ctx)
	k := &killing{deadline: time.Now().Add(grace), cancel: cancel, done: make(chan struct{})}
	w.ending = k
	pod := w.pod
	go func() {
		defer w.poke()
		defer close(k.done)
		defer cancel()
		w.n.drain(ctx, pod, st, grace)
		k.err = w.n.stopPod(ctx, pod, st, time.Until(k.deadline))
	}()
	return nil
}

// drain waits until no data plane sends new connections to the pod. It gives up after half of the grace
// period: then a few requests may be lost, but the process keeps enough time to end well.
func (n *Node) drain(ctx context.Context, pod *corev1.Pod, st *podplan.State, grace time.Duration) {
	if n.cfg.Catalog == nil || pod.Spec.HostNetwork || len(st.Running()) == 0 {
		// The address of a host-network pod is the node's: other endpoints keep it in service.
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(grace/2, maxDrain))
	defer cancel()
	for _, ip := range st.Ips() {
		if err := n.cfg.Catalog.Drained(ctx, ip); err != nil {
			klog.InfoS("A pod is stopped before every data plane has dropped it", "pod", klog.KObj(pod), "ip", ip, "reason", err)
			return
		}
	}
}

// stopPod stops every container, sidecars after the others and in reverse order, and then the sandboxes.
func (n *Node) stopPod(ctx context.Context, pod *corev1.Pod, st *podplan.State, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	var wg sync.WaitGroup
	var sidecars []*runtimeapi.ContainerStatus
	running := st.Running()
	errs := make([]error, len(running))
	for i, c := range running {
		if isSidecar(pod, podplan.ContainerName(c)) {
			sidecars = append(sidecars, c)
			continue
		}
		wg.Go(func() { errs[i] = n.stopContainer(ctx, pod, nil, c, grace, "") })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i := len(pod.Spec.InitContainers) - 1; i >= 0; i-- {
		for _, c := range sidecars {
			if podplan.ContainerName(c) != pod.Spec.InitContainers[i].Name {
				continue
			}
			if err := n.stopContainer(ctx, pod, nil, c, time.Until(deadline), ""); err != nil {
				return err
			}
		}
	}
	for _, s := range st.Sandboxes {
		if err := n.cfg.Runtime.StopPodSandbox(ctx, s.Id); err != nil && !gone(err) {
			return fmt.Errorf("stopping sandbox %s of pod %s: %w", s.Id, podText(pod), err)
		}
	}
	return nil
}

// stopContainer runs the preStop hook and stops the process, both within grace; the process has at least
// minStop of it.
func (n *Node) stopContainer(ctx context.Context, pod *corev1.Pod, c *corev1.Container, s *runtimeapi.ContainerStatus, grace time.Duration, message string) error {
	name := podplan.ContainerName(s)
	if c == nil {
		if c = findContainer(pod, name); c == nil {
			c = &corev1.Container{Name: name, Lifecycle: rememberedPreStop(s)}
		}
	}
	if message == "" {
		message = "Stopping container " + name
	}
	n.cfg.Recorder.Event(objectRef(pod, c), corev1.EventTypeNormal, "Killing", message)
	begin := time.Now()
	if grace > 0 && podplan.IsRunning(s) {
		n.preStop(ctx, pod, c, s, grace)
	}
	left := max(grace-time.Since(begin), min(grace, minStop), time.Second)
	// Rounded up: a second too few would kill what was just about to end.
	seconds := int64((left + time.Second - 1) / time.Second)
	if err := n.cfg.Runtime.StopContainer(ctx, s.Id, seconds); err != nil && !gone(err) {
		return fmt.Errorf("stopping container %s of pod %s: %w", name, podText(pod), err)
	}
	return nil
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers, podplan.Ephemeral(pod)} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// finish reports how the pod ended, frees what it held, and deletes its object if that was asked for.
func (w *worker) finish(ctx context.Context, st *podplan.State, exists, deleted bool) error {
	if err := w.report(ctx, st, true); err != nil {
		return err
	}
	if err := w.n.volumes.Teardown(w.first.UID); err != nil {
		return err
	}
	w.mounted = nil
	if !deleted {
		return nil
	}
	for _, c := range st.Containers {
		if err := w.n.cfg.Runtime.RemoveContainer(ctx, c.Id); err != nil && !gone(err) {
			return fmt.Errorf("removing container %s of pod %s: %w", podplan.ContainerName(c), podText(w.first), err)
		}
	}
	for _, s := range st.Sandboxes {
		if err := w.n.cfg.Runtime.RemovePodSandbox(ctx, s.Id); err != nil && !gone(err) {
			return fmt.Errorf("removing sandbox %s of pod %s: %w", s.Id, podText(w.first), err)
		}
	}
	if exists {
		if err := w.deleteObject(ctx); err != nil {
			return err
		}
	}
	w.n.images.forget(w.first)
	for i := range w.pod.Spec.Containers {
		w.n.crash.DeleteEntry(crashKey(w.pod, &w.pod.Spec.Containers[i]))
	}
	return errors.Join(os.RemoveAll(w.n.podDir(w.first)), os.RemoveAll(w.n.logDir(w.first)))
}

// deleteObject removes the pod from the API for good, if it is still this very pod.
func (w *worker) deleteObject(ctx context.Context) error {
	zero, uid := int64(0), w.first.UID
	err := w.n.oneByOne(ctx, func() error {
		return w.n.cfg.Client.CoreV1().Pods(w.first.Namespace).Delete(ctx, w.first.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &zero,
			Preconditions:      &metav1.Preconditions{UID: &uid},
		})
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting pod %s: %w", podText(w.first), err)
	}
	return nil
}
