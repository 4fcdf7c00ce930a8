package node

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestResourceMetrics: a pod has a rate at the first look, one with a container that was not measured is missing, and nothing
// else is.
func TestResourceMetrics(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web"))
	_, id, _ := strings.Cut(l.wantPod("web", isReady).Status.ContainerStatuses[0].ContainerID, "://")
	stats := func(pod, id string, known bool) *runtimeapi.PodSandboxStats {
		c := &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{Id: id, Metadata: &runtimeapi.ContainerMetadata{Name: "app"}}}
		if known {
			c.Cpu = &runtimeapi.CpuUsage{UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: 1e8}}
			c.Memory = &runtimeapi.MemoryUsage{WorkingSetBytes: &runtimeapi.UInt64Value{Value: 1 << 20}}
		}
		return &runtimeapi.PodSandboxStats{
			Attributes: &runtimeapi.PodSandboxAttributes{Id: "s", Metadata: &runtimeapi.PodSandboxMetadata{Namespace: "default", Name: pod, Uid: "uid-" + pod}},
			Linux:      &runtimeapi.LinuxPodSandboxStats{Containers: []*runtimeapi.ContainerStats{c}},
		}
	}
	l.rt.setStats(stats("web", id, true), stats("echo", "other", false))
	nodes, pods, err := l.node.ResourceMetrics(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Name != l.cfg.Name || nodes[0].Usage.Memory().Value() < 1<<20 || nodes[0].Window.Duration < time.Second {
		t.Fatalf("the node: %v, %v", nodes, err)
	}
	if len(pods) != 1 || pods[0].Name != "web" || pods[0].UID != "uid-web" || len(pods[0].Containers) != 1 {
		t.Fatalf("the pods: %v", pods)
	}
	use := pods[0].Containers[0].Usage
	if _, rated := use[corev1.ResourceCPU]; !rated || use.Memory().String() != "1Mi" {
		t.Errorf("the container uses %v", use)
	}
}
