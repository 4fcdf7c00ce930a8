package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// TestAutoscaler holds that an autoscaler is no dead letter where there are no metrics: it keeps to minReplicas and
// maxReplicas, and says in a condition and an Event why it does nothing more.
func TestAutoscaler(t *testing.T) {
	ns := namespace(t)
	for name, replicas := range map[string]int32{"few": 1, "many": 9, "right": 3} {
		deploy(t, ns, name, replicas)
		_, err := shared.client.AutoscalingV2().HorizontalPodAutoscalers(ns).Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
				MinReplicas:    ptr.To(int32(2)), MaxReplicas: 4,
				Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
					Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(int32(50))},
				}}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int32{"few": 2, "many": 4} {
		eventually(t, func(ctx context.Context) string {
			d, err := shared.client.AppsV1().Deployments(ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil || *d.Spec.Replicas != want {
				return fmt.Sprint(name, ": ", d, err)
			}
			return ""
		})
	}
	eventually(t, func(ctx context.Context) string {
		hpa, err := shared.client.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, "right", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		for _, c := range hpa.Status.Conditions {
			if c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionFalse && c.Reason == "FailedGetResourceMetric" {
				return ""
			}
		}
		return fmt.Sprint("conditions: ", hpa.Status.Conditions)
	})
	eventually(t, func(ctx context.Context) string {
		events, err := shared.client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=right,reason=FailedGetResourceMetric"})
		if err != nil || len(events.Items) == 0 || !strings.Contains(events.Items[0].Message, "metrics") {
			return fmt.Sprint("events: ", events, err)
		}
		return ""
	})
}
