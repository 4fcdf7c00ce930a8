package runtime

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/record"
	"svcplane/node/runtime/sandbox"
	"svcplane/node/runtime/shim"
)

// keyPIDs is where a pod's limit of processes is in Resources.Unified: CRI has no field for it. It is the kernel's file.
const keyPIDs = "pids.max"

// groupOf is the cgroup of a container: empty where the pod has none, as those of earlier versions.
func (r *Runtime) groupOf(pod *sandboxEntry, c *containerEntry) string {
	parent := pod.config.GetLinux().GetCgroupParent()
	if r.cfg.Cgroups == nil || parent == "" {
		return ""
	}
	return path.Join(parent, c.ID)
}

// makeGroup makes a container's cgroup in its pod's, with the limits of both. A container of svcplane/echo has one for what
// is executed in it: the server is part of the shim, which no pod may limit.
func (r *Runtime) makeGroup(pod *sandboxEntry, c *containerEntry) error {
	group := r.groupOf(pod, c)
	if group == "" {
		return nil
	}
	r.mu.Lock()
	ofPod, own := podResources(pod.config.GetLinux()), containerResources(c.config.GetLinux().GetResources())
	r.mu.Unlock()
	if err := r.cfg.Cgroups.Make(path.Dir(group), ofPod); err != nil {
		return err
	}
	return r.cfg.Cgroups.Make(group, own)
}

// enterGroup puts the processes of a container into its cgroup that a shim of an earlier version has started elsewhere.
func (r *Runtime) enterGroup(group string, begun shim.ContainerStatus) {
	if group == "" || begun.Cgroup == group || begun.Process.PID == 0 {
		return
	}
	if err := errors.Join(r.cfg.Cgroups.Add(group, begun.Init.PID), r.cfg.Cgroups.Add(group, begun.Process.PID)); err != nil {
		klog.ErrorS(err, "A container runs without its limits: its shim is of an earlier version", "container", sandbox.Short(begun.ID))
	}
}

// explain finds out what a shim of an earlier version does not: that the kernel ended a container for want of memory.
func (r *Runtime) explain(c *containerEntry, now shim.ContainerStatus) shim.ContainerStatus {
	if now.State != shim.Exited || now.ExitCode == 0 || now.Cgroup != "" || r.cfg.Cgroups == nil {
		return now
	}
	r.mu.Lock()
	pod := r.sandboxes[c.SandboxID]
	r.mu.Unlock()
	if pod == nil {
		return now
	}
	if kills, err := r.cfg.Cgroups.OOMKills(r.groupOf(pod, c)); err == nil && kills > 0 {
		now.Reason = "OOMKilled"
	}
	return now
}

// dropGroup removes the cgroup of a container that has ended; what stays goes with the next sweep.
func (r *Runtime) dropGroup(c *containerEntry) {
	r.mu.Lock()
	pod := r.sandboxes[c.SandboxID]
	r.mu.Unlock()
	if pod == nil {
		return
	}
	if group := r.groupOf(pod, c); group != "" {
		r.removeGroup(group)
	}
}

// dropPodGroup removes a pod's cgroup, unless another sandbox of the pod has it.
func (r *Runtime) dropPodGroup(entry *sandboxEntry) {
	parent := entry.config.GetLinux().GetCgroupParent()
	if r.cfg.Cgroups == nil || parent == "" || r.usesGroup(parent) {
		return
	}
	r.removeGroup(parent)
}

func (r *Runtime) removeGroup(group string) {
	if err := r.cfg.Cgroups.Remove(group); err != nil {
		klog.V(2).InfoS("A cgroup stays until the next sweep", "cgroup", group, "err", err)
	}
}

// usesGroup says whether a pod's or a container's cgroup is somebody's.
func (r *Runtime) usesGroup(group string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sandboxes {
		if parent := s.config.GetLinux().GetCgroupParent(); parent != "" && s.State != sandboxStopped && !s.gone {
			if parent == group {
				return true
			}
		}
	}
	c := r.containers[path.Base(group)]
	return c != nil && c.State != containerExited
}

// groupSweep is how often cgroups are looked for that nobody has.
const groupSweep = time.Minute

