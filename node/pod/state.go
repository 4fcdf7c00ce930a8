package pod

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// State is what the runtime holds of one pod, newest first.
type State struct {
	Sandboxes  []*runtimeapi.PodSandboxStatus
	Containers []*runtimeapi.ContainerStatus
}

// UID is that of the pod to which something of the runtime belongs.
func UID(labels map[string]string) types.UID { return types.UID(labels[LabelPodUID]) }

// NewState puts what the runtime holds of a pod into its order.
func NewState(sandboxes []*runtimeapi.PodSandboxStatus, containers []*runtimeapi.ContainerStatus) *State {
	slices.SortStableFunc(sandboxes, func(a, b *runtimeapi.PodSandboxStatus) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.GetMetadata().GetAttempt(), a.GetMetadata().GetAttempt()))
	})
	slices.SortStableFunc(containers, func(a, b *runtimeapi.ContainerStatus) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(RestartCount(b), RestartCount(a)))
	})
	return &State{Sandboxes: sandboxes, Containers: containers}
}

// Latest gives the newest container of that name, or nil.
func (st *State) Latest(name string) *runtimeapi.ContainerStatus {
	for _, c := range st.Containers {
		if ContainerName(c) == name {
			return c
		}
	}
	return nil
}

// All gives every container of that name, newest first.
func (st *State) All(name string) []*runtimeapi.ContainerStatus {
	var list []*runtimeapi.ContainerStatus
	for _, c := range st.Containers {
		if ContainerName(c) == name {
			list = append(list, c)
		}
	}
	return list
}

// ContainerName is what the pod calls a container.
func ContainerName(c *runtimeapi.ContainerStatus) string {
	if name := c.Labels[labelContainerName]; name != "" {
		return name
	}
	return c.GetMetadata().GetName()
}

// IsRunning is false for nil.
func IsRunning(c *runtimeapi.ContainerStatus) bool {
	return c != nil && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING
}

// HasExited is false for nil.
func HasExited(c *runtimeapi.ContainerStatus) bool {
	return c != nil && c.State == runtimeapi.ContainerState_CONTAINER_EXITED
}

// Running lists the containers that are not known to be dead.
func (st *State) Running() []*runtimeapi.ContainerStatus {
	var list []*runtimeapi.ContainerStatus
	for _, c := range st.Containers {
		if c.State == runtimeapi.ContainerState_CONTAINER_RUNNING || c.State == runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			list = append(list, c)
		}
	}
	return list
}

// Sandbox gives the newest sandbox, and whether it is ready.
func (st *State) Sandbox() (s *runtimeapi.PodSandboxStatus, ready bool) {
	if len(st.Sandboxes) == 0 {
		return nil, false
	}
	s = st.Sandboxes[0]
	return s, s.State == runtimeapi.PodSandboxState_SANDBOX_READY
}

// Ips are the addresses of the newest sandbox that has some.
func (st *State) Ips() []netip.Addr {
	for _, s := range st.Sandboxes {
		if list := sandboxIPs(s); len(list) > 0 {
			return list
		}
	}
	return nil
}

func sandboxIPs(s *runtimeapi.PodSandboxStatus) []netip.Addr {
	var list []netip.Addr
	if s.GetNetwork() == nil {
		return nil
	}
	texts := []string{s.Network.Ip}
	for _, more := range s.Network.AdditionalIps {
		texts = append(texts, more.Ip)
	}
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			list = append(list, a.Unmap())
		}
	}
	return list
}
