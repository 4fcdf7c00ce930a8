package node

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/node/eviction"
	"svcplane/node/resources"
	"svcplane/node/runtime/cgroup"
)

// cgroups limits what all pods use together; the runtime limits each.
type cgroups struct {
	tree   *cgroup.Tree
	limits resources.Node
	shares int64 // of Burstable, as it was written last
	nodeOK bool  // the node's own limits are in force
}

// setupCgroups makes the cgroups above those of pods.
func (n *Node) setupCgroups() error {
	n.cgroups.limits = resources.Node{MaxPIDs: n.cfg.PodMaxPIDs}
	memory, err := totalMemory()
	if err != nil {
		return err
	}
	n.cgroups.limits.Memory = memory
	tree := n.cfg.Cgroups
	if tree == nil {
		return nil
	}
	n.cgroups.tree = tree
	n.cgroups.limits.OOMGroup, n.cgroups.limits.Unified, n.cgroups.limits.Swap = tree.OOMGroups(), tree.OOMGroups(), tree.LimitsSwap()
	n.cgroups.limits.Huge = cgroup.HugePageSizes()
	for _, gap := range tree.Missing() {
		klog.InfoS("Something of what pods may use is not limited; svcplane status shows it, too", "missing", gap)
	}
	n.enforceNode()
	// A node whose pods count a little too much beside others serves on.
	if err := tree.Make(resources.ClassGroup(tree.Top(), corev1.PodQOSBestEffort), cgroup.Resources{Shares: 2, Huge: n.unlimitedPages()}); err != nil {
		klog.ErrorS(err, "Making the cgroups of pods")
	}
	if err := n.shareOut(); err != nil {
		klog.ErrorS(err, "Sharing the processors out to the pods")
	}
	return nil
}

func (n *Node) unlimitedPages() map[string]uint64 {
	all := map[string]uint64{}
	for _, size := range n.cgroups.limits.Huge {
		all[size] = math.MaxInt64 >> 1
	}
	return all
}

