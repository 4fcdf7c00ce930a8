package runtime

import (
	"context"
	"path"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestStats: what a process uses is told, of svcplane/echo only what goes through the pod's link, and time never shrinks.
func TestStats(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("busy"))
	id := l.run(pod, containerConfig("svcplane/host", "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; sleep 1000"))
	echoing := l.sandbox(podConfig("echo"))
	echo := l.run(echoing, withPorts(containerConfig("svcplane/echo"), `[{"containerPort":8080}]`))
	eventually(t, "it has counted", func() bool { return l.log("busy") != "" })
	l.get("http://" + l.ip(echoing) + ":8080/hostname")
	stats, err := l.ContainerStats(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	spent := stats.Cpu.UsageCoreNanoSeconds.GetValue()
	if spent < uint64(10*time.Millisecond) || stats.Memory.WorkingSetBytes.GetValue() < 100<<10 || stats.Memory.WorkingSetBytes.GetValue() > 100<<20 {
		t.Errorf("a shell that has counted uses %v", stats)
	}
	of, err := l.PodSandboxStats(context.Background(), echoing)
	if err != nil {
		t.Fatal(err)
	}
	if eth := of.Linux.Network.GetDefaultInterface(); eth.GetName() != "eth0" || eth.RxBytes.GetValue() == 0 || eth.TxBytes.GetValue() == 0 {
		t.Errorf("through the link of a pod that was asked went %v", eth)
	}
	if len(of.Linux.Containers) != 1 || of.Linux.Containers[0].Attributes.Id != echo || of.Linux.Containers[0].Cpu != nil {
		t.Errorf("the containers are %v, want one that is not measured", of.Linux.Containers)
	}
	l.usage.mu.Lock()
	l.usage.at, l.usage.spent[id] = time.Time{}, spent*1000 // as if a process had ended that nobody waited for
	l.usage.mu.Unlock()
	if again, err := l.ContainerStats(context.Background(), id); err != nil || again.Cpu.UsageCoreNanoSeconds.GetValue() < spent*1000 {
		t.Errorf("time went back to %v from %d: %v", again, spent*1000, err)
	}
	all, err := l.ListContainerStats(context.Background(), &runtimeapi.ContainerStatsFilter{PodSandboxId: pod})
	if err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestStatsOfGroups: what a cgroup has counted is what is told: time also of processes that have gone, the page cache, the
// limit, and the pod's own figures.
func TestStatsOfGroups(t *testing.T) {
	l := newLimitedLab(t)
	pod := limitedPod(l, "counted", nil)
	sandbox := l.sandbox(pod)
	dir := t.TempDir()
	id := l.run(sandbox, limitedContainer(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 256 << 20}, "sh", "-c",
		"head -c 30000000 /dev/zero >"+dir+"/cached; sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; echo done; sleep 1000"))
	eventually(t, "it has counted", func() bool { return l.log("counted") != "" })
	group := path.Join(pod.Linux.CgroupParent, id)
	counted, err := l.cfg.Cgroups.CPUUsed(group)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.ContainerStats(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Cpu.UsageCoreNanoSeconds.GetValue(); got < uint64(counted) || got > uint64(counted)+uint64(time.Second) {
		t.Errorf("it has used %d ns, and its cgroup had counted %d", got, counted)
	}
	if all, set, rss := s.Memory.UsageBytes.GetValue(), s.Memory.WorkingSetBytes.GetValue(), s.Memory.RssBytes.GetValue(); all < 20<<20 || set > all || rss > set || rss == 0 {
		t.Errorf("memory: %v", s.Memory)
	}
	if left := s.Memory.AvailableBytes.GetValue(); left != 256<<20-s.Memory.WorkingSetBytes.GetValue() {
		t.Errorf("of 256 MiB %d are left", left)
	}
	if s.Memory.PageFaults.GetValue() == 0 {
		t.Error("there was no fault of a page")
	}
	of, err := l.PodSandboxStats(context.Background(), sandbox)
	if err != nil || of.Linux.Cpu.GetUsageCoreNanoSeconds().GetValue() < uint64(counted) || of.Linux.Process.GetProcessCount().GetValue() < 2 {
		t.Errorf("the pod: %v, %v", of.GetLinux(), err)
	}
}
