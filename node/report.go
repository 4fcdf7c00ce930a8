package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	podplan "svcplane/node/pod"
)

// report derives the status of the pod and writes it to the API if it says something new.
// It is not interrupted: what it takes is short, and half a request helps nobody.
func (w *worker) report(ctx context.Context, st *podplan.State, terminal bool) error {
	status := podplan.MakeStatus(podplan.Input{
		Pod:      w.pod,
		Old:      w.merged(),
		State:    st,
		Probes:   w.n.probes.Verdict,
		Waiting:  w.waiting,
		Runtime:  w.n.runtimeName,
		HostIPs:  *w.n.addrs.Load(),
		Terminal: terminal,
		Failed:   w.failed,
		Messages: w.n.message,
		Now:      time.Now(),
		Resizing: w.resizing(),
		Actuated: w.has,
	})
	if w.failed != nil && status.Phase == corev1.PodFailed {
		status.Reason, status.Message = w.failed.Reason, w.failed.Message
		if w.failed.Reason == reasonNodePorts {
			forgetUnstarted(&status)
		}
	}
	w.status = status
	w.mu.Lock()
	w.current = status.Phase
	w.mu.Unlock()
	if _, exists := w.n.lookup(w.first); !exists {
		return nil
	}
	if err := w.write(w.lifetime); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// forgetUnstarted leaves out containers that never ran and never will, as the kubelet does for a pod that it turned away: as
// long as one waits, kubectl shows what for, and not why the pod has failed.
func forgetUnstarted(s *corev1.PodStatus) {
	for _, all := range []*[]corev1.ContainerStatus{&s.InitContainerStatuses, &s.ContainerStatuses, &s.EphemeralContainerStatuses} {
		*all = slices.DeleteFunc(*all, func(c corev1.ContainerStatus) bool {
			return c.State.Waiting != nil && c.LastTerminationState.Terminated == nil
		})
	}
}

// merged is the last report with the conditions that others have written in the meantime.
func (w *worker) merged() corev1.PodStatus {
	s := *w.status.DeepCopy()
	now := w.newest()
	for _, c := range foreign(now.Status.Conditions) {
		setCondition(&s, c)
	}
	s.QOSClass, s.NominatedNodeName = now.Status.QOSClass, now.Status.NominatedNodeName
	return s
}

func nodeOwns(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers,
		corev1.PodResizePending, corev1.PodResizeInProgress:
		return true
	}
	return false
}

func setCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	for i := range s.Conditions {
		if s.Conditions[i].Type == c.Type {
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

// newest is the later of what the informer has and what the last patch returned.
func (w *worker) newest() *corev1.Pod {
	if w.base == nil || w.base.UID != w.pod.UID {
		return w.pod
	}
	order, err := resourceversion.CompareResourceVersion(w.base.ResourceVersion, w.pod.ResourceVersion)
	if err != nil || order < 0 {
		return w.pod
	}
	return w.base
}

// write patches the status subresource with what differs. The UID in the patch makes the API refuse it when
// the name belongs to another pod by now.
func (w *worker) write(ctx context.Context) error {
	now := w.newest()
	if equality.Semantic.DeepEqual(now.Status, w.status) {
		return nil
	}
	before, err := json.Marshal(corev1.Pod{Status: now.Status})
	if err != nil {
		return fmt.Errorf("encoding the status of pod %s: %w", podText(now), err)
	}
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: now.UID}, Status: w.status})
	if err != nil {
		return fmt.Errorf("encoding the status of pod %s: %w", podText(now), err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return fmt.Errorf("comparing the statuses of pod %s: %w", podText(now), err)
	}
	var updated *corev1.Pod
	err = w.n.oneByOne(ctx, func() (err error) {
		updated, err = w.n.cfg.Client.CoreV1().Pods(now.Namespace).Patch(ctx, now.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // the pod is gone, or another one has its name: the informer tells
	}
	if err != nil {
		return fmt.Errorf("writing the status of pod %s: %w", podText(now), err)
	}
	w.base = updated
	if sameButStatus(updated, w.pod) {
		w.wrote.Store(&updated.ResourceVersion)
	}
	return nil
}

// oneByOne has one worker at a time write to the API, as the kubelet's status manager does: when many pods end at once, what
// that costs does not stand in the way of everything else in the process.
func (n *Node) oneByOne(ctx context.Context, write func() error) error {
	select {
	case n.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-n.writing }()
	return write()
}

// sameButStatus says whether what we wrote brought nothing back that others have changed: an informer may show
// both changes as one.
func sameButStatus(a, b *corev1.Pod) bool {
	return a.Generation == b.Generation && a.DeletionTimestamp.Equal(b.DeletionTimestamp) &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(foreign(a.Status.Conditions), foreign(b.Status.Conditions))
}

// foreign are the conditions that others write.
func foreign(list []corev1.PodCondition) []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, c := range list {
		if !nodeOwns(c.Type) {
			out = append(out, c)
		}
	}
	return out
}

// maxMessage bounds a termination message (Kubernetes: "Customizing the termination message").
const (
	maxMessage      = 4096
	maxMessageLines = 80
)

// message reads what a container left in its termination message file, or the end of its log if it failed
// without one and terminationMessagePolicy asks for that.
func (n *Node) message(ref *podplan.ContainerRef) string {
	text := tail(n.messageFile(ref.Pod, ref.Container.Name, ref.Status.GetMetadata().GetAttempt()), maxMessage)
	if text != "" || ref.Status.ExitCode == 0 || ref.Container.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
		return text
	}
	return lastLogLines(ref.Status.GetLogPath(), maxMessage/2, maxMessageLines)
}

// tail reads at most limit bytes from the end of a file; what cannot be read is empty.
func tail(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > limit && !seekEnd(f, limit) {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return ""
	}
	return string(data)
}

func seekEnd(f *os.File, limit int64) bool {
	_, err := f.Seek(-limit, io.SeekEnd)
	return err == nil
}
