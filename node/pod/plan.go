package pod

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// Plan is what has to be done so that the runtime holds what the pod asks for.
type Plan struct {
	KillPod       bool // everything of the pod stops first
	CreateSandbox bool
	Attempt       uint32 // number of the sandbox to create, or of the present one
	Kill          []Kill
	Start         []*corev1.Container // in this order
}

// Kill is a container that must go.
type Kill struct {
	Status    *runtimeapi.ContainerStatus
	Container *corev1.Container
	Message   string // of the Killing Event
}

// Verdict is what the probes of a container say.
type Verdict struct {
	Started, Ready bool
	StartupFailed  bool // it has to be restarted
	LivenessFailed bool // the same
}

// Verdicts looks up what the probes say about a container.
type Verdicts func(containerID string) (Verdict, bool)

// MakePlan compares a pod that is to run with what the runtime holds. It is the pod life cycle of the
// Kubernetes documentation: init containers one after the other, sidecars among them, then the rest; a new
// sandbox means that everything starts again.
func MakePlan(pod *corev1.Pod, st *State, probes Verdicts) Plan {
	var p Plan
	p.CreateSandbox, p.Attempt = sandboxNeeded(pod, st)
	if p.CreateSandbox {
		return planFresh(pod, st, p)
	}
	for i := range pod.Spec.EphemeralContainers {
		c := (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if st.Latest(c.Name) == nil {
			p.Start = append(p.Start, c)
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
		p.KillPod, p.Start = true, nil
	}
	return p
}

func sandboxNeeded(pod *corev1.Pod, st *State) (need bool, attempt uint32) {
	s, ready := st.Sandbox()
	if s == nil {
		return true, 0
	}
	readyOnes := 0
	for _, other := range st.Sandboxes {
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
func planFresh(pod *corev1.Pod, st *State, p Plan) Plan {
	p.KillPod = len(st.Sandboxes) > 0 || len(st.Running()) > 0
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever && p.Attempt != 0 && len(st.Containers) > 0 {
		p.CreateSandbox = false
		return p
	}
	created := false
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		last := st.Latest(c.Name)
		created = created || last != nil
		if !HasExited(last) || podutil.ContainerShouldRestart(*c, pod.Spec, last.ExitCode) {
			p.Start = append(p.Start, c)
		}
	}
	if len(p.Start) == 0 && created {
		p.CreateSandbox = false
		return p
	}
	if len(pod.Spec.InitContainers) > 0 {
		p.Start = []*corev1.Container{&pod.Spec.InitContainers[0]}
	}
	return p
}

// planContainer plans for one of the pod's own containers.
func planContainer(pod *corev1.Pod, c *corev1.Container, st *State, probes Verdicts, p *Plan) (keep, start int) {
	last := st.Latest(c.Name)
	if !IsRunning(last) {
		if !shouldStart(pod, c, last) {
			return 0, 0
		}
		if last != nil && last.State == runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			p.Kill = append(p.Kill, Kill{last, c, "Container is in an unknown state, try killing it before restart"})
		}
		p.Start = append(p.Start, c)
		return 0, 1
	}
	message, force := whyKill(c, last, probes, "Container")
	if message == "" {
		return 1, 0
	}
	restart := force || podutil.IsContainerRestartable(pod.Spec, *c)
	if restart {
		message += ", will be restarted"
		p.Start = append(p.Start, c)
		start = 1
	}
	p.Kill = append(p.Kill, Kill{last, c, message})
	return 0, start
}

// whyKill says why a running container has to go; force means that it comes back whatever the restart policy.
func whyKill(c *corev1.Container, s *runtimeapi.ContainerStatus, probes Verdicts, what string) (message string, force bool) {
	if hash := s.Annotations[annotationHash]; hash != "" && hash != ContainerHash(c) {
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
	case IsRunning(last):
		return false
	case HasExited(last):
		return podutil.ContainerShouldRestart(*c, pod.Spec, last.ExitCode)
	}
	return true // created and never started, or lost
}

// planInit plans the init containers and says whether the pod's own containers may run.
func planInit(pod *corev1.Pod, st *State, probes Verdicts, p *Plan) (initialized bool) {
	inits := pod.Spec.InitContainers
	already := ownStarted(pod, st)
	for i := range inits {
		c := &inits[i]
		last := st.Latest(c.Name)
		if podutil.IsRestartableInitContainer(c) {
			if !planSidecar(c, last, probes, p) && !already {
				return false
			}
			continue
		}
		if already || HasExited(last) && last.ExitCode == 0 {
			continue
		}
		switch {
		case IsRunning(last):
		case HasExited(last) && !podutil.ContainerShouldRestart(*c, pod.Spec, last.ExitCode):
			p.KillPod, p.Start = true, nil
		default:
			p.Start = append(p.Start, c)
		}
		return false
	}
	return true
}

// ownStarted says whether one of the pod's own containers runs in the present sandbox: then every init
// container is done, also one whose remains are gone.
func ownStarted(pod *corev1.Pod, st *State) bool {
	for i := range pod.Spec.Containers {
		c := st.Latest(pod.Spec.Containers[i].Name)
		if IsRunning(c) || c != nil && c.State == runtimeapi.ContainerState_CONTAINER_CREATED {
			return true
		}
	}
	return false
}

// planSidecar plans for an init container that keeps running, and says whether it has started.
func planSidecar(c *corev1.Container, last *runtimeapi.ContainerStatus, probes Verdicts, p *Plan) (started bool) {
	if !IsRunning(last) {
		p.Start = append(p.Start, c)
		return false
	}
	if message, _ := whyKill(c, last, probes, "Init container"); message != "" {
		p.Kill = append(p.Kill, Kill{last, c, message})
		p.Start = append(p.Start, c)
		return false
	}
	v, ok := probes(last.Id)
	return ok && v.Started
}
