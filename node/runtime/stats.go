package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/measure"
	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/process"
)

// statsAge is how old figures may be that are handed out: several ask for the same ones at about the same time, and reading
// the memory of large processes takes time. Who looks again sooner wants to know about now.
const statsAge = 500 * time.Millisecond

// usage are the last figures of all sandboxes.
type usage struct {
	mu    sync.Mutex
	at    time.Time
	last  []*runtimeapi.PodSandboxStats
	spent map[string]uint64 // nanoseconds by container: they do not shrink when a process ends that nobody waits for
}

// ListPodSandboxStats tells what running pods use. Containers of svcplane/echo are all served by one process: what each of
// them uses is not known, and missing.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, filter *runtimeapi.PodSandboxStatsFilter) (
	list []*runtimeapi.PodSandboxStats, err error) {
	if err := r.waitReady(ctx); err != nil {
		return nil, err
	}
	all, err := r.stats()
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if matches(filter.GetId(), s.Attributes.Id) && selects(filter.GetLabelSelector(), s.Attributes.Labels) {
			list = append(list, s)
		}
	}
	return list, nil
}

// PodSandboxStats tells what one pod uses.
func (r *Runtime) PodSandboxStats(ctx context.Context, id string) (*runtimeapi.PodSandboxStats, error) {
	all, err := r.ListPodSandboxStats(ctx, &runtimeapi.PodSandboxStatsFilter{Id: id})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, status.Errorf(codes.NotFound, "no running sandbox %s", id)
	}
	return all[0], nil
}

// ListContainerStats tells what running containers use, as ListPodSandboxStats.
func (r *Runtime) ListContainerStats(ctx context.Context, filter *runtimeapi.ContainerStatsFilter) (
	list []*runtimeapi.ContainerStats, err error) {
	pods, err := r.ListPodSandboxStats(ctx, &runtimeapi.PodSandboxStatsFilter{Id: filter.GetPodSandboxId()})
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		for _, c := range pod.Linux.Containers {
			if matches(filter.GetId(), c.Attributes.Id) && selects(filter.GetLabelSelector(), c.Attributes.Labels) {
				list = append(list, c)
			}
		}
	}
	return list, nil
}

// ContainerStats tells what one container uses.
func (r *Runtime) ContainerStats(ctx context.Context, id string) (*runtimeapi.ContainerStats, error) {
	all, err := r.ListContainerStats(ctx, &runtimeapi.ContainerStatsFilter{Id: id})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, status.Errorf(codes.NotFound, "no running container %s", id)
	}
	return all[0], nil
}

// stats reads what all pods use, unless that was done a moment ago.
func (r *Runtime) stats() ([]*runtimeapi.PodSandboxStats, error) {
	r.usage.mu.Lock()
	defer r.usage.mu.Unlock()
	if time.Since(r.usage.at) < statsAge {
		return r.usage.last, nil
	}
	spent := map[string]uint64{}
	var all []*runtimeapi.PodSandboxStats
	processes := sync.OnceValues(measure.Read) // of containers without a cgroup
	for _, pod := range r.running() {
		now := time.Now()
		s := &runtimeapi.PodSandboxStats{Attributes: pod.attributes, Linux: &runtimeapi.LinuxPodSandboxStats{}}
		measured := true
		for _, c := range pod.containers {
			one, err := r.measure(c, processes, s.Linux)
			if err != nil {
				return nil, err
			}
			one.WritableLayer = r.layer(c.upper)
			if one.Cpu != nil {
				nanos := max(one.Cpu.UsageCoreNanoSeconds.Value, r.usage.spent[one.Attributes.Id])
				one.Cpu.UsageCoreNanoSeconds.Value, spent[one.Attributes.Id] = nanos, nanos
			}
			measured = measured && one.Cpu != nil
			s.Linux.Containers = append(s.Linux.Containers, one)
		}
		if measured && len(pod.containers) > 0 {
			r.measurePod(pod, s.Linux)
		}
		var err error
		if s.Linux.Network, err = pod.network(now); err != nil {
			// it may have gone
			klog.V(2).InfoS("What a pod sends and receives is not known", "pod", podName(pod.config), "err", err)
		}
		all = append(all, s)
	}
	r.usage.at, r.usage.last, r.usage.spent = time.Now(), all, spent
	return all, nil
}

// runningPod is a sandbox with its running containers at one moment.
type runningPod struct {
	config     *runtimeapi.PodSandboxConfig
	attributes *runtimeapi.PodSandboxAttributes
	netns      string // empty: the host's
	group      string // its cgroup; empty: it has none
	containers []runningContainer
}

type runningContainer struct {
	attributes    *runtimeapi.ContainerAttributes
	init, process int    // 0: there is none
	upper         string // what it writes of its root; empty: that is not its own
	group         string // its cgroup; empty: it has none
}

func (r *Runtime) running() []*runningPod {
	r.mu.Lock()
	defer r.mu.Unlock()
	byID := map[string]*runningPod{}
	var all []*runningPod
	for _, s := range r.sandboxes {
		if s.State != sandboxReady || s.gone {
			continue
		}
		pod := &runningPod{config: s.config, attributes: &runtimeapi.PodSandboxAttributes{
			Id: s.ID, Metadata: s.config.GetMetadata(), Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations()}}
		if s.namespaces != nil && !hostNetwork(s.config) {
			pod.netns = s.namespaces.Paths().Net
		}
		if r.cfg.Cgroups != nil {
			pod.group = s.config.GetLinux().GetCgroupParent()
		}
		byID[s.ID] = pod
		all = append(all, pod)
	}
	for _, c := range r.containers {
		if pod := byID[c.SandboxID]; pod != nil && c.State == containerRunning {
			of := &runtimeapi.ContainerAttributes{Id: c.ID, Metadata: c.config.GetMetadata(),
				Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations()}
			pod.containers = append(pod.containers, runningContainer{of, c.Status.Init.PID, c.Status.Process.PID, r.upper(c), r.groupOf(r.sandboxes[c.SandboxID], c)})
		}
	}
	return all
}