// enforceNode limits all pods together to what is not reserved. When they use more than that already, it is tried again.
func (n *Node) enforceNode() {
	g := &n.cgroups
	if g.tree == nil || g.nodeOK {
		return
	}
	capacity, err := n.capacity()
	if err == nil {
		// What the machine has, whatever the node offers.
		if q := capacity[corev1.ResourceMemory]; q.Value() > g.limits.Memory {
			capacity[corev1.ResourceMemory] = *resource.NewQuantity(g.limits.Memory, resource.BinarySI)
		}
		var pids int64
		if pids, err = maxPIDs(); err == nil {
			capacity[resources.PID] = *resource.NewQuantity(pids, resource.DecimalSI)
		}
	}
	if err != nil {
		klog.ErrorS(err, "Limiting what all pods use together")
		return
	}
	may := n.reservation(capacity).Enforced(capacity)
	pids := may[resources.PID]
	limits := cgroup.Resources{
		Shares: uint64(resources.Shares(may.Cpu())), Memory: may.Memory().Value(), PIDs: pids.Value(),
	}
	// The top is beside everything else on the machine, and counts as much as what is in it.
	err = g.tree.Make(g.tree.Top(), cgroup.Resources{Shares: limits.Shares})
	if err == nil {
		err = g.tree.Make(resources.ClassGroup(g.tree.Top(), corev1.PodQOSGuaranteed), limits)
	}
	if err != nil {
		n.cfg.Recorder.Eventf(n.ref(), corev1.EventTypeWarning, "FailedNodeAllocatableEnforcement", "Failed to update Node Allocatable Limits %q: %v",
			resources.ClassGroup(g.tree.Top(), corev1.PodQOSGuaranteed), err)
		return
	}
	g.nodeOK = true
	n.cfg.Recorder.Event(n.ref(), corev1.EventTypeNormal, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
}

// keepCgroups compares the shares of classes with what pods request, until ctx ends.
func (n *Node) keepCgroups(ctx context.Context) {
	if n.cgroups.tree == nil {
		return
	}
	ticker := time.NewTicker(classesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		n.enforceNode()
		if err := n.shareOut(); err != nil {
			klog.ErrorS(err, "Sharing the processors out to the pods")
		}
	}
}

// classesEvery is how soon the class Burstable gets what its pods request together.
const classesEvery = 5 * time.Second

// shareOut gives the class Burstable as many shares as its pods request.
func (n *Node) shareOut() error {
	var pods []*corev1.Pod
	for _, o := range n.pods.GetStore().List() {
		if pod := o.(*corev1.Pod); n.ours(pod) && !isFinal(pod.Status.Phase) {
			pods = append(pods, pod)
		}
	}
	shares := resources.ClassShares(pods)
	if shares == n.cgroups.shares {
		return nil
	}
	at := resources.ClassGroup(n.cgroups.tree.Top(), corev1.PodQOSBurstable)
	if err := n.cgroups.tree.Make(at, cgroup.Resources{Shares: uint64(shares), Huge: n.unlimitedPages()}); err != nil {
		return err
	}
	n.cgroups.shares = shares
	return nil
}

// limitSandbox names the pod's cgroup, and limits it as a whole.
func (n *Node) limitSandbox(linux *runtimeapi.LinuxPodSandboxConfig, pod *corev1.Pod) {
	linux.Resources, linux.Overhead = n.cgroups.limits.Pod(pod)
	if n.cgroups.tree != nil {
		linux.CgroupParent = resources.Group(n.cgroups.tree.Top(), pod)
	}
}

// warnLimits says on a pod which of the limits that it asks for are not enforced.
func (n *Node) warnLimits(pod *corev1.Pod) {
	if n.cgroups.tree == nil {
		return
	}
	for _, gap := range n.cgroups.tree.Missing() {
		asked := resources.Limited(pod, func(name corev1.ResourceName) bool {
			return gap.Controller == string(name) || gap.Controller == cgroup.Huge && strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
		})
		if asked {
			n.cfg.Recorder.Event(podRef(pod), corev1.EventTypeWarning, "LimitsNotEnforced", gap.String())
		}
	}
}

// reservation is what is not there for pods: what has to stay free belongs to it.
func (n *Node) reservation(capacity corev1.ResourceList) resources.Reservation {
	return resources.Reservation{System: n.cfg.SystemReserved, Kube: n.cfg.KubeReserved, Eviction: eviction.Reserve(n.cfg.EvictionHard, capacity)}
}

// CheckReserved is an error when more of the machine is reserved than it has, or offers.
func CheckReserved(offered, system, kube corev1.ResourceList) error {
	capacity, err := machine()
	if err != nil {
		return err
	}
	maps.Copy(capacity, offered)
	return checkReserved(resources.Reservation{System: system, Kube: kube}, capacity)
}

func checkReserved(r resources.Reservation, capacity corev1.ResourceList) error {
	if name, reserved, has := r.Excess(capacity); name != "" {
		return fmt.Errorf("%w. Resource %q has a reservation of %s but capacity of %s. Expected capacity >= reservation: lower --system-reserved or --kube-reserved",
			errReserved, name, reserved.String(), has.String())
	}
	return nil
}

// offered is what pods may request; it is an error when more is reserved than there is.
func (n *Node) offered(capacity corev1.ResourceList) (corev1.ResourceList, error) {
	r := n.reservation(capacity)
	return r.Allocatable(capacity), checkReserved(r, capacity)
}

func totalMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("reading the size of memory: %w", err)
	}
	return int64(info.Totalram) * int64(info.Unit), nil
}

// maxPIDs is how many processes and threads the machine can have.
func maxPIDs() (int64, error) {
	numbers, err := readNumber("/proc/sys/kernel/pid_max")
	if err != nil {
		return 0, err
	}
	threads, err := readNumber("/proc/sys/kernel/threads-max")
	return min(numbers, threads), err
}

func readNumber(path string) (int64, error) {
	n, err := strconv.ParseInt(firstLine(path), 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("reading a limit of the kernel: %s holds %q", path, firstLine(path))
	}
	return n, nil
}
