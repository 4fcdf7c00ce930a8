package eviction

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Eviction is a pod that has to go, and why.
type Eviction struct {
	Pod         *corev1.Pod
	Message     string
	Annotations map[string]string // of the Event
	// Disrupted: it goes for the sake of others, and its condition DisruptionTarget says so.
	Disrupted bool
}

// Annotations of the Event, by the kubelet's names.
const (
	offendingContainers = "offending_containers"
	offendingUsage      = "offending_containers_usage"
	offendingPod        = "offending_pod"
	offendingPodUsage   = "offending_pod_usage"
	starvedResource     = "starved_resource"
)

// Choose gives the pod that goes for the first of the thresholds that are met; nil: there is none that may.
func Choose(met []Threshold, seen Observations, pods *Pods) *Eviction {
	if len(met) == 0 {
		return nil
	}
	for _, pod := range pods.rank(met[0].Signal) {
		if Critical(pod) {
			continue
		}
		e := &Eviction{Pod: pod, Disrupted: true}
		e.explain(met, seen, pods.Use[string(pod.UID)])
		return e
	}
	return nil
}

func (e *Eviction) explain(met []Threshold, seen Observations, use *stats.PodStats) {
	short := met[0].Signal.Resource()
	e.Message = fmt.Sprintf("The node was low on resource: %v. ", short)
	for _, t := range met {
		if o, ok := seen[t.Signal]; ok && t.Signal.Resource() == short {
			limit := t.value(o.Capacity)
			e.Message += fmt.Sprintf("Threshold quantity: %v, available: %v. ", limit.String(), o.Available.String())
			break
		}
	}
	e.Annotations = map[string]string{}
	if use == nil {
		return
	}
	if short == corev1.ResourceMemory && resourcehelper.IsPodLevelResourcesSet(e.Pod) {
		if request, ok := e.Pod.Spec.Resources.Requests[short]; ok && use.Memory != nil && use.Memory.WorkingSetBytes != nil {
			of := resource.NewQuantity(int64(*use.Memory.WorkingSetBytes), resource.BinarySI).String()
			e.Message += fmt.Sprintf("Pod %s was using %s, request is %s, has larger consumption of %v. ", e.Pod.Name, of, request.String(), short)
			e.Annotations[offendingPod], e.Annotations[offendingPodUsage] = e.Pod.Name, of
		}
	}
	var names, figures []string
	for i := range use.Containers {
		if text, of := blame(e.Pod, &use.Containers[i], short); text != "" {
			e.Message += text
			names, figures = append(names, use.Containers[i].Name), append(figures, of)
		}
	}
	e.Annotations[offendingContainers], e.Annotations[offendingUsage] = strings.Join(names, ","), strings.Join(figures, ",")
	e.Annotations[starvedResource] = string(short)
}

// blame says that a container uses more than it requested; empty: it does not, or nobody knows.
func blame(pod *corev1.Pod, use *stats.ContainerStats, short corev1.ResourceName) (text, figure string) {
	var used uint64
	switch {
	case short == corev1.ResourceEphemeralStorage && use.Rootfs != nil && use.Rootfs.UsedBytes != nil && use.Logs != nil && use.Logs.UsedBytes != nil:
		used = *use.Rootfs.UsedBytes + *use.Logs.UsedBytes
	case short == corev1.ResourceMemory && use.Memory != nil && use.Memory.WorkingSetBytes != nil:
		used = *use.Memory.WorkingSetBytes
	default:
		return "", ""
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		if c.Name != use.Name {
			continue
		}
		request, quantity := c.Resources.Requests[short], resource.NewQuantity(int64(used), resource.BinarySI)
		if quantity.Cmp(request) > 0 {
			return fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", c.Name, quantity.String(),
				request.String(), short), quantity.String()
		}
	}
	return "", ""
}

// Limited says whether a pod has a limit that Exceeding looks at.
func Limited(pod *corev1.Pod) bool {
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil {
			return true
		}
	}
	_, limited := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	return limited || slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return !c.Resources.Limits.StorageEphemeral().IsZero()
	})
}

// Exceeding gives the pods that take more of the disk than they may.
func Exceeding(pods *Pods) []Eviction {
	var all []Eviction
	for _, pod := range pods.List {
		use := pods.Use[string(pod.UID)]
		if use == nil || Critical(pod) {
			continue
		}
		for _, look := range []func(*corev1.Pod, *stats.PodStats) string{exceedingVolume, exceedingPod, pods.exceedingContainer} {
			if message := look(pod, use); message != "" {
				all = append(all, Eviction{Pod: pod, Message: message})
				break
			}
		}
	}
	return all
}

func exceedingVolume(pod *corev1.Pod, use *stats.PodStats) string {
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		for i := range use.VolumeStats {
			one := &use.VolumeStats[i]
			if one.Name == v.Name && one.UsedBytes != nil && resource.NewQuantity(int64(*one.UsedBytes), resource.BinarySI).Cmp(*v.EmptyDir.SizeLimit) > 0 {
				return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
			}
		}
	}
	return ""
}

func exceedingPod(pod *corev1.Pod, use *stats.PodStats) string {
	limit, limited := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	if !limited || use.EphemeralStorage == nil || use.EphemeralStorage.UsedBytes == nil ||
		resource.NewQuantity(int64(*use.EphemeralStorage.UsedBytes), resource.BinarySI).Cmp(limit) <= 0 {
		return ""
	}
	return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
}

func (p *Pods) exceedingContainer(pod *corev1.Pod, use *stats.PodStats) string {
	for _, c := range pod.Spec.Containers {
		limit := c.Resources.Limits.StorageEphemeral()
		if limit.IsZero() {
			continue
		}
		for i := range use.Containers {
			one, used := &use.Containers[i], uint64(0)
			if one.Name != c.Name {
				continue
			}
			if one.Logs != nil && one.Logs.UsedBytes != nil {
				used += *one.Logs.UsedBytes
			}
			if !p.ImageDisk && one.Rootfs != nil && one.Rootfs.UsedBytes != nil {
				used += *one.Rootfs.UsedBytes
			}
			if resource.NewQuantity(int64(used), resource.BinarySI).Cmp(*limit) > 0 {
				return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
			}
		}
	}
	return ""
}