// measure tells what a container uses: by its cgroup, and else by its processes.
func (r *Runtime) measure(c runningContainer, processes func() (*measure.Processes, error), pod *runtimeapi.LinuxPodSandboxStats) (
	*runtimeapi.ContainerStats, error) {
	if c.process != 0 && c.group != "" {
		if use, err := r.cfg.Cgroups.Usage(c.group); err == nil {
			s := &runtimeapi.ContainerStats{Attributes: c.attributes}
			s.Cpu, s.Memory, s.Swap = usageOf(use, time.Now())
			countProcesses(pod, use.Processes)
			return s, nil
		}
	}
	all, err := processes()
	if err != nil {
		return nil, err
	}
	return c.stats(all, time.Now(), pod), nil
}

// measurePod tells what a pod's cgroup has used, where there is one: also of containers that have gone.
func (r *Runtime) measurePod(pod *runningPod, s *runtimeapi.LinuxPodSandboxStats) {
	if pod.group == "" {
		return
	}
	if use, err := r.cfg.Cgroups.Usage(pod.group); err == nil {
		s.Cpu, s.Memory, _ = usageOf(use, time.Now())
	}
}

func usageOf(u cgroup.Usage, now time.Time) (*runtimeapi.CpuUsage, *runtimeapi.MemoryUsage, *runtimeapi.SwapUsage) {
	at := now.UnixNano()
	memory := &runtimeapi.MemoryUsage{Timestamp: at, WorkingSetBytes: known(u.WorkingSet), UsageBytes: known(u.Memory), RssBytes: known(u.RSS),
		PageFaults: known(u.Faults), MajorPageFaults: known(u.MajorFaults)}
	if u.Limit > 0 {
		memory.AvailableBytes = known(u.Limit - min(u.Limit, u.WorkingSet))
	}
	var swap *runtimeapi.SwapUsage
	if u.Swap != nil {
		swap = &runtimeapi.SwapUsage{Timestamp: at, SwapUsageBytes: known(*u.Swap)}
	}
	return &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: known(u.CPU)}, memory, swap
}

func countProcesses(pod *runtimeapi.LinuxPodSandboxStats, more uint64) {
	if pod.Process == nil {
		pod.Process = &runtimeapi.ProcessUsage{Timestamp: time.Now().UnixNano(), ProcessCount: known(0)}
	}
	pod.Process.ProcessCount.Value += more
}

// stats is what the container's processes use; pod gets the sums.
func (c runningContainer) stats(all *measure.Processes, now time.Time, pod *runtimeapi.LinuxPodSandboxStats) *runtimeapi.ContainerStats {
	s := &runtimeapi.ContainerStats{Attributes: c.attributes}
	if c.process == 0 {
		return s
	}
	use, ok := all.Inside(c.init)
	if !ok { // it is in the host's PID namespace
		if use, ok = all.Below(c.process); !ok {
			return s
		}
	}
	at := now.UnixNano()
	s.Cpu = &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: known(uint64(use.CPU))}
	s.Memory = &runtimeapi.MemoryUsage{Timestamp: at, WorkingSetBytes: known(use.Memory), RssBytes: known(use.Anonymous)}
	countProcesses(pod, uint64(use.Processes))
	return s
}

// layerAge is how old the size of a writable layer may be.
const layerAge = 15 * time.Second

// upper is the folder of what a container has written into its root; empty: it has no image of its own.
func (r *Runtime) upper(c *containerEntry) string {
	dir := filepath.Join(r.store.containerDir(c.ID), "upper")
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// layer is what was found last in such a folder; nil: it was not looked at yet.
func (r *Runtime) layer(upper string) *runtimeapi.FilesystemUsage {
	if upper == "" {
		return nil
	}
	tree, at, ok := r.layers.Get(upper)
	if !ok {
		return nil
	}
	return &runtimeapi.FilesystemUsage{Timestamp: at.UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: upper},
		UsedBytes: known(tree.Bytes), InodesUsed: known(tree.Inodes)}
}

// network is what went through the pod's links, as the pod sees it; nil: it has the host's.
func (p *runningPod) network(now time.Time) (*runtimeapi.NetworkUsage, error) {
	if p.netns == "" {
		return nil, nil
	}
	var links []measure.Link
	err := process.InNet(p.netns, func() (err error) {
		links, err = measure.Links()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("measuring the network of pod %s: %w", podName(p.config), err)
	}
	use := &runtimeapi.NetworkUsage{Timestamp: now.UnixNano()}
	for _, l := range links {
		one := &runtimeapi.NetworkInterfaceUsage{Name: l.Name, RxBytes: known(l.Received), RxErrors: known(l.ReceiveErrors),
			TxBytes: known(l.Sent), TxErrors: known(l.SendErrors)}
		if use.DefaultInterface == nil {
			use.DefaultInterface = one
		}
		use.Interfaces = append(use.Interfaces, one)
	}
	return use, nil
}

// known is a figure as CRI has it, where a missing one is nil.
func known(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }
