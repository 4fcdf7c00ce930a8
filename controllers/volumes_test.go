package controllers_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A pod's claim gets a volume on the node, which goes when both are gone; admission knows the default class.
func TestAClaimIsProvisionedForItsPod(t *testing.T) {
	ns := namespace(t)
	claims := shared.client.CoreV1().PersistentVolumeClaims(ns)
	_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := template("web", func(s *corev1.PodSpec) {
		s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	})
	pods := shared.client.CoreV1().Pods(ns)
	eventually(t, func(ctx context.Context) string { // once the namespace has its service account
		if _, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: pod.Spec}, metav1.CreateOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
	eventually(t, func(ctx context.Context) string {
		p, err := pods.Get(ctx, "web", metav1.GetOptions{})
		if err != nil || p.Spec.NodeName != nodeName {
			return fmt.Sprint("the pod has no node: ", p.Status.Conditions, err)
		}
		return ""
	})
	claim, err := claims.Get(t.Context(), "data", metav1.GetOptions{})
	if err != nil || claim.Status.Phase != corev1.ClaimBound || *claim.Spec.StorageClassName != "local-path" {
		t.Fatalf("the claim of a pod that has a node: %+v, %v", claim, err)
	}
	path := filepath.Join(shared.cfg.VolumesDir, claim.Spec.VolumeName)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	now := int64(0)
	if err := pods.Delete(t.Context(), "web", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	if err := claims.Delete(t.Context(), "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if _, err := shared.client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{}); err == nil {
			return "the volume is still there"
		}
		return ""
	})
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the directory of the volume that is gone: %v", err)
	}
}
