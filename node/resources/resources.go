package resources

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	v1qos "k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/kubernetes/pkg/kubelet/qos"
)

// Node is what has to be known of the machine.
type Node struct {
	Memory   int64    // octets that it has
	MaxPIDs  int64    // processes and threads of a pod; 0: no limit
	OOMGroup bool     // all processes of a container can be ended together
	Swap     bool     // the kernel limits swap
	Unified  bool     // by cgroup version 2
	Huge     []string // the sizes of huge pages that the machine has, as the kernel writes them: 2MB
}

// Names in the tree of cgroups, and what limits of CRI have no field for.
const (
	kubepods  = "kubepods"
	podPrefix = "pod"
	keyPIDs   = "pids.max"
)

// Parameters of cgroups as Kubernetes sets them.
const (
	cpuPeriod            = 100_000 // microseconds
	minQuota             = 1_000
	minShares, maxShares = 2, 262144
	unlimited            = -1
)

// Class is the pod's class of service.
func Class(pod *corev1.Pod) corev1.PodQOSClass { return v1qos.GetPodQOS(pod) }

// Group is the cgroup of a pod in the tree that begins at top.
func Group(top string, pod *corev1.Pod) string {
	return path.Join(ClassGroup(top, Class(pod)), podPrefix+string(pod.UID))
}

// ClassGroup has the pods of a class; those of Guaranteed have no cgroup of their own for it.
func ClassGroup(top string, class corev1.PodQOSClass) string {
	if class == corev1.PodQOSGuaranteed {
		return path.Join(top, kubepods)
	}
	return path.Join(top, kubepods, strings.ToLower(string(class)))
}

// Shares are what a request of the processors counts beside others.
func Shares(request *resource.Quantity) int64 {
	return min(max(request.MilliValue()*1024/1000, minShares), maxShares)
}

// quota is the processor time in a period that a limit allows; 0: there is no limit.
func quota(limit *resource.Quantity) int64 {
	if limit.IsZero() {
		return 0
	}
	return max(limit.MilliValue()*cpuPeriod/1000, minQuota)
}

// Pod gives the limits of a pod as a whole, and what running it takes on top of that (spec.overhead).
func (n Node) Pod(pod *corev1.Pod) (own, overhead *runtimeapi.LinuxContainerResources) {
	own = &runtimeapi.LinuxContainerResources{CpuShares: minShares}
	if n.MaxPIDs > 0 {
		own.Unified = map[string]string{keyPIDs: strconv.FormatInt(n.MaxPIDs, 10)}
	}
	class := Class(pod)
	options := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
	requests := resourcehelper.PodRequests(pod, options)
	own.HugepageLimits = n.hugepages(requests)
	if class == corev1.PodQOSBestEffort {
		return own, nil
	}
	own.CpuShares, own.CpuPeriod, own.CpuQuota = Shares(requests.Cpu()), cpuPeriod, unlimited
	limits, cpu, memory := podLimits(pod, options)
	if cpu || class == corev1.PodQOSGuaranteed {
		own.CpuQuota = quota(limits.Cpu())
	}
	if memory || class == corev1.PodQOSGuaranteed {
		own.MemoryLimitInBytes = limits.Memory().Value()
	}
	if over := pod.Spec.Overhead; over != nil {
		overhead = &runtimeapi.LinuxContainerResources{
			CpuPeriod: cpuPeriod, CpuShares: Shares(over.Cpu()), CpuQuota: quota(over.Cpu()), MemoryLimitInBytes: over.Memory().Value(),
		}
	}
	return own, overhead
}

// podLimits says also for which resources all containers, or the pod itself, have a limit.
func podLimits(pod *corev1.Pod, options resourcehelper.PodResourcesOptions) (limits corev1.ResourceList, cpu, memory bool) {
	cpu, memory = true, true
	options.ContainerFn = func(r corev1.ResourceList, _ resourcehelper.ContainerType) {
		cpu, memory = cpu && !r.Cpu().IsZero(), memory && !r.Memory().IsZero()
	}
	limits = resourcehelper.PodLimits(pod, options)
	if own := pod.Spec.Resources; own != nil {
		cpu, memory = cpu || !own.Limits.Cpu().IsZero(), memory || !own.Limits.Memory().IsZero()
	}
	return limits, cpu, memory
}

