package node

import (
	"strings"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
)

// statusText is the message of an error without the wrapping of gRPC.
func statusText(err error) string {
	s, _ := grpcstatus.FromError(err)
	return s.Message()
}

// gone says that a runtime does not have what it was asked for.
func gone(err error) bool { return grpcstatus.Code(err) == codes.NotFound }

// unimplemented says that a runtime cannot do what it was asked for.
func unimplemented(err error) bool { return grpcstatus.Code(err) == codes.Unimplemented }

// objectRef names a container of a pod for Events, as spec.containers{name}.
func objectRef(pod *corev1.Pod, c *corev1.Container) *corev1.ObjectReference {
	ref := podRef(pod)
	field := "containers"
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == c.Name {
			field = "initContainers"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == c.Name {
			field = "ephemeralContainers"
		}
	}
	ref.FieldPath = "spec." + field + "{" + c.Name + "}"
	return ref
}

func podRef(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion:      "v1",
		Kind:            "Pod",
		Namespace:       pod.Namespace,
		Name:            pod.Name,
		UID:             pod.UID,
		ResourceVersion: pod.ResourceVersion,
	}
}

// podText is how Kubernetes names a pod in messages: name_namespace(uid).
func podText(pod *corev1.Pod) string {
	return strings.Join([]string{pod.Name, "_", pod.Namespace, "(", string(pod.UID), ")"}, "")
}
