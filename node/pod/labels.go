package pod

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Labels and annotations that tie what the runtime holds to pods. They are the kubelet's, so that tools which
// look at a runtime find what they know.
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"

	annotationHash          = "io.kubernetes.container.hash"
	annotationRestartCount  = "io.kubernetes.container.restartCount"
	annotationMessagePath   = "io.kubernetes.container.terminationMessagePath"
	annotationMessagePolicy = "io.kubernetes.container.terminationMessagePolicy"
	annotationPorts         = "io.kubernetes.container.ports"
	AnnotationPreStop       = "io.kubernetes.container.preStopHandler"
	AnnotationPodGrace      = "io.kubernetes.pod.terminationGracePeriod"
)

// Labels are those of a pod at the runtime, with its own.
func Labels(pod *corev1.Pod) map[string]string {
	labels := make(map[string]string, len(pod.Labels)+3)
	for k, v := range pod.Labels {
		labels[k] = v
	}
	labels[labelPodName] = pod.Name
	labels[labelPodNamespace] = pod.Namespace
	labels[LabelPodUID] = string(pod.UID)
	return labels
}

// ContainerLabels are those of a container at the runtime.
func ContainerLabels(pod *corev1.Pod, c *corev1.Container) map[string]string {
	return map[string]string{
		labelPodName:       pod.Name,
		labelPodNamespace:  pod.Namespace,
		LabelPodUID:        string(pod.UID),
		labelContainerName: c.Name,
	}
}

// ContainerAnnotations keep at the runtime what has to be known of a container when its pod is gone.
func ContainerAnnotations(pod *corev1.Pod, c *corev1.Container, restarts uint32) (map[string]string, error) {
	a := map[string]string{
		annotationHash:          ContainerHash(c),
		annotationRestartCount:  strconv.FormatUint(uint64(restarts), 10),
		annotationMessagePath:   c.TerminationMessagePath,
		annotationMessagePolicy: string(c.TerminationMessagePolicy),
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		a[AnnotationPodGrace] = strconv.FormatInt(*g, 10)
	}
	if len(c.Ports) > 0 {
		ports, err := json.Marshal(c.Ports)
		if err != nil {
			return nil, fmt.Errorf("container %s: writing down its ports: %w", c.Name, err)
		}
		a[annotationPorts] = string(ports)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		hook, err := json.Marshal(c.Lifecycle.PreStop)
		if err != nil {
			return nil, fmt.Errorf("container %s: writing down its preStop hook: %w", c.Name, err)
		}
		a[AnnotationPreStop] = string(hook)
	}
	return a, nil
}

// ContainerHash covers what may change in a running pod and takes a restart: the image.
func ContainerHash(c *corev1.Container) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%q %q", c.Name, c.Image)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

// RestartCount is how often a container was started again, as it was written down at the runtime.
func RestartCount(c *runtimeapi.ContainerStatus) uint32 {
	n, err := strconv.ParseUint(c.Annotations[annotationRestartCount], 10, 32)
	if err != nil {
		return c.GetMetadata().GetAttempt()
	}
	return uint32(n)
}

// FromLabels makes the little that is known of a pod that the API does not have any more.
func FromLabels(labels map[string]string, annotations map[string]string) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace = labels[labelPodName], labels[labelPodNamespace]
	pod.UID = UID(labels)
	if g, err := strconv.ParseInt(annotations[AnnotationPodGrace], 10, 64); err == nil {
		pod.Spec.TerminationGracePeriodSeconds = &g
	}
	return pod
}
