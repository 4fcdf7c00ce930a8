package resources

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// list makes requests or limits of pairs.
func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func pod(containers ...corev1.ResourceRequirements) *corev1.Pod {
	p := &corev1.Pod{}
	p.UID = "u"
	for _, r := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: r})
	}
	return p
}

func both(pairs ...string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: list(pairs...), Limits: list(pairs...)}
}

var machine = Node{Memory: 1 << 30, MaxPIDs: 100, Huge: []string{"2MB", "1GB"}}

func TestPod(t *testing.T) {
	overhead := pod(both("cpu", "1", "memory", "64Mi"))
	overhead.Spec.Overhead = list("cpu", "500m", "memory", "16Mi")
	whole := pod(corev1.ResourceRequirements{})
	whole.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "2", "memory", "32Mi")}
	for name, c := range map[string]struct {
		pod                   *corev1.Pod
		group                 string
		shares, quota, memory int64
		overMemory            int64
	}{
		"guaranteed": {pod(both("cpu", "1", "memory", "64Mi")), "/t/kubepods/podu", 1024, 100_000, 64 << 20, 0},
		"burstable, a container without a limit": {pod(both("cpu", "100m", "memory", "64Mi"), corev1.ResourceRequirements{}),
			"/t/kubepods/burstable/podu", 102, -1, 0, 0},
		"burstable, all limited": {pod(corev1.ResourceRequirements{Requests: list("cpu", "1m"), Limits: list("cpu", "5m", "memory", "1Mi")}),
			"/t/kubepods/burstable/podu", 2, 1000, 1 << 20, 0},
		"best effort":     {pod(corev1.ResourceRequirements{}), "/t/kubepods/besteffort/podu", 2, 0, 0, 0},
		"with overhead":   {overhead, "/t/kubepods/podu", 1024, 100_000, 64 << 20, 16 << 20},
		"the pod's limit": {whole, "/t/kubepods/burstable/podu", 1024, 200_000, 32 << 20, 0},
	} {
		own, over := machine.Pod(c.pod)
		if own.CpuShares != c.shares || own.CpuQuota != c.quota || own.MemoryLimitInBytes != c.memory || over.GetMemoryLimitInBytes() != c.overMemory {
			t.Errorf("%s: %v and %v, want %+v", name, own, over, c)
		}
		if own.Unified["pids.max"] != "100" {
			t.Errorf("%s: processes %q, want 100", name, own.Unified["pids.max"])
		}
		if got := Group("/t", c.pod); got != c.group {
			t.Errorf("%s: in %s, want %s", name, got, c.group)
		}
	}
}

func TestContainer(t *testing.T) {
	whole := pod(corev1.ResourceRequirements{})
	whole.Spec.Resources = &corev1.ResourceRequirements{Limits: list("cpu", "2", "memory", "32Mi", "hugepages-2Mi", "4Mi")}
	v2 := machine
	v2.OOMGroup, v2.Unified, v2.Swap = true, true, true
	v1 := machine
	v1.Swap = true
	for name, c := range map[string]struct {
		node  Node
		pod   *corev1.Pod
		want  *runtimeapi.LinuxContainerResources
		group string
		swap  string
		huge  uint64
	}{
		"guaranteed, version 2": {v2, pod(both("cpu", "1", "memory", "64Mi")),
			&runtimeapi.LinuxContainerResources{CpuShares: 1024, CpuQuota: 100_000, MemoryLimitInBytes: 64 << 20, OomScoreAdj: -997}, "1", "0", 0},
		"burstable, version 1": {v1, pod(corev1.ResourceRequirements{Requests: list("memory", "512Mi"), Limits: list("memory", "768Mi")}),
			&runtimeapi.LinuxContainerResources{CpuShares: 2, MemoryLimitInBytes: 768 << 20, MemorySwapLimitInBytes: 768 << 20, OomScoreAdj: 500}, "", "", 0},
		"best effort": {machine, pod(corev1.ResourceRequirements{}), &runtimeapi.LinuxContainerResources{CpuShares: 2, OomScoreAdj: 1000}, "", "", 0},
		"a limit is a request": {machine, pod(corev1.ResourceRequirements{Limits: list("cpu", "500m")}),
			&runtimeapi.LinuxContainerResources{CpuShares: 512, CpuQuota: 50_000, OomScoreAdj: 999}, "", "", 0},
		"the pod's limits": {machine, whole,
			&runtimeapi.LinuxContainerResources{CpuShares: 2048, CpuQuota: 200_000, MemoryLimitInBytes: 32 << 20, OomScoreAdj: 999}, "", "", 4 << 20},
		"huge pages": {machine, pod(both("hugepages-2Mi", "8Mi", "memory", "1Mi", "cpu", "1")),
			&runtimeapi.LinuxContainerResources{CpuShares: 1024, CpuQuota: 100_000, MemoryLimitInBytes: 1 << 20, OomScoreAdj: -997}, "", "", 8 << 20},
	} {
		got := c.node.Container(c.pod, &c.pod.Spec.Containers[0])
		if got.CpuShares != c.want.CpuShares || got.CpuQuota != c.want.CpuQuota || got.MemoryLimitInBytes != c.want.MemoryLimitInBytes ||
			got.MemorySwapLimitInBytes != c.want.MemorySwapLimitInBytes || got.OomScoreAdj != c.want.OomScoreAdj || got.CpuPeriod != 100_000 ||
			got.Unified["memory.oom.group"] != c.group || got.Unified["memory.swap.max"] != c.swap {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if len(got.HugepageLimits) != 2 || got.HugepageLimits[0].Limit != c.huge || got.HugepageLimits[1].Limit != 0 {
			t.Errorf("%s: %v, want %d of 2MB and none of 1GB", name, got.HugepageLimits, c.huge)
		}
	}
}

func TestReservation(t *testing.T) {
	capacity := list("cpu", "2", "memory", "1Gi", "pods", "110")
	r := Reservation{System: list("cpu", "200m", "memory", "100Mi"), Kube: list("cpu", "300m"), Eviction: list("memory", "100Mi")}
	for name, want := range map[corev1.ResourceName][2]string{"cpu": {"1500m", "1500m"}, "memory": {"824Mi", "924Mi"}, "pods": {"110", "110"}} {
		may, used := r.Allocatable(capacity)[name], r.Enforced(capacity)[name]
		if may.Cmp(resource.MustParse(want[0])) != 0 || used.Cmp(resource.MustParse(want[1])) != 0 {
			t.Errorf("%s: %s to request and %s to use, want %v", name, may.String(), used.String(), want)
		}
	}
	if name, _, _ := r.Excess(capacity); name != "" {
		t.Errorf("too much %s is reserved", name)
	}
	r.Kube = list("memory", "1Gi")
	if name, reserved, _ := r.Excess(capacity); name != "memory" || reserved.String() != "1124Mi" {
		t.Errorf("too much %s is reserved: %s; want memory, 1124Mi", name, reserved.String())
	}
}

func TestClassShares(t *testing.T) {
	pods := []*corev1.Pod{pod(both("cpu", "1", "memory", "1Mi")), pod(corev1.ResourceRequirements{Requests: list("cpu", "500m")}),
		pod(corev1.ResourceRequirements{Requests: list("cpu", "250m")}), pod(corev1.ResourceRequirements{})}
	if got := ClassShares(pods); got != 768 {
		t.Errorf("%d shares, want 768", got)
	}
	if got := ClassShares(nil); got != 2 {
		t.Errorf("%d shares for nobody, want 2", got)
	}
}
