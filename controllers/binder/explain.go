package binder

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// explain writes why the pod has no node into its PodScheduled condition.
func (b *Binder) explain(ctx context.Context, pod *corev1.Pod, why string) {
	patch, err := json.Marshal(conditionPatch(pod, why, metav1.Now()))
	if err == nil {
		_, err = b.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch,
			metav1.PatchOptions{}, "status")
	}
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		klog.ErrorS(err, "Writing the PodScheduled condition failed", "pod", klog.KObj(pod))
	}
}

// conditionPatch is a strategic merge patch for pods/status; the uid keeps it off a later pod of the same name.
func conditionPatch(pod *corev1.Pod, why string, now metav1.Time) map[string]any {
	condition := corev1.PodCondition{
		Type:               corev1.PodScheduled,
		Status:             corev1.ConditionFalse,
		Reason:             corev1.PodReasonUnschedulable,
		Message:            why,
		ObservedGeneration: pod.Generation,
		LastTransitionTime: now,
	}
	if old := scheduled(pod); old != nil && old.Status == condition.Status {
		condition.LastTransitionTime = old.LastTransitionTime
	}
	return map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{condition}},
	}
}

// unschedulableFor is what the pod's condition says it waits for; empty when it does not.
func unschedulableFor(pod *corev1.Pod) string {
	if c := scheduled(pod); c != nil && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
		return c.Message
	}
	return ""
}

func scheduled(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodScheduled {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