// sweepGroups removes cgroups that a crash has left, until ctx ends.
func (r *Runtime) sweepGroups(ctx context.Context) {
	if r.cfg.Cgroups == nil {
		return
	}
	ticker := time.NewTicker(groupSweep)
	defer ticker.Stop()
	for {
		if err := r.cfg.Cgroups.Sweep(r.usesGroup); err != nil {
			klog.ErrorS(err, "Removing cgroups that nobody has")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// openGroups makes the tree of cgroups, and keeps where it is for Cleanup, which knows no flags.
func (r *Runtime) openGroups() error {
	if r.cfg.Cgroups == nil {
		return nil
	}
	if err := r.cfg.Cgroups.Open(); err != nil {
		return err
	}
	tops, err := r.store.loadTops()
	if err != nil || slices.Contains(tops, r.cfg.Cgroups.Top()) {
		return err
	}
	return record.Write(r.store.topsFile(), append(tops, r.cfg.Cgroups.Top()))
}

func (s store) topsFile() string { return filepath.Join(s.dir, "cgroups.json") }

// loadTops lists where trees of this data directory have been. A record that is broken says nothing: they are in the usual place.
func (s store) loadTops() ([]string, error) {
	var tops []string
	err := record.Read(s.topsFile(), &tops)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, record.ErrBroken) {
		return nil, nil
	}
	return tops, err
}

// gaps are the limits that are not in force.
func (r *Runtime) gaps() []string {
	if r.cfg.Cgroups == nil || !r.isReady() {
		return nil
	}
	var texts []string
	for _, gap := range r.cfg.Cgroups.Missing() {
		texts = append(texts, gap.String())
	}
	return texts
}

func (r *Runtime) isReady() bool {
	select {
	case <-r.ready:
		return true
	default:
		return false
	}
}

// podResources are what a pod may use, with what the runtime itself takes for it.
func podResources(linux *runtimeapi.LinuxPodSandboxConfig) cgroup.Resources {
	sum := proto.CloneOf(linux.GetResources())
	if over := linux.GetOverhead(); sum != nil && over != nil {
		sum.CpuShares += over.CpuShares
		if sum.CpuQuota > 0 {
			sum.CpuQuota += over.CpuQuota
		}
		if sum.MemoryLimitInBytes > 0 {
			sum.MemoryLimitInBytes += over.MemoryLimitInBytes
		}
	}
	r := containerResources(sum)
	r.Container, r.NoSwap, r.OOMGroup = false, false, false
	return r
}

// containerResources reads CRI's form, in which what is zero is not limited.
func containerResources(in *runtimeapi.LinuxContainerResources) cgroup.Resources {
	r := cgroup.Resources{
		Container: true, Shares: uint64(in.GetCpuShares()), Quota: in.GetCpuQuota(), Period: uint64(in.GetCpuPeriod()), Memory: in.GetMemoryLimitInBytes(),
		NoSwap: in.GetMemorySwapLimitInBytes() != 0 || in.GetUnified()["memory.swap.max"] == "0", OOMGroup: in.GetUnified()["memory.oom.group"] == "1",
	}
	if r.Quota == 0 && r.Period != 0 {
		r.Quota = cgroup.Unlimited
	}
	if r.Memory == 0 && in != nil {
		r.Memory = cgroup.Unlimited
	}
	if n, err := strconv.ParseInt(in.GetUnified()[keyPIDs], 10, 64); err == nil {
		r.PIDs = n
	}
	for _, h := range in.GetHugepageLimits() {
		if r.Huge == nil {
			r.Huge = map[string]uint64{}
		}
		r.Huge[h.GetPageSize()] = h.GetLimit()
	}
	return r
}

// UpdateContainerResources changes the limits of a container, also of one that runs. What is zero stays as it is.
func (r *Runtime) UpdateContainerResources(ctx context.Context, id string, resources *runtimeapi.ContainerResources) error {
	entry, err := r.container(ctx, id)
	if err != nil {
		return err
	}
	entry.op.Lock()
	defer entry.op.Unlock()
	pod, err := r.sandbox(entry.SandboxID)
	if err != nil {
		return err
	}
	group := r.groupOf(pod, entry)
	if group == "" {
		return unimplemented("cgroup for this container: its pod is of an earlier version, or the node has none")
	}
	r.mu.Lock()
	config, running := proto.CloneOf(entry.config), entry.State == containerRunning
	r.mu.Unlock()
	if config.Linux == nil {
		config.Linux = &runtimeapi.LinuxContainerConfig{}
	}
	config.Linux.Resources = mergeResources(config.Linux.Resources, resources.GetLinux())
	if running && r.cfg.Cgroups.Has(group) {
		if err := r.cfg.Cgroups.Set(group, containerResources(config.Linux.Resources)); err != nil {
			return status.Errorf(codes.Internal, "update the resources of container %s: %v", sandbox.Short(entry.ID), err)
		}
	}
	raw, err := protojson.Marshal(config)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	entry.config, entry.Config = config, raw
	return behind(r.store.saveContainer(entry.containerRecord))
}

// UpdatePodSandboxResources changes the limits of a pod as a whole.
func (r *Runtime) UpdatePodSandboxResources(_ context.Context, request *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	entry, err := r.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	entry.op.Lock()
	defer entry.op.Unlock()
	parent := entry.config.GetLinux().GetCgroupParent()
	if r.cfg.Cgroups == nil || parent == "" {
		return nil, unimplemented("cgroup for this pod: it is of an earlier version, or the node has none")
	}
	r.mu.Lock()
	config := proto.CloneOf(entry.config)
	r.mu.Unlock()
	config.Linux.Overhead = request.GetOverhead()
	config.Linux.Resources = mergeResources(config.Linux.Resources, request.GetResources())
	if r.cfg.Cgroups.Has(parent) {
		if err := r.cfg.Cgroups.Set(parent, podResources(config.Linux)); err != nil {
			return nil, status.Errorf(codes.Internal, "update the resources of pod %s: %v", podName(entry.config), err)
		}
	}
	raw, err := protojson.Marshal(config)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	entry.config, entry.Config = config, raw
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, behind(r.store.saveSandbox(entry.sandboxRecord))
}

// mergeResources keeps what changes leaves out. What runtimes take as "no limit" takes one away.
func mergeResources(have, changes *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	if have == nil {
		return changes
	}
	out := proto.CloneOf(have)
	for _, field := range []struct {
		to   *int64
		from int64
	}{
		{&out.CpuPeriod, changes.GetCpuPeriod()}, {&out.CpuQuota, changes.GetCpuQuota()}, {&out.CpuShares, changes.GetCpuShares()},
		{&out.MemoryLimitInBytes, changes.GetMemoryLimitInBytes()}, {&out.MemorySwapLimitInBytes, changes.GetMemorySwapLimitInBytes()},
	} {
		if field.from != 0 {
			*field.to = field.from
		}
	}
	for key, value := range changes.GetUnified() {
		if out.Unified == nil {
			out.Unified = map[string]string{}
		}
		out.Unified[key] = value
	}
	if len(changes.GetHugepageLimits()) > 0 {
		out.HugepageLimits = slices.Clone(changes.GetHugepageLimits())
	}
	return out
}

// RuntimeConfig says how cgroups are written.
func (r *Runtime) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}
