package probe

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kprobe "k8s.io/kubernetes/pkg/probe"
)

// Pods come and go for as long as the node runs: what was counted of one that is gone is no series any more, also when its
// probed container ended before another one.
func TestCountsGoWithTheirPod(t *testing.T) {
	m := New(Config{})
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}}
	}
	for _, name := range []string{"goes", "stays"} {
		m.count(&watch{Target: Target{Pod: pod(name), Container: &corev1.Container{Name: "app"}}}, Readiness, kprobe.Success, nil, time.Millisecond)
	}
	if got := series(m); got != 4 {
		t.Fatalf("%d series of two pods, want 4", got)
	}
	m.Retain(pod("goes"), map[string]bool{"sidecar": true})
	if got := series(m); got != 4 {
		t.Errorf("%d series while a container runs, want 4", got)
	}
	m.Retain(pod("goes"), nil)
	if got := series(m); got != 2 {
		t.Errorf("%d series after the pod, want those 2 of the other", got)
	}
}

func series(m *Manager) (n int) {
	all := make(chan prometheus.Metric)
	go func() {
		defer close(all)
		m.Collect(all)
	}()
	for range all {
		n++
	}
	return n
}
