package resources

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Grant is what the containers of a pod have been given: by name, requests and limits.
type Grant struct {
	Containers map[string]corev1.ResourceRequirements `json:"containers"`
	Pod        *corev1.ResourceRequirements           `json:"pod,omitempty"`
}

// Asked is what a pod asks for.
func Asked(pod *corev1.Pod) Grant {
	g := Grant{Containers: map[string]corev1.ResourceRequirements{}, Pod: pod.Spec.Resources.DeepCopy()}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			g.Containers[list[i].Name] = *list[i].Resources.DeepCopy()
		}
	}
	return g
}

// Apply gives the pod with what was granted in place of what it asks for, and whether that differs.
func (g Grant) Apply(pod *corev1.Pod) (*corev1.Pod, bool) {
	out := pod.DeepCopy()
	if g.Pod != nil && out.Spec.Resources != nil {
		out.Spec.Resources = g.Pod.DeepCopy()
	}
	for _, list := range [][]corev1.Container{out.Spec.InitContainers, out.Spec.Containers} {
		for i := range list {
			if r, ok := g.Containers[list[i].Name]; ok {
				list[i].Resources = *r.DeepCopy()
			}
		}
	}
	if equality.Semantic.DeepEqual(Asked(out), Asked(pod)) {
		return pod, false
	}
	return out, true
}

// Short says of which resource the node has too little for a pod beside others, in the kubelet's words. ever is false when it
// has too little for the pod alone.
func Short(pod *corev1.Pod, others []*corev1.Pod, allocatable corev1.ResourceList) (message string, ever bool) {
	wants := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	used := corev1.ResourceList{}
	for _, other := range others {
		for name, q := range resourcehelper.PodRequests(other, resourcehelper.PodResourcesOptions{}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		want, have, taken := wants[name], allocatable[name], used[name]
		number := func(l corev1.ResourceList) int64 {
			q := l[name]
			if name == corev1.ResourceCPU {
				return q.MilliValue()
			}
			return q.Value()
		}
		if want.Cmp(have) > 0 {
			return fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, number(wants), number(allocatable)), false
		}
		taken.Add(want)
		if taken.Cmp(have) > 0 {
			return fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, number(wants), number(used), number(allocatable)), true
		}
	}
	return "", true
}

// Effective is what holds for a container: a limit that it does not have itself is its pod's.
func Effective(pod *corev1.ResourceRequirements, c corev1.ResourceRequirements) corev1.ResourceRequirements {
	if pod == nil {
		return c
	}
	out := *c.DeepCopy()
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if _, own := out.Limits[name]; own {
			continue
		}
		if q, ok := pod.Limits[name]; ok {
			if out.Limits == nil {
				out.Limits = corev1.ResourceList{}
			}
			out.Limits[name] = q
		}
	}
	return out
}

// Restarts says whether what changes between two grants takes a restart of the container, and whether anything does.
func Restarts(c *corev1.Container, from, to corev1.ResourceRequirements) (restart, changed bool) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if same(from.Requests, to.Requests, name) && same(from.Limits, to.Limits, name) {
			continue
		}
		changed = true
		restart = restart || slices.ContainsFunc(c.ResizePolicy, func(p corev1.ContainerResizePolicy) bool {
			return p.ResourceName == name && p.RestartPolicy == corev1.RestartContainer
		})
	}
	return restart, changed
}

func same(a, b corev1.ResourceList, name corev1.ResourceName) bool {
	x, y := a[name], b[name]
	return x.Cmp(y) == 0
}

// Upper is the larger of two grants in each limit and request: it holds while containers change from one to the other.
func Upper(a, b Grant) Grant {
	out := Grant{Containers: map[string]corev1.ResourceRequirements{}, Pod: b.Pod}
	if a.Pod != nil && b.Pod != nil {
		larger := upper(*a.Pod, *b.Pod)
		out.Pod = &larger
	}
	for name, to := range b.Containers {
		out.Containers[name] = upper(a.Containers[name], to)
	}
	return out
}

func upper(a, b corev1.ResourceRequirements) corev1.ResourceRequirements {
	out := *b.DeepCopy()
	if out.Requests == nil {
		out.Requests = corev1.ResourceList{}
	}
	for name, q := range a.Requests {
		if have := out.Requests[name]; q.Cmp(have) > 0 {
			out.Requests[name] = q
		}
	}
	for name := range maps.Clone(out.Limits) { // what one of them does not limit is not limited
		q, limited := a.Limits[name]
		if have := out.Limits[name]; !limited {
			delete(out.Limits, name)
		} else if q.Cmp(have) > 0 {
			out.Limits[name] = q
		}
	}
	return out
}

// ResizeMessage is what an Event of a resize says, as the kubelet's: beginning, and the pod's resources as JSON.
func ResizeMessage(beginning string, pod *corev1.Pod, generation int64, problem string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	said := struct {
		InitContainers []container `json:"initContainers,omitempty"`
		Containers     []container `json:"containers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}{Generation: generation, Error: problem}
	for i := range pod.Spec.InitContainers {
		said.InitContainers = append(said.InitContainers, container{pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Resources})
	}
	for i := range pod.Spec.Containers {
		said.Containers = append(said.Containers, container{pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Resources})
	}
	text, err := json.Marshal(said)
	if err != nil {
		return beginning
	}
	return beginning + ": " + string(text)
}
