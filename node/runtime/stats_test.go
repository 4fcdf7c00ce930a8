package runtime

import (
	"context"
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
