package remote

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/image"
)

// images are the runtime's, without those that only the embedded one has.
type images struct {
	internalapi.ImageManagerService
}

// PullImage refuses the builtin images, for which a registry would be asked.
func (i images) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	if builtin := image.Builtin(spec.GetImage()); builtin != "" {
		return "", status.Errorf(codes.InvalidArgument, "%s is built into svcplane's own container runtime, and this node has another one (--container-runtime-endpoint): use an image of a registry", builtin)
	}
	return i.ImageManagerService.PullImage(ctx, spec, auth, sandbox)
}
