package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/utils/ptr"
)

// ContainerRef names one instance of a container.
type ContainerRef struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	Status    *runtimeapi.ContainerStatus
}

// containerStatuses gives the statuses in the order of the spec, as clients expect it.
func (in *Input) containerStatuses(list []corev1.Container, old []corev1.ContainerStatus, inits bool) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range list {
		c := &list[i]
		before, known := podutil.GetContainerStatus(old, c.Name)
		s := in.fromRuntime(c, before, known, inits)
		s.VolumeMounts = mountStatuses(c)
		in.setWaiting(c, &s, inits)
		in.setReady(c, &s, inits)
		out = append(out, s)
	}
	return out
}

// fromRuntime gives the status of a container by what the runtime holds of it, and by what was reported
// before when it holds nothing.
func (in *Input) fromRuntime(c *corev1.Container, before corev1.ContainerStatus, known, inits bool) corev1.ContainerStatus {
	instances := in.State.All(c.Name)
	if len(instances) == 0 {
		return in.neverSeen(c, before, known, inits)
	}
	s := corev1.ContainerStatus{
		Name:         c.Name,
		Image:        imageName(instances[0], c),
		ImageID:      instances[0].ImageRef,
		ContainerID:  in.Runtime + "://" + instances[0].Id,
		RestartCount: int32(RestartCount(instances[0])),
		State:        in.containerState(c, instances[0]),
		User:         userStatus(instances[0]),
	}
	// Also where there are none: the API takes a running container without for one that its node cannot resize.
	s.Resources, s.AllocatedResources = c.Resources.DeepCopy(), c.Resources.Requests.DeepCopy()
	if in.Actuated != nil && IsRunning(instances[0]) {
		if has, ok := in.Actuated(c.Name); ok {
			s.Resources = has.DeepCopy()
		}
	}
	switch {
	case len(instances) > 1:
		s.LastTerminationState = in.containerState(c, instances[1])
	case known && before.ContainerID == s.ContainerID:
		s.LastTerminationState = before.LastTerminationState
	case known && before.State.Terminated != nil && s.RestartCount > 0:
		s.LastTerminationState = before.State
	}
	return s
}

// userStatus is whom the container's first process began as, if the runtime says so.
func userStatus(s *runtimeapi.ContainerStatus) *corev1.ContainerUser {
	u := s.GetUser().GetLinux()
	if u == nil {
		return nil
	}
	return &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.Uid, GID: u.Gid, SupplementalGroups: u.SupplementalGroups}}
}

func imageName(s *runtimeapi.ContainerStatus, c *corev1.Container) string {
	switch image := s.GetImage(); {
	case image.GetUserSpecifiedImage() != "":
		return image.UserSpecifiedImage
	case image.GetImage() != "" && image.GetImage() != s.ImageRef:
		return image.Image
	}
	return c.Image
}

// neverSeen is the status of a container of which the runtime has nothing.
func (in *Input) neverSeen(c *corev1.Container, before corev1.ContainerStatus, known, inits bool) corev1.ContainerStatus {
	reason := "ContainerCreating"
	if len(in.Pod.Spec.InitContainers) > 0 {
		reason = "PodInitializing"
	}
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
	if !known {
		return s
	}
	s.RestartCount, s.LastTerminationState = before.RestartCount, before.LastTerminationState
	switch {
	case before.State.Terminated != nil:
		return before
	case before.State.Running != nil:
		// It ran and its remains are gone: how it ended is lost, that it ended is not.
		lost := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason:   "ContainerStatusUnknown",
			Message:  "The container could not be located when the pod was deleted.  The container used to be Running",
			ExitCode: 137,
		}}
		if in.Terminal {
			s.State = lost
			return s
		}
		s.LastTerminationState = lost
		s.RestartCount++
	}
	return s
}

func (in *Input) containerState(c *corev1.Container, s *runtimeapi.ContainerStatus) corev1.ContainerState {
	switch s.State {
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stamp(s.StartedAt)}}
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		t := &corev1.ContainerStateTerminated{
			ExitCode:    s.ExitCode,
			Reason:      s.Reason,
			Message:     s.Message,
			StartedAt:   stamp(s.StartedAt),
			FinishedAt:  stamp(s.FinishedAt),
			ContainerID: in.Runtime + "://" + s.Id,
		}
		switch {
		case t.Reason != "":
		case s.ExitCode == 0:
			t.Reason = "Completed"
		default:
			t.Reason = "Error"
		}
		if in.Messages != nil {
			if m := in.Messages(&ContainerRef{in.Pod, c, s}); m != "" {
				t.Message = m
			}
		}
		return corev1.ContainerState{Terminated: t}
	}
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
}

// stamp turns nanoseconds into a time of whole seconds, which is what the API keeps.
func stamp(nanos int64) metav1.Time {
	if nanos == 0 {
		return metav1.Time{}
	}
	return metav1.NewTime(time.Unix(0, nanos).Truncate(time.Second))
}

// setWaiting says of a container that is to be started and could not be why that is.
func (in *Input) setWaiting(c *corev1.Container, s *corev1.ContainerStatus, inits bool) {
	reason, ok := in.Waiting[c.Name]
	last := in.State.Latest(c.Name)
	if !ok || in.Terminal || s.State.Running != nil || !shouldStart(in.Pod, c, last) {
		return
	}
	if inits && HasExited(last) && last.ExitCode == 0 && !podutil.IsRestartableInitContainer(c) {
		return
	}
	if s.State.Terminated != nil {
		s.LastTerminationState = s.State
	}
	s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason.Reason, Message: reason.Message}}
}

// setReady fills started and ready by the probes. An init container is ready when it has succeeded.
func (in *Input) setReady(c *corev1.Container, s *corev1.ContainerStatus, inits bool) {
	started := false
	switch {
	case s.State.Running != nil:
		v, known := in.Probes(in.State.Latest(c.Name).Id)
		started = known && v.Started
		s.Ready = known && v.Ready && started
	case inits && !podutil.IsRestartableInitContainer(c):
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
	}
	if inits && !podutil.IsRestartableInitContainer(c) {
		s.Ready = s.Ready && s.State.Terminated != nil
	}
	s.Started = ptr.To(started)
}

func mountStatuses(c *corev1.Container) []corev1.VolumeMountStatus {
	var list []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			s.RecursiveReadOnly = ptr.To(corev1.RecursiveReadOnlyDisabled)
		}
		list = append(list, s)
	}
	return list
}
