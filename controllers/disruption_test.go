package controllers_test

import (
	"context"
	"fmt"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestEvictionHonoursBudgets holds that a pod that its budget cannot spare is not evicted, and that it is once it can.
func TestEvictionHonoursBudgets(t *testing.T) {
	ns := namespace(t)
	deploy(t, ns, "web", 1)
	var name string
	eventually(t, func(ctx context.Context) string {
		bound, all := boundPods(ctx, ns)
		if len(bound) != 1 {
			return fmt.Sprintf("%d of %d pods are bound", len(bound), all)
		}
		name = bound[0].Name
		return ""
	})
	ready := `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`
	if _, err := shared.client.CoreV1().Pods(ns).Patch(t.Context(), name, types.MergePatchType, []byte(ready), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	one := intstr.FromInt32(1)
	budgets := shared.client.PolicyV1().PodDisruptionBudgets(ns)
	_, err := budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spares := func(pods int32) {
		t.Helper()
		eventually(t, func(ctx context.Context) string {
			b, err := budgets.Get(ctx, "web", metav1.GetOptions{})
			if err != nil || b.Status.ObservedGeneration != b.Generation || b.Status.CurrentHealthy != 1 || b.Status.DisruptionsAllowed != pods {
				return fmt.Sprint("the budget: ", b, err)
			}
			return ""
		})
	}
	evict := func() error {
		return shared.client.PolicyV1().Evictions(ns).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}})
	}
	spares(0)
	if err := evict(); !apierrors.IsTooManyRequests(err) {
		t.Errorf("evicting what the budget cannot spare: %v", err)
	}
	if _, err := budgets.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"minAvailable":0}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	spares(1)
	if err := evict(); err != nil {
		t.Errorf("evicting what the budget can spare: %v", err)
	}
}
