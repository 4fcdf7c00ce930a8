package eviction

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// Manager remembers when a node was short of something last.
type Manager struct {
	thresholds []Threshold
	transition time.Duration // how long a condition stays after its last threshold was met
	seen       map[corev1.NodeConditionType]time.Time
}

// NewManager makes a Manager that has seen nothing.
func NewManager(thresholds []Threshold, transition time.Duration) *Manager {
	return &Manager{thresholds: thresholds, transition: transition, seen: map[corev1.NodeConditionType]time.Time{}}
}

// Update gives the thresholds that are met, in the order in which they are acted upon: memory comes first.
func (m *Manager) Update(now time.Time, seen Observations) []Threshold {
	met := m.Met(seen)
	for _, t := range met {
		of, _ := t.Signal.meaning()
		m.seen[of.condition] = now
	}
	return met
}

// Met gives those that are met, and remembers nothing.
func (m *Manager) Met(seen Observations) []Threshold {
	var met []Threshold
	for _, t := range m.thresholds {
		o, known := seen[t.Signal]
		if limit := t.value(o.Capacity); known && o.Available.Cmp(limit) < 0 {
			met = append(met, t)
		}
	}
	slices.SortStableFunc(met, func(a, b Threshold) int {
		switch {
		case a.Signal == b.Signal:
			return 0
		case a.Signal == MemoryAvailable:
			return -1
		case b.Signal == MemoryAvailable:
			return 1
		}
		return 0
	})
	return met
}

// Conditions are those of the node now, sorted.
func (m *Manager) Conditions(now time.Time) []corev1.NodeConditionType {
	all := []corev1.NodeConditionType{}
	for condition, at := range m.seen {
		if now.Sub(at) < m.transition {
			all = append(all, condition)
		}
	}
	slices.Sort(all)
	return all
}

// Reason is the reason in the status of a pod that had to go, or that was not taken.
const Reason = "Evicted"

// Refuse says why a node with these conditions does not take a pod; empty: it does. With too little memory, it takes those
// that say how much they need.
func Refuse(conditions []corev1.NodeConditionType, pod *corev1.Pod) string {
	if len(conditions) == 0 || Critical(pod) {
		return ""
	}
	pressure := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
	if slices.Equal(conditions, []corev1.NodeConditionType{corev1.NodeMemoryPressure}) && (pod.Status.QOSClass != corev1.PodQOSBestEffort ||
		schedulinghelpers.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, &pressure, true)) {
		return ""
	}
	return fmt.Sprintf("The node had condition: %v. ", conditions)
}

// criticalPriority is that of system-cluster-critical.
const criticalPriority = 2000000000

// Critical says whether a pod stays whatever happens.
func Critical(pod *corev1.Pod) bool {
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= criticalPriority
}
