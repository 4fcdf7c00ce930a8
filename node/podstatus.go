package node

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// why is a reason and a message for a container that does not run yet.
type why struct{ reason, message string }

// statusInput is everything that the status of a pod depends on.
type statusInput struct {
	pod      *corev1.Pod
	old      corev1.PodStatus // what was reported last
	state    *podState
	probes   verdicts
	waiting  map[string]why // by container: why its last start did not succeed
	runtime  string         // name of the runtime, for container ids
	hostIPs  []netip.Addr
	terminal bool // nothing of the pod will be started again
	failed   *why // the pod as a whole was failed, by its deadline for example
	messages func(*containerRef) string
	now      time.Time
}

// makeStatus derives the status of a pod. It is pure but for messages, which reads termination messages.
func makeStatus(in statusInput) corev1.PodStatus {
	s := *in.old.DeepCopy()
	s.ObservedGeneration = in.pod.Generation
	if s.StartTime == nil {
		s.StartTime = &metav1.Time{Time: in.now.Truncate(time.Second)}
	}
	if !in.rejected() {
		s.InitContainerStatuses = in.containerStatuses(in.pod.Spec.InitContainers, in.old.InitContainerStatuses, true)
		s.ContainerStatuses = in.containerStatuses(in.pod.Spec.Containers, in.old.ContainerStatuses, false)
		s.EphemeralContainerStatuses = in.containerStatuses(ephemeral(in.pod), in.old.EphemeralContainerStatuses, false)
	}
	all := append(append([]corev1.ContainerStatus{}, s.ContainerStatuses...), s.InitContainerStatuses...)
	s.Phase = in.phase(all)
	in.setIPs(&s)
	in.setConditions(&s, all)
	return s
}

// rejected says whether the pod was failed before anything of it was begun. Its containers have no status then, so that
// `kubectl get` shows why.
func (in *statusInput) rejected() bool {
	return in.failed != nil && len(in.state.sandboxes) == 0 && len(in.old.ContainerStatuses) == 0
}

func ephemeral(pod *corev1.Pod) []corev1.Container {
	var list []corev1.Container
	for i := range pod.Spec.EphemeralContainers {
		list = append(list, corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return list
}

// phase keeps a phase that is final, and otherwise counts containers.
func (in *statusInput) phase(all []corev1.ContainerStatus) corev1.PodPhase {
	if phase := in.old.Phase; phase == corev1.PodFailed || phase == corev1.PodSucceeded {
		return phase
	}
	if in.failed != nil {
		return corev1.PodFailed
	}
	return podPhase(in.pod, all, in.terminal, ownStarted(in.pod, in.state))
}

// setIPs keeps the addresses that were reported while the pod has a sandbox no more: they say where it was.
func (in *statusInput) setIPs(s *corev1.PodStatus) {
	s.HostIP, s.HostIPs = "", nil
	for _, a := range in.hostIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: a.String()})
	}
	if len(s.HostIPs) > 0 {
		s.HostIP = s.HostIPs[0].IP
	}
	ips := in.podIPs()
	if len(ips) == 0 {
		return
	}
	s.PodIPs = nil
	for _, a := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: a.String()})
	}
	s.PodIP = s.PodIPs[0].IP
}

func (in *statusInput) podIPs() []netip.Addr {
	if in.pod.Spec.HostNetwork {
		if len(in.state.sandboxes) == 0 {
			return nil
		}
		return in.hostIPs
	}
	if s, ready := in.state.sandbox(); ready {
		return sandboxIPs(s)
	}
	return nil
}

// tally of containers by what they do, for the phase.
type phaseCount struct {
	pendingInit, pendingSidecars                 int
	unknown, running, waiting                    int
	stopped, stoppedForGood, succeeded, initDead int
}

// podPhase is the pod phase of the Kubernetes documentation ("Pod phase").
func podPhase(pod *corev1.Pod, all []corev1.ContainerStatus, terminal, initialized bool) corev1.PodPhase {
	var n phaseCount
	for i := range pod.Spec.InitContainers {
		n.addInit(&pod.Spec, &pod.Spec.InitContainers[i], all)
	}
	for i := range pod.Spec.Containers {
		n.addOwn(&pod.Spec, &pod.Spec.Containers[i], all)
	}
	switch {
	case n.initDead > 0:
		return corev1.PodFailed
	case n.pendingInit > 0, n.pendingSidecars > 0 && !initialized, n.waiting > 0:
		if terminal {
			// A pod that goes away before it ran has not failed by itself, and never will run.
			return corev1.PodFailed
		}
		return corev1.PodPending
	case n.running > 0 && n.unknown == 0:
		return corev1.PodRunning
	case n.stopped > 0 && n.unknown == 0:
		if !terminal && n.stopped != n.stoppedForGood {
			return corev1.PodRunning // some are about to be restarted
		}
		if n.stopped == n.succeeded {
			return corev1.PodSucceeded
		}
		return corev1.PodFailed
	}
	return corev1.PodPending
}
