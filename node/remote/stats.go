package remote

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/measure"
	"svcplane/node/runtime/sandbox"
)

// stats remembers what the runtime cannot tell, so that it is not asked, and logged, every few seconds.
type stats struct {
	composed atomic.Bool
}

// ListPodSandboxStats is made of the containers' figures where the runtime has none of pods: containerd 1.6 fails for pods
// without a cgroup of their own, and others do not implement it. Then links are measured from this side, and pods have no figures beyond the sum.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, filter *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	if r.stats.composed.Load() {
		return r.composeStats(ctx, filter)
	}
	all, err := r.RuntimeService.ListPodSandboxStats(ctx, filter)
	if err == nil {
		return all, nil
	}
	composed, failed := r.composeStats(ctx, filter)
	if failed != nil {
		return nil, err
	}
	if !r.stats.composed.Swap(true) {
		klog.InfoS("The container runtime does not measure pods; their containers are measured instead", "runtime", r.name, "err", err)
	}
	return composed, nil
}

func (r *Runtime) composeStats(ctx context.Context, filter *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	sandboxes, err := r.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{
		Id: filter.GetId(), LabelSelector: filter.GetLabelSelector(), State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	})
	if err != nil {
		return nil, err
	}
	containers, err := r.ListContainers(ctx, &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}})
	if err != nil {
		return nil, err
	}
	measured, err := r.ListContainerStats(ctx, &runtimeapi.ContainerStatsFilter{LabelSelector: filter.GetLabelSelector()})
	if err != nil {
		return nil, err
	}
	links, err := measure.Links()
	if err != nil {
		return nil, fmt.Errorf("measure the pods' links: %w", err)
	}
	return compose(sandboxes, containers, measured, links, time.Now()), nil
}

// compose joins what was measured by pod.
func compose(sandboxes []*runtimeapi.PodSandbox, containers []*runtimeapi.Container, measured []*runtimeapi.ContainerStats, links []measure.Link, now time.Time) []*runtimeapi.PodSandboxStats {
	podOf := map[string]string{}
	for _, c := range containers {
		podOf[c.Id] = c.PodSandboxId
	}
	inPod := map[string][]*runtimeapi.ContainerStats{}
	for _, m := range measured {
		if pod, runs := podOf[m.GetAttributes().GetId()]; runs {
			inPod[pod] = append(inPod[pod], m)
		}
	}
	byName := map[string]measure.Link{}
	for _, l := range links {
		byName[l.Name] = l
	}
	var all []*runtimeapi.PodSandboxStats
	for _, s := range sandboxes {
		linux := &runtimeapi.LinuxPodSandboxStats{Containers: inPod[s.Id]}
		if link, ok := byName[sandbox.LinkName(s.Id)]; ok {
			linux.Network = fromInside(link, now)
		}
		all = append(all, &runtimeapi.PodSandboxStats{Linux: linux, Attributes: &runtimeapi.PodSandboxAttributes{
			Id: s.Id, Metadata: s.Metadata, Labels: s.Labels, Annotations: s.Annotations,
		}})
	}
	return all
}

// fromInside is a pod's link as the pod sees it: it has received what the node's end has sent.
func fromInside(l measure.Link, now time.Time) *runtimeapi.NetworkUsage {
	value := func(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }
	eth0 := &runtimeapi.NetworkInterfaceUsage{
		Name: "eth0", RxBytes: value(l.Sent), RxErrors: value(l.SendErrors), TxBytes: value(l.Received), TxErrors: value(l.ReceiveErrors),
	}
	return &runtimeapi.NetworkUsage{Timestamp: now.UnixNano(), DefaultInterface: eth0, Interfaces: []*runtimeapi.NetworkInterfaceUsage{eth0}}
}
