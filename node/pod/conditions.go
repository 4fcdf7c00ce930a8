package pod

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// setConditions writes the conditions that a node owns and keeps all others.
func (in *Input) setConditions(s *corev1.PodStatus, all []corev1.ContainerStatus) {
	_, sandboxReady := in.State.Sandbox()
	in.set(s, corev1.PodReadyToStartContainers, sandboxReady && len(in.podIPs()) > 0, Why{})
	initialized, initWhy := in.initialized(s.Phase, all)
	in.set(s, corev1.PodInitialized, initialized, initWhy)
	ready, readyWhy := in.containersReady(s.Phase, all)
	in.set(s, corev1.ContainersReady, ready, readyWhy)
	if ready {
		ready, readyWhy = gates(in.Pod, s)
	}
	in.set(s, corev1.PodReady, ready, readyWhy)
	in.setResizing(s)
	if _, c := podutil.GetPodCondition(s, corev1.PodScheduled); c == nil {
		// A pod that names its node itself never saw the binder.
		in.set(s, corev1.PodScheduled, true, Why{})
	}
}

// setResizing replaces the conditions of a resize, which are there only while they are true.
func (in *Input) setResizing(s *corev1.PodStatus) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress
	})
	if s.Phase != corev1.PodFailed && s.Phase != corev1.PodSucceeded {
		s.Conditions = append(s.Conditions, in.Resizing...)
	}
}

// set writes one condition; the transition time moves only with the status.
func (in *Input) set(s *corev1.PodStatus, kind corev1.PodConditionType, is bool, because Why) {
	c := corev1.PodCondition{
		Type:               kind,
		Status:             corev1.ConditionFalse,
		Reason:             because.Reason,
		Message:            because.Message,
		ObservedGeneration: in.Pod.Generation,
		LastTransitionTime: metav1.NewTime(in.Now.Truncate(1e9)),
	}
	if is {
		c.Status = corev1.ConditionTrue
	}
	i, old := podutil.GetPodCondition(s, kind)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	c.LastProbeTime = old.LastProbeTime
	s.Conditions[i] = c
}

func (in *Input) initialized(phase corev1.PodPhase, all []corev1.ContainerStatus) (bool, Why) {
	var unknown, incomplete []string
	for i := range in.Pod.Spec.InitContainers {
		c := &in.Pod.Spec.InitContainers[i]
		s, ok := podutil.GetContainerStatus(all, c.Name)
		switch {
		case !ok:
			unknown = append(unknown, c.Name)
		case podutil.IsRestartableInitContainer(c) && (s.Started == nil || !*s.Started):
			incomplete = append(incomplete, c.Name)
		case !podutil.IsRestartableInitContainer(c) && !s.Ready:
			incomplete = append(incomplete, c.Name)
		}
	}
	if phase == corev1.PodSucceeded && unknown == nil {
		return true, Why{Reason: "PodCompleted"}
	}
	if text := listed(unknown, "unknown", incomplete, "incomplete"); text != "" && !everStarted(in.Pod, all) {
		return false, Why{"ContainersNotInitialized", text}
	}
	return true, Why{}
}

// everStarted says whether one of the pod's own containers has run: then the pod was initialized, also while
// a sidecar restarts.
func everStarted(pod *corev1.Pod, all []corev1.ContainerStatus) bool {
	for i := range pod.Spec.Containers {
		s, ok := podutil.GetContainerStatus(all, pod.Spec.Containers[i].Name)
		if ok && (s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil) {
			return true
		}
	}
	return false
}

func (in *Input) containersReady(phase corev1.PodPhase, all []corev1.ContainerStatus) (bool, Why) {
	switch phase {
	case corev1.PodSucceeded:
		return false, Why{Reason: "PodCompleted"}
	case corev1.PodFailed:
		return false, Why{Reason: "PodFailed"}
	}
	var unknown, unready []string
	look := func(c *corev1.Container) {
		switch s, ok := podutil.GetContainerStatus(all, c.Name); {
		case !ok:
			unknown = append(unknown, c.Name)
		case !s.Ready:
			unready = append(unready, c.Name)
		}
	}
	for i := range in.Pod.Spec.InitContainers {
		if c := &in.Pod.Spec.InitContainers[i]; podutil.IsRestartableInitContainer(c) {
			look(c)
		}
	}
	for i := range in.Pod.Spec.Containers {
		look(&in.Pod.Spec.Containers[i])
	}
	if text := listed(unknown, "unknown", unready, "unready"); text != "" {
		return false, Why{"ContainersNotReady", text}
	}
	return true, Why{}
}

// listed words two lists of containers as Kubernetes does.
func listed(a []string, aIs string, b []string, bIs string) string {
	var parts []string
	if len(a) > 0 {
		parts = append(parts, fmt.Sprintf("containers with %s status: %s", aIs, a))
	}
	if len(b) > 0 {
		parts = append(parts, fmt.Sprintf("containers with %s status: %s", bIs, b))
	}
	return strings.Join(parts, ", ")
}

// gates evaluates spec.readinessGates against the conditions that others have set.
func gates(pod *corev1.Pod, s *corev1.PodStatus) (bool, Why) {
	var missing []string
	for _, g := range pod.Spec.ReadinessGates {
		_, c := podutil.GetPodCondition(s, g.ConditionType)
		if c == nil {
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(g.ConditionType)))
		} else if c.Status != corev1.ConditionTrue {
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(g.ConditionType), c.Status))
		}
	}
	if missing != nil {
		return false, Why{"ReadinessGatesNotReady", strings.Join(missing, ", ")}
	}
	return true, Why{}
}
