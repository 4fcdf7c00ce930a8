package runtime

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/cgroup"
)

// limitedPod is a pod in the tree of the lab.
func limitedPod(l *lab, name string, limits *runtimeapi.LinuxContainerResources) *runtimeapi.PodSandboxConfig {
	config := podConfig(name)
	config.Linux.CgroupParent = path.Join(l.cfg.Cgroups.Top(), cgroup.Kubepods, "burstable", cgroup.PodPrefix+"uid-"+name)
	config.Linux.Resources = limits
	return config
}

func limitedContainer(limits *runtimeapi.LinuxContainerResources, command ...string) *runtimeapi.ContainerConfig {
	config := containerConfig("svcplane/host", command...)
	config.Linux.Resources = limits
	return config
}

func newLimitedLab(t *testing.T) *lab {
	l := newLab(t)
	for _, gap := range l.cfg.Cgroups.Missing() {
		t.Skip(gap)
	}
	return l
}

func (l *lab) ended(id string) *runtimeapi.ContainerStatus {
	l.t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if s := l.status(id); s.State == runtimeapi.ContainerState_CONTAINER_EXITED {
			return s
		}
	}
	l.t.Fatal("the container runs after a minute")
	return nil
}

// inGroup says where a container's process is.
func (l *lab) inGroup(id string) string {
	l.t.Helper()
	stdout, _, err := l.ExecSync(context.Background(), id, []string{"cat", "/proc/self/cgroup"}, time.Minute)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(stdout)
}

func TestMemoryHogIsKilledAlone(t *testing.T) {
	l := newLimitedLab(t)
	pod := limitedPod(l, "hog", &runtimeapi.LinuxContainerResources{CpuShares: 2})
	sandbox := l.sandbox(pod)
	calm := l.run(sandbox, limitedContainer(nil, "sleep", "1000"))
	hog := limitedContainer(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, MemorySwapLimitInBytes: 32 << 20, OomScoreAdj: 900},
		"sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=512M count=1")
	hog.Metadata.Name = "hog"
	if s := l.ended(l.run(sandbox, hog)); s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("ended with %d, %s; want 137, OOMKilled", s.ExitCode, s.Reason)
	}
	if s := l.status(calm); s.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("its neighbour is %v", s.State)
	}
	// One that fails by itself in the same pod is none of it.
	fails := limitedContainer(nil, "false")
	fails.Metadata.Name = "fails"
	if s := l.ended(l.run(sandbox, fails)); s.Reason != "Error" || s.ExitCode != 1 {
		t.Errorf("ended with %d, %s; want 1, Error", s.ExitCode, s.Reason)
	}
}

// TestGroupsOutliveRestarts: containers stay where they are, what has ended leaves nothing, and what a crash left goes.
func TestGroupsOutliveRestarts(t *testing.T) {
	l := newLimitedLab(t)
	pod := limitedPod(l, "kept", &runtimeapi.LinuxContainerResources{CpuShares: 102, MemoryLimitInBytes: 64 << 20})
	sandbox := l.sandbox(pod)
	id := l.run(sandbox, limitedContainer(&runtimeapi.LinuxContainerResources{CpuShares: 102, MemoryLimitInBytes: 32 << 20}, "sleep", "1000"))
	parent := pod.Linux.CgroupParent
	group := path.Join(parent, id)
	if at := l.inGroup(id); !strings.Contains(at, group) {
		t.Fatalf("what is executed is not in %s, but in %s", group, at)
	}
	l.stop()
	lost := path.Join(path.Dir(parent), cgroup.PodPrefix+"lost")
	if err := l.cfg.Cgroups.Make(path.Join(lost, "c"), cgroup.Resources{}); err != nil {
		t.Fatal(err)
	}
	l.start()
	if at := l.inGroup(id); !strings.Contains(at, group) {
		t.Errorf("after a restart it is in %s", at)
	}
	for limit := time.Now().Add(time.Minute); l.cfg.Cgroups.Has(lost); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("what a crash left is there after a minute")
		}
	}
	if err := l.UpdateContainerResources(context.Background(), id, &runtimeapi.ContainerResources{
		Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 48 << 20}}); err != nil {
		t.Error(err)
	}
	if got, err := l.cfg.Cgroups.Get(group); err != nil || got.Memory != 48<<20 {
		t.Errorf("memory %d, %v; want 48 MiB", got.Memory, err)
	}
	if r := l.status(id).GetResources().GetLinux(); r.GetMemoryLimitInBytes() != 48<<20 || r.GetCpuShares() != 102 {
		t.Errorf("the status says %v", r)
	}
	if err := l.StopPodSandbox(context.Background(), sandbox); err != nil {
		t.Error(err)
	}
	if l.cfg.Cgroups.Has(parent) {
		t.Errorf("%s is left", parent)
	}
}

// TestEchoHasNoGroup: the server of svcplane/echo is in no group that would say what it uses; what is executed beside it is limited.
func TestEchoHasNoGroup(t *testing.T) {
	l := newLimitedLab(t)
	pod := limitedPod(l, "echo", &runtimeapi.LinuxContainerResources{CpuShares: 2, Unified: map[string]string{keyPIDs: "10"}})
	sandbox := l.sandbox(pod)
	config := containerConfig("svcplane/echo")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 16 << 20}
	id := l.run(sandbox, config)
	group := path.Join(pod.Linux.CgroupParent, id)
	if l.cfg.Cgroups.Has(pod.Linux.CgroupParent) {
		t.Errorf("%s is there", pod.Linux.CgroupParent)
	}
	if at := l.inGroup(id); !strings.Contains(at, group) {
		t.Errorf("what is executed is in %s", at)
	}
	if root := l.cfg.Cgroups.V1[cgroup.PIDs]; root != "" {
		if raw, err := os.ReadFile(filepath.Join(root, pod.Linux.CgroupParent, keyPIDs)); err != nil || strings.TrimSpace(string(raw)) != "10" {
			t.Errorf("the pod may have %s processes, %v; want 10", raw, err)
		}
	}
}
