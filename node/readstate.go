package node

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	podplan "svcplane/node/pod"
)

// readState asks the runtime for everything of a pod. What goes away between the calls is left out.
func readState(ctx context.Context, rt internalapi.RuntimeService, uid types.UID) (*podplan.State, error) {
	selector := map[string]string{podplan.LabelPodUID: string(uid)}
	listed, err := rt.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("listing the sandboxes of pod %s: %w", uid, err)
	}
	all, err := rt.ListContainers(ctx, &runtimeapi.ContainerFilter{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("listing the containers of pod %s: %w", uid, err)
	}
	var sandboxes []*runtimeapi.PodSandboxStatus
	var containers []*runtimeapi.ContainerStatus
	for _, s := range listed {
		resp, err := rt.PodSandboxStatus(ctx, s.Id, false)
		if err != nil {
			if gone(err) {
				continue
			}
			return nil, fmt.Errorf("asking for the status of sandbox %s: %w", s.Id, err)
		}
		sandboxes = append(sandboxes, resp.Status)
	}
	for _, c := range all {
		resp, err := rt.ContainerStatus(ctx, c.Id, false)
		if err != nil {
			if gone(err) {
				continue
			}
			return nil, fmt.Errorf("asking for the status of container %s: %w", c.Id, err)
		}
		containers = append(containers, resp.Status)
	}
	return podplan.NewState(sandboxes, containers), nil
}
