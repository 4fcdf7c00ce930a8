package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/cni"
)

const cleanupPatience = 5 * time.Second

// Cleanup ends the pods that a runtime still has of the data directory whose part for CNI dir is: those that ours knows by their UID.
// Then it removes dir. Links and rules are podnet's to remove.
func Cleanup(ctx context.Context, dir string, ours func(uid string) bool) error {
	endpoint, err := Endpoint(dir)
	if err != nil {
		return err
	}
	if endpoint != "" {
		if err := endPods(ctx, endpoint, ours); err != nil {
			return fmt.Errorf("end the pods in %s: %w: start it, and try again; or remove them there, and %s", endpoint, err, endpointPath(dir))
		}
	}
	return cni.Cleanup(dir)
}

func endPods(ctx context.Context, endpoint string, ours func(uid string) bool) error {
	runtime, images, err := connect(ctx, endpoint, cleanupPatience)
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(runtime.Close(ctx), images.Close(ctx)) }() // nothing waits for it
	all, err := runtime.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{})
	if err != nil {
		return err
	}
	errs := make([]error, len(all))
	var ends sync.WaitGroup
	for i, s := range all {
		if ours(s.GetMetadata().GetUid()) {
			ends.Go(func() { errs[i] = endPod(ctx, runtime, s.Id) })
		}
	}
	ends.Wait()
	return errors.Join(errs...)
}

func endPod(ctx context.Context, runtime internalapi.RuntimeService, id string) error {
	if err := runtime.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	return runtime.RemovePodSandbox(ctx, id)
}
