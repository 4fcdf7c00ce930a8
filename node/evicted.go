package node

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"svcplane/node/eviction"
	podplan "svcplane/node/pod"
)

// evict ends the pod; its status says why.
func (w *worker) evict(e eviction.Eviction) {
	w.evicted.Store(&e)
	w.interrupt()
	w.poke()
}

// takeEviction fails the pod if it was evicted.
func (w *worker) takeEviction() {
	e := w.evicted.Load()
	if e == nil || w.failed != nil || isFinal(w.status.Phase) {
		return
	}
	w.failed = &podplan.Why{Reason: eviction.Reason, Message: e.Message}
	if e.Disrupted {
		setCondition(&w.status, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: e.Message,
			LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second)), ObservedGeneration: w.pod.Generation,
		})
	}
}

// refusePressed fails a pod that has not begun yet, if the node takes none like it for now.
func (w *worker) refusePressed() bool {
	message := eviction.Refuse(w.n.evictor.now(), w.pod)
	if message == "" {
		return false
	}
	w.failed = &podplan.Why{Reason: eviction.Reason, Message: "Pod was rejected: " + message}
	w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeWarning, eviction.Reason, message)
	return true
}

// reclaim frees what no pod needs before pods have to go; false: there is nothing of the kind for this signal.
func (e *evictor) reclaim(ctx context.Context, short eviction.Signal, imageDisk bool) bool {
	switch short {
	case eviction.NodeFsAvailable, eviction.NodeFsInodesFree:
		if imageDisk {
			return false
		}
	case eviction.ImageFsAvailable, eviction.ImageFsInodesFree, eviction.ContainerFsAvailable, eviction.ContainerFsInodes:
	default:
		return false
	}
	if err := errors.Join(e.n.removeDead(ctx), e.n.gc.DeleteUnused(ctx)); err != nil {
		klog.ErrorS(err, "Removing containers that have ended and images that none has, since the disk runs full")
	}
	return true
}

// removeDead removes the containers of pods that have ended. Their statuses stay, and their logs.
func (n *Node) removeDead(ctx context.Context) error {
	var errs []error
	for _, pod := range n.own() {
		if !isFinal(pod.Status.Phase) {
			continue
		}
		st, err := readState(ctx, n.cfg.Runtime, pod.UID)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range st.Containers {
			if !podplan.HasExited(c) {
				continue
			}
			if err := n.cfg.Runtime.RemoveContainer(ctx, c.Id); err != nil && !gone(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// imageDisk says whether images lie on another disk than volumes and logs.
func (n *Node) imageDisk(ctx context.Context) bool {
	info, err := n.cfg.Images.ImageFsInfo(ctx)
	if err != nil || len(info.GetImageFilesystems()) == 0 {
		return false
	}
	var images, own unix.Stat_t
	if unix.Stat(info.ImageFilesystems[0].GetFsId().GetMountpoint(), &images) != nil || unix.Stat(n.cfg.Dir, &own) != nil {
		return false
	}
	return images.Dev != own.Dev
}
