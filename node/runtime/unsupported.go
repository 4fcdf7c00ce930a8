package runtime

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// unimplemented is CRI's answer to what a runtime has not: callers go on without it.
func unimplemented(what string) error {
	return status.Errorf(codes.Unimplemented, "the svcplane container runtime has no %s", what)
}

// CheckpointContainer is refused.
func (r *Runtime) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) error {
	return unimplemented("checkpoints")
}

// ListMetricDescriptors is refused: the kubelet has no use for it.
func (r *Runtime) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return nil, unimplemented("metrics")
}

// ListPodSandboxMetrics is refused, too.
func (r *Runtime) ListPodSandboxMetrics(context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	return nil, unimplemented("metrics")
}

// UpdateRuntimeConfig is refused: the pod CIDR is given at the start.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error {
	return unimplemented("change of its configuration")
}
