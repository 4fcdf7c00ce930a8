package node

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"svcplane/node/probe"
)

// plan is what has to be done so that the runtime holds what the pod asks for.
type plan struct {
	killPod       bool // everything of the pod stops first
	createSandbox bool
	attempt       uint32 // number of the sandbox to create, or of the present one
	kill          []killOne
	start         []*corev1.Container // in this order
}

// killOne is a container that must go.
type killOne struct {
	status    *runtimeapi.ContainerStatus
	container *corev1.Container
	message   string // of the Killing Event
}

// verdicts looks up what the probes say about a container.
type verdicts func(containerID string) (probe.Verdict, bool)

// makePlan compares a pod that is to run with what the runtime holds. It is the pod life cycle of the
// Kubernetes documentation: init containers one after the other, sidecars among them, then the rest; a new
// sandbox means that everything starts again.
func makePlan(pod *corev1.Pod, st *podState, probes verdicts) plan {
	var p plan
	p.createSandbox, p.attempt = sandboxNeeded(pod, st)
	if p.createSandbox {
		return planFresh(pod, st, p)
	}
	for i := range pod.Spec.EphemeralContainers {
		c := (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if st.latest(c.Name) == nil {
			p.start = append(p.start, c)
		}
	}
	if !planInit(pod, st, probes, &p) {
		return p
	}
	keep, starting := 0, 0
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		kept, started := planContainer(pod, c, st, probes, &p)
		keep, starting = keep+kept, starting+started
	}
	if keep == 0 && starting == 0 {
		// Sidecars must not keep a pod alive whose own containers are done.
		p.killPod, p.start = true, nil
	}
	return p
}

func sandboxNeeded(pod *corev1.Pod, st *podState) (need bool, attempt uint32) {
	s, ready := st.sandbox()
	if s == nil {
		return true, 0
	}
	readyOnes := 0
	for _, other := range st.sandboxes {
		if other.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			readyOnes++
		}
	}
	attempt = s.GetMetadata().GetAttempt()
	if readyOnes > 1 || !ready || (!pod.Spec.HostNetwork && len(sandboxIPs(s)) == 0) {
		return true, attempt + 1
	}
	return false, attempt
}

// planFresh plans for a pod that has no usable sandbox.
func planFresh(pod *corev1.Pod, st *podState, p plan) plan {
	p.killPod = len(st.sandboxes) > 0 || len(st.running()) > 0
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever && p.attempt != 0 && len(st.containers) > 0 {
		p.createSandbox = false
		return p
	}
	created := false
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		last := st.latest(c.Name)
		created = created || last != nil
		if !hasExited(last) || podutil.ContainerShouldRestart(*c, pod.Spec, last.ExitCode) {
			p.start = append(p.start, c)
		}
	}
	if len(p.start) == 0 && created {
		p.createSandbox = false
		return p
	}
	if len(pod.Spec.InitContainers) > 0 {
		p.start = []*corev1.Container{&pod.Spec.InitContainers[0]}
	}
	return p
}

// planContainer plans for one of the pod's own containers.
func planContainer(pod *corev1.Pod, c *corev1.Container, st *podState, probes verdicts, p *plan) (keep, start int) {
	last := st.latest(c.Name)
	if !isRunning(last) {
		if !shouldStart(pod, c, last) {
			return 0, 0
		}
		if last != nil && last.State == runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			p.kill = append(p.kill, killOne{last, c, "Container is in an unknown state, try killing it before restart"})
		}
		p.start = append(p.start, c)
		return 0, 1
	}
	message, force := whyKill(c, last, probes, "Container")
	if message == "" {
		return 1, 0
	}
	restart := force || podutil.IsContainerRestartable(pod.Spec, *c)
	if restart {
		message += ", will be restarted"
		p.start = append(p.start, c)
		start = 1
	}
	p.kill = append(p.kill, killOne{last, c, message})
	return 0, start
}

// whyKill says why a running container has to go; force means that it comes back whatever the restart policy.
func whyKill(c *corev1.Container, s *runtimeapi.ContainerStatus, probes verdicts, what string) (message string, force bool) {
	if hash := s.Annotations[annotationHash]; hash != "" && hash != containerHash(c) {
		return fmt.Sprintf("%s %s definition changed", what, c.Name), true
	}
	v, _ := probes(s.Id)
	switch {
	case v.LivenessFailed:
		return fmt.Sprintf("%s %s failed liveness probe", what, c.Name), false
	case v.StartupFailed:
		return fmt.Sprintf("%s %s failed startup probe", what, c.Name), false
	}
	return "", false
}

// shouldStart says whether a container that does not run has to.
func shouldStart(pod *corev1.Pod, c *corev1.Container, last *runtimeapi.ContainerStatus) bool {
	switch {
	case pod.DeletionTimestamp != nil:
		return false
	case last == nil:
		return true
	case isRunning(last):
		return false
	case hasExited(last):
		return podutil.ContainerShouldRestart(*c, pod.Spec, last.ExitCode)
	}
	return true // created and never started, or lost
}

// planInit plans the init containers and says whether the pod's own containers may run.
func planInit(pod *corev1.Pod, st *podState, probes verdicts, p *plan) (initialized bool) {
	inits := pod.Spec.InitContainers
	already := ownStarted(pod, st)
	for i := range inits {
		c := &inits[i]
		last := st.latest(c.Name)
		if podutil.IsRestartableInitContainer(c) {
			if !planSidecar(c, last, probes, p) && !already {
				return false
			}
			continue
		}
		if already || hasExited(last) && last.ExitCode == 0 {
			continue
		}
		switch {
		case isRunning(last):
		case hasExited(last) && !podutil.ContainerShouldRestart(*c, pod.Spec, last.ExitCode):
			p.killPod, p.start = true, nil
		default:
			p.start = append(p.start, c)
		}
		return false
	}
	return true
}

// ownStarted says whether one of the pod's own containers runs in the present sandbox: then every init
// container is done, also one whose remains are gone.
func ownStarted(pod *corev1.Pod, st *podState) bool {
	for i := range pod.Spec.Containers {
		c := st.latest(pod.Spec.Containers[i].Name)
		if isRunning(c) || c != nil && c.State == runtimeapi.ContainerState_CONTAINER_CREATED {
			return true
		}
	}
	return false
}

// planSidecar plans for an init container that keeps running, and says whether it has started.
func planSidecar(c *corev1.Container, last *runtimeapi.ContainerStatus, probes verdicts, p *plan) (started bool) {
	if !isRunning(last) {
		p.start = append(p.start, c)
		return false
	}
	if message, _ := whyKill(c, last, probes, "Init container"); message != "" {
		p.kill = append(p.kill, killOne{last, c, message})
		p.start = append(p.start, c)
		return false
	}
	v, ok := probes(last.Id)
	return ok && v.Started
}
