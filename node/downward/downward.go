package downward

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
)

// Facts are one pod and what the node knows about it. PodIPs and HostIPs are in order of preference: the
// first is the primary address.
type Facts struct {
	Pod         *corev1.Pod
	PodIPs      []netip.Addr
	HostIPs     []netip.Addr
	Allocatable corev1.ResourceList // stands in for a limit that a container does not set
}

// ErrNoAddress says that a field asks for an address that is not assigned yet.
var ErrNoAddress = errors.New("the address is not known yet")

// Field gives the text of a field: metadata.name, metadata.namespace, metadata.uid, metadata.labels,
// metadata.annotations (whole, or one as metadata.labels['key']), spec.nodeName, spec.serviceAccountName,
// status.hostIP, status.hostIPs, status.podIP or status.podIPs (Kubernetes: Downward API, available fields).
func (f Facts) Field(ref *corev1.ObjectFieldSelector) (string, error) {
	switch ref.FieldPath {
	case "spec.nodeName":
		return f.Pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return f.Pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(f.HostIPs)
	case "status.hostIPs":
		return joined(f.HostIPs)
	case "status.podIP":
		return first(f.PodIPs)
	case "status.podIPs":
		return joined(f.PodIPs)
	}
	text, err := fieldpath.ExtractFieldPathAsString(f.Pod, ref.FieldPath)
	if err != nil {
		return "", fmt.Errorf("reading field %q of the pod: %w", ref.FieldPath, err)
	}
	return text, nil
}

func first(addrs []netip.Addr) (string, error) {
	if len(addrs) == 0 {
		return "", ErrNoAddress
	}
	return addrs[0].String(), nil
}

func joined(addrs []netip.Addr) (string, error) {
	if len(addrs) == 0 {
		return "", ErrNoAddress
	}
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ","), nil
}

// Resource gives a limit or request as a number in units of the divisor, rounded up. inside is the
// container that asks; a containerName in ref names another one of the same pod.
func (f Facts) Resource(ref *corev1.ResourceFieldSelector, inside *corev1.Container) (string, error) {
	if ref.ContainerName != "" {
		inside = f.container(ref.ContainerName)
	}
	if inside == nil {
		return "", fmt.Errorf("resource %q is asked of container %q, which pod %s does not have", ref.Resource, ref.ContainerName, f.Pod.Name)
	}
	merged := inside.DeepCopy()
	resourcehelper.MergeContainerResourceLimits(merged, f.Allocatable)
	return resourcehelper.ExtractContainerResourceValue(ref, merged)
}

func (f Facts) container(name string) *corev1.Container {
	for _, list := range [][]corev1.Container{f.Pod.Spec.Containers, f.Pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
