package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	podplan "svcplane/node/pod"
)

// How often everything in the runtime is compared with what was there before: seldom when the runtime
// reports changes by itself, else as often as the kubelet does.
const (
	relistWithEvents    = 10 * time.Second
	relistWithoutEvents = time.Second
)

// watchRuntime wakes the workers of pods whose sandboxes or containers changed, until ctx ends.
func (n *Node) watchRuntime(ctx context.Context) {
	events := make(chan *runtimeapi.ContainerEventResponse, 64)
	var connected atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.stream(ctx, events, &connected)
	}()
	defer drain(events, ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			n.wake(types.UID(e.GetPodSandboxStatus().GetMetadata().GetUid()))
			continue
		case <-timer.C:
		}
		if err := n.relist(ctx); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Looking at what the container runtime holds")
		}
		if connected.Load() {
			timer.Reset(relistWithEvents)
		} else {
			timer.Reset(relistWithoutEvents)
		}
	}
}

// drain lets a runtime that is about to hand over an event finish.
func drain(events <-chan *runtimeapi.ContainerEventResponse, ended <-chan struct{}) {
	for {
		select {
		case <-events:
		case <-ended:
			return
		}
	}
}

// stream follows the runtime's events until ctx ends, or as long as the runtime offers them.
func (n *Node) stream(ctx context.Context, events chan *runtimeapi.ContainerEventResponse, connected *atomic.Bool) {
	for ctx.Err() == nil {
		err := n.cfg.Runtime.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) { connected.Store(true) })
		connected.Store(false)
		if unimplemented(err) {
			return
		}
		if ctx.Err() == nil {
			klog.ErrorS(err, "The container runtime's events ended; connecting again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (n *Node) listContainers(ctx context.Context) ([]*runtimeapi.Container, error) {
	list, err := n.cfg.Runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{})
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	return list, nil
}

// relist compares all sandboxes and containers with those of the last time and wakes whom it concerns.
func (n *Node) relist(ctx context.Context) error {
	containers, err := n.listContainers(ctx)
	if err != nil {
		return err
	}
	sandboxes, err := n.cfg.Runtime.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{})
	if err != nil {
		return fmt.Errorf("listing sandboxes: %w", err)
	}
	now := make(map[string]int32, len(containers)+len(sandboxes))
	owner := make(map[string]types.UID, len(now))
	for _, c := range containers {
		now[c.Id], owner[c.Id] = int32(c.State), podplan.UID(c.Labels)
		n.adoptOrphan(c.Labels, c.Annotations)
	}
	for _, s := range sandboxes {
		now[s.Id], owner[s.Id] = int32(s.State), podplan.UID(s.Labels)
		n.adoptOrphan(s.Labels, s.Annotations)
	}
	for id, state := range now {
		if before, known := n.seen[id]; !known || before != state {
			n.wake(owner[id])
		}
	}
	for id := range n.seen {
		if _, still := now[id]; !still {
			n.wake(n.owners[id])
		}
	}
	n.seen, n.owners = now, owner
	return nil
}
