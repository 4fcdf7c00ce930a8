package node

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/eviction"
)

// thresholds are those of a text.
func thresholds(t *testing.T, text string) []eviction.Threshold {
	t.Helper()
	all, err := eviction.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// uses has the runtime tell what memory pods use, and how large a log there is.
func (l *lab) uses(memory map[string]uint64) {
	var all []*runtimeapi.PodSandboxStats
	for name, octets := range memory {
		_, id, _ := strings.Cut(l.get(name).Status.ContainerStatuses[0].ContainerID, "://")
		all = append(all, &runtimeapi.PodSandboxStats{
			Attributes: &runtimeapi.PodSandboxAttributes{Id: name, Metadata: &runtimeapi.PodSandboxMetadata{Namespace: "default", Name: name, Uid: "uid-" + name}},
			Linux: &runtimeapi.LinuxPodSandboxStats{Containers: []*runtimeapi.ContainerStats{{
				Attributes: &runtimeapi.ContainerAttributes{Id: id, Metadata: &runtimeapi.ContainerMetadata{Name: "app"}},
				Cpu:        &runtimeapi.CpuUsage{UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: 1}},
				Memory:     &runtimeapi.MemoryUsage{WorkingSetBytes: &runtimeapi.UInt64Value{Value: octets}},
			}}},
		})
	}
	l.rt.setStats(all...)
}

// TestEviction: when the node runs short, the pod that exceeds by most goes, with the kubelet's status, and one at a time.
func TestEviction(t *testing.T) {
	l := newLab(t)
	l.start()
	for _, name := range []string{"hungry", "meek"} {
		l.create(pod(name))
		l.wantPod(name, isReady)
	}
	l.uses(map[string]uint64{"hungry": 64 << 20, "meek": 1 << 20})
	e := &evictor{n: l.node, manager: eviction.NewManager(thresholds(t, "memory.available<1Ei"), time.Minute)}
	evicted, err := e.look(t.Context())
	if err != nil || len(evicted) != 1 || evicted[0].Pod.Name != "hungry" {
		t.Fatalf("%v, %v", evicted, err)
	}
	e.await(t.Context(), evicted)
	got := l.wantPod("hungry", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if got.Status.Reason != "Evicted" || !strings.HasPrefix(got.Status.Message, "The node was low on resource: memory. Threshold quantity: 1Ei, available: ") ||
		!strings.HasSuffix(got.Status.Message, "Container app was using 64Mi, request is 0, has larger consumption of memory. ") {
		t.Errorf("%s: %s", got.Status.Reason, got.Status.Message)
	}
	disrupted := false
	for _, c := range got.Status.Conditions {
		disrupted = disrupted || c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonTerminationByKubelet
	}
	if !disrupted {
		t.Errorf("conditions: %v", got.Status.Conditions)
	}
	if phase := l.get("meek").Status.Phase; phase != corev1.PodRunning {
		t.Errorf("the other pod is %s", phase)
	}
	l.wantEvent("Warning EvictionThresholdMet Attempting to reclaim memory")
	l.wantEvent("Warning Evicted The node was low on resource: memory.")
	if now := e.now(); len(now) != 1 || now[0] != corev1.NodeMemoryPressure {
		t.Errorf("the node's conditions: %v", now)
	}
}

// TestPressureRefuses: while the node is short of memory it takes no pods of which it is not known how much they need, but for
// critical ones.
func TestPressureRefuses(t *testing.T) {
	l := newLab(t)
	l.cfg.EvictionHard = thresholds(t, "memory.available<1Ei")
	l.start()
	l.create(pod("late"))
	got := l.wantPod("late", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if got.Status.Reason != "Evicted" || got.Status.Message != "Pod was rejected: The node had condition: [MemoryPressure]. " {
		t.Errorf("%s: %s", got.Status.Reason, got.Status.Message)
	}
	l.create(pod("critical", func(p *corev1.Pod) { priority := int32(2000000000); p.Spec.Priority = &priority }))
	l.wantPod("critical", isReady)
}

// TestStorageLimits: a pod whose volume is larger than it may be goes; it is nobody else's fault.
func TestStorageLimits(t *testing.T) {
	l := newLab(t)
	l.start()
	limit := resource.MustParse("1Ki")
	l.create(pod("full", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
	}))
	l.wantPod("full", isReady)
	l.uses(map[string]uint64{"full": 1 << 20})
	e := &evictor{n: l.node, manager: eviction.NewManager(nil, time.Minute)}
	l.eventually("it is evicted", func() string {
		if evicted, err := e.look(t.Context()); err != nil || len(evicted) != 1 {
			return "not yet" // its size is found in the background
		}
		return ""
	})
	got := l.wantPod("full", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if got.Status.Message != `Usage of EmptyDir volume "tmp" exceeds the limit "1Ki". ` {
		t.Errorf("%s: %s", got.Status.Reason, got.Status.Message)
	}
	for _, c := range got.Status.Conditions {
		if c.Type == corev1.DisruptionTarget {
			t.Errorf("it was disrupted: %v", c)
		}
	}
}
