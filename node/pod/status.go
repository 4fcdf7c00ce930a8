package pod

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Why is a reason and a message for a container that does not run yet.
type Why struct{ Reason, Message string }

// Input is everything that the status of a pod depends on.
type Input struct {
	Pod      *corev1.Pod
	Old      corev1.PodStatus // what was reported last
	State    *State
	Probes   Verdicts
	Waiting  map[string]Why // by container: why its last start did not succeed
	Runtime  string         // name of the runtime, for container ids
	HostIPs  []netip.Addr
	Terminal bool // nothing of the pod will be started again
	Failed   *Why // the pod as a whole was failed, by its deadline for example
	Messages func(*ContainerRef) string
	Now      time.Time
	Resizing []corev1.PodCondition // of a resize that waits, or is under way
	// Actuated is what a running container has; nil: what the pod says.
	Actuated func(container string) (corev1.ResourceRequirements, bool)
}

// MakeStatus derives the status of a pod. It is pure but for messages, which reads termination messages.
func MakeStatus(in Input) corev1.PodStatus {
	s := *in.Old.DeepCopy()
	s.ObservedGeneration = in.Pod.Generation
	if s.StartTime == nil {
		s.StartTime = &metav1.Time{Time: in.Now.Truncate(time.Second)}
	}
	if !in.rejected() {
		s.InitContainerStatuses = in.containerStatuses(in.Pod.Spec.InitContainers, in.Old.InitContainerStatuses, true)
		s.ContainerStatuses = in.containerStatuses(in.Pod.Spec.Containers, in.Old.ContainerStatuses, false)
		s.EphemeralContainerStatuses = in.containerStatuses(Ephemeral(in.Pod), in.Old.EphemeralContainerStatuses, false)
	}
	if whole := in.Pod.Spec.Resources; whole != nil {
		s.AllocatedResources, s.Resources = whole.Requests.DeepCopy(), whole.DeepCopy()
	}
	all := append(append([]corev1.ContainerStatus{}, s.ContainerStatuses...), s.InitContainerStatuses...)
	s.Phase = in.phase(all)
	in.setIPs(&s)
	in.setConditions(&s, all)
	return s
}

// rejected says whether the pod was failed before anything of it was begun. Its containers have no status then, so that
// `kubectl get` shows why.
func (in *Input) rejected() bool {
	return in.Failed != nil && len(in.State.Sandboxes) == 0 && len(in.Old.ContainerStatuses) == 0
}

// Ephemeral are the containers that were added to debug the pod.
func Ephemeral(pod *corev1.Pod) []corev1.Container {
	var list []corev1.Container
	for i := range pod.Spec.EphemeralContainers {
		list = append(list, corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return list
}

// phase keeps a phase that is final, and otherwise counts containers.
func (in *Input) phase(all []corev1.ContainerStatus) corev1.PodPhase {
	if phase := in.Old.Phase; phase == corev1.PodFailed || phase == corev1.PodSucceeded {
		return phase
	}
	if in.Failed != nil {
		return corev1.PodFailed
	}
	return podPhase(in.Pod, all, in.Terminal, ownStarted(in.Pod, in.State))
}

// setIPs keeps the addresses that were reported while the pod has a sandbox no more: they say where it was.
func (in *Input) setIPs(s *corev1.PodStatus) {
	s.HostIP, s.HostIPs = "", nil
	for _, a := range in.HostIPs {
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

func (in *Input) podIPs() []netip.Addr {
	if in.Pod.Spec.HostNetwork {
		if len(in.State.Sandboxes) == 0 {
			return nil
		}
		return in.HostIPs
	}
	if s, ready := in.State.Sandbox(); ready {
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
