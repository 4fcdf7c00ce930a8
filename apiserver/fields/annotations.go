package fields

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Annotation is an annotation that means something elsewhere and nothing here. Those of Ingresses are the ingress's own
// (docs/ingress.md), and those that the API server turns into fields are not among them.
type Annotation struct {
	On   []any  // values of the types that may have it
	Key  string // a whole key, or its beginning where it ends in a slash or a hyphen
	Text string
}

func annotations() []Annotation {
	podLike := []any{corev1.Pod{}, corev1.PodTemplateSpec{}}
	service := []any{corev1.Service{}}
	const cloud = "there is no load balancer of a cloud here: the Service gets the node's address; remove the annotation"
	return []Annotation{
		{podLike, "kubernetes.io/ingress-bandwidth", "bandwidth is not shaped: the pod receives as fast as it can"},
		{podLike, "kubernetes.io/egress-bandwidth", "bandwidth is not shaped: the pod sends as fast as it can"},
		{podLike, "cluster-autoscaler.kubernetes.io/", "there is no cluster autoscaler"},
		{podLike, "k8s.v1.cni.cncf.io/", "there are no further networks: the pod has one interface"},
		{service, "service.beta.kubernetes.io/", cloud},
		{service, "service.kubernetes.io/load-balancer-", cloud},
		{service, "cloud.google.com/", cloud},
		{service, "networking.gke.io/", cloud},
		{service, "metallb.universe.tf/", "there is no MetalLB here: the Service gets the node's address; remove the annotation"},
		{service, "metallb.io/", "there is no MetalLB here: the Service gets the node's address; remove the annotation"},
	}
}

// annotationOf finds the first row about an annotation on an object of type t.
func annotationOf(t reflect.Type, key string, rows []Annotation) *Annotation {
	if key == corev1.AnnotationLoadBalancerSourceRangesKey {
		return nil // honoured: the catalog reads it where the field is empty
	}
	for i := range rows {
		row := &rows[i]
		prefix := strings.HasSuffix(row.Key, "/") || strings.HasSuffix(row.Key, "-")
		if key != row.Key && !(prefix && strings.HasPrefix(key, row.Key)) {
			continue
		}
		for _, on := range row.On {
			if reflect.TypeOf(on) == t {
				return row
			}
		}
	}
	return nil
}
