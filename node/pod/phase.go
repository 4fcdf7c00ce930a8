package pod

import (
	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// terminationOf gives how a container ended last, when it is not running and did run.
func terminationOf(s *corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	if s.State.Terminated != nil {
		return s.State.Terminated
	}
	if s.State.Waiting != nil {
		return s.LastTerminationState.Terminated
	}
	return nil
}

// addInit counts an init container.
func (n *phaseCount) addInit(spec *corev1.PodSpec, c *corev1.Container, all []corev1.ContainerStatus) {
	s, known := podutil.GetContainerStatus(all, c.Name)
	if podutil.IsRestartableInitContainer(c) {
		n.addSidecar(&s, known)
		return
	}
	end := terminationOf(&s)
	switch {
	case !known, s.State.Running != nil, end == nil:
		n.pendingInit++
	case end.ExitCode != 0:
		if podutil.ContainerShouldRestart(*c, *spec, end.ExitCode) {
			n.pendingInit++
		} else {
			n.initDead++
		}
	}
}

// addSidecar counts an init container that keeps running. One that ended does not matter to the phase.
func (n *phaseCount) addSidecar(s *corev1.ContainerStatus, known bool) {
	switch {
	case !known:
		n.unknown++
	case s.State.Running != nil:
		if s.Started == nil || !*s.Started {
			n.pendingSidecars++
		}
		n.running++
	case s.State.Terminated != nil:
	case s.LastTerminationState.Terminated == nil:
		n.pendingSidecars++
		n.waiting++
	}
}

// addOwn counts one of the pod's own containers.
func (n *phaseCount) addOwn(spec *corev1.PodSpec, c *corev1.Container, all []corev1.ContainerStatus) {
	s, known := podutil.GetContainerStatus(all, c.Name)
	end := terminationOf(&s)
	switch {
	case !known:
		n.unknown++
	case s.State.Running != nil:
		n.running++
	case end != nil:
		n.stopped++
		if !podutil.ContainerShouldRestart(*c, *spec, end.ExitCode) {
			n.stoppedForGood++
		}
		if s.State.Terminated != nil && end.ExitCode == 0 {
			n.succeeded++
		}
	case s.State.Waiting != nil:
		n.waiting++
	default:
		n.unknown++
	}
}
