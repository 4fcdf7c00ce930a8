package node

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podState is what the runtime holds of one pod, newest first.
type podState struct {
	sandboxes  []*runtimeapi.PodSandboxStatus
	containers []*runtimeapi.ContainerStatus
}

func podUID(labels map[string]string) types.UID { return types.UID(labels[labelPodUID]) }

// newState puts what the runtime holds of a pod into its order.
func newState(sandboxes []*runtimeapi.PodSandboxStatus, containers []*runtimeapi.ContainerStatus) *podState {
	slices.SortStableFunc(sandboxes, func(a, b *runtimeapi.PodSandboxStatus) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.GetMetadata().GetAttempt(), a.GetMetadata().GetAttempt()))
	})
	slices.SortStableFunc(containers, func(a, b *runtimeapi.ContainerStatus) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(restartCount(b), restartCount(a)))
	})
	return &podState{sandboxes: sandboxes, containers: containers}
}

// latest gives the newest container of that name, or nil.
func (st *podState) latest(name string) *runtimeapi.ContainerStatus {
	for _, c := range st.containers {
		if containerName(c) == name {
			return c
		}
	}
	return nil
}

// all gives every container of that name, newest first.
func (st *podState) all(name string) []*runtimeapi.ContainerStatus {
	var list []*runtimeapi.ContainerStatus
	for _, c := range st.containers {
		if containerName(c) == name {
			list = append(list, c)
		}
	}
	return list
}

func containerName(c *runtimeapi.ContainerStatus) string {
	if name := c.Labels[labelContainerName]; name != "" {
		return name
	}
	return c.GetMetadata().GetName()
}

func isRunning(c *runtimeapi.ContainerStatus) bool {
	return c != nil && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING
}

func hasExited(c *runtimeapi.ContainerStatus) bool {
	return c != nil && c.State == runtimeapi.ContainerState_CONTAINER_EXITED
}

// running lists the containers that are not known to be dead.
func (st *podState) running() []*runtimeapi.ContainerStatus {
	var list []*runtimeapi.ContainerStatus
	for _, c := range st.containers {
		if c.State == runtimeapi.ContainerState_CONTAINER_RUNNING || c.State == runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			list = append(list, c)
		}
	}
	return list
}

// sandbox gives the newest sandbox, and whether it is ready.
func (st *podState) sandbox() (s *runtimeapi.PodSandboxStatus, ready bool) {
	if len(st.sandboxes) == 0 {
		return nil, false
	}
	s = st.sandboxes[0]
	return s, s.State == runtimeapi.PodSandboxState_SANDBOX_READY
}

// ips are the addresses of the newest sandbox that has some.
func (st *podState) ips() []netip.Addr {
	for _, s := range st.sandboxes {
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