// Container gives the limits of one container.
func (n Node) Container(pod *corev1.Pod, c *corev1.Container) *runtimeapi.LinuxContainerResources {
	cpu, memory := c.Resources.Limits.Cpu(), c.Resources.Limits.Memory()
	huge := corev1.ResourceList{}
	if own := pod.Spec.Resources; own != nil {
		if cpu.IsZero() {
			cpu = own.Limits.Cpu()
		}
		if memory.IsZero() {
			memory = own.Limits.Memory()
		}
		maps.Copy(huge, own.Limits)
	}
	maps.Copy(huge, c.Resources.Limits)
	request, asked := c.Resources.Requests[corev1.ResourceCPU]
	if !asked {
		request = *cpu
	}
	r := &runtimeapi.LinuxContainerResources{
		CpuPeriod: cpuPeriod, CpuShares: Shares(&request), CpuQuota: quota(cpu), MemoryLimitInBytes: memory.Value(),
		OomScoreAdj: int64(qos.GetContainerOOMScoreAdjust(pod, c, n.Memory)), HugepageLimits: n.hugepages(huge),
	}
	if n.OOMGroup {
		r.Unified = map[string]string{"memory.oom.group": "1"}
	}
	switch {
	case !n.Swap:
	case n.Unified:
		if r.Unified == nil {
			r.Unified = map[string]string{}
		}
		r.Unified["memory.swap.max"] = "0"
	default:
		r.MemorySwapLimitInBytes = r.MemoryLimitInBytes
	}
	return r
}

// hugepages limits every size that the machine has, to nothing where nothing is asked for.
func (n Node) hugepages(list corev1.ResourceList) []*runtimeapi.HugepageLimit {
	var limits []*runtimeapi.HugepageLimit
	for _, size := range n.Huge {
		limits = append(limits, &runtimeapi.HugepageLimit{PageSize: size})
	}
	for name, amount := range list {
		text, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if !ok {
			continue
		}
		octets, err := resource.ParseQuantity(text)
		if err != nil {
			continue // the API refuses it
		}
		i := slices.IndexFunc(limits, func(l *runtimeapi.HugepageLimit) bool { return l.PageSize == pageSize(octets.Value()) })
		if i >= 0 {
			limits[i].Limit = uint64(amount.Value())
		}
	}
	return limits
}

// pageSize is how the kernel writes a size.
func pageSize(octets int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	i := 0
	for ; octets >= 1024 && octets%1024 == 0 && i < len(units)-1; i++ {
		octets /= 1024
	}
	return strconv.FormatInt(octets, 10) + units[i]
}

// Reservation is what of the node is not there for pods.
type Reservation struct {
	System, Kube corev1.ResourceList // --system-reserved, --kube-reserved
	Eviction     corev1.ResourceList // what has to stay free, else pods are evicted
}

// PID names processes in a reservation.
const PID corev1.ResourceName = "pid"

// Allocatable is what pods may request together.
func (r Reservation) Allocatable(capacity corev1.ResourceList) corev1.ResourceList {
	return without(capacity, r.System, r.Kube, r.Eviction)
}

// Enforced is what pods may use together: eviction begins before that.
func (r Reservation) Enforced(capacity corev1.ResourceList) corev1.ResourceList {
	return without(capacity, r.System, r.Kube)
}

// Excess names a resource of which more is reserved than the node has, or nothing. What has to stay free may be all there is.
func (r Reservation) Excess(capacity corev1.ResourceList) (name corev1.ResourceName, reserved, has resource.Quantity) {
	for _, name := range slices.Sorted(maps.Keys(capacity)) {
		var sum resource.Quantity
		for _, list := range []corev1.ResourceList{r.System, r.Kube} {
			sum.Add(list[name])
		}
		if has := capacity[name]; sum.Cmp(has) > 0 {
			return name, sum, has
		}
	}
	return "", resource.Quantity{}, resource.Quantity{}
}

func without(capacity corev1.ResourceList, taken ...corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range capacity {
		left := q.DeepCopy()
		for _, list := range taken {
			left.Sub(list[name])
		}
		if left.Sign() < 0 {
			left.Set(0)
		}
		out[name] = left
	}
	return out
}

// ClassShares are what all pods of Burstable count together beside the others.
func ClassShares(pods []*corev1.Pod) int64 {
	sum := resource.Quantity{}
	for _, pod := range pods {
		if Class(pod) == corev1.PodQOSBurstable {
			requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
			sum.Add(*requests.Cpu())
		}
	}
	return Shares(&sum)
}

// Limited says whether any container of a pod asks for a resource to be limited, or counted, by the kernel.
func Limited(pod *corev1.Pod, match func(corev1.ResourceName) bool) bool {
	all := []corev1.ResourceRequirements{}
	if own := pod.Spec.Resources; own != nil {
		all = append(all, *own)
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			all = append(all, list[i].Resources)
		}
	}
	for _, r := range all {
		for name := range r.Limits {
			if match(name) {
				return true
			}
		}
	}
	return false
}
