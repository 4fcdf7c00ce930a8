package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	podplan "svcplane/node/pod"
	"svcplane/node/resources"
)

// grants is what a pod was given, and what of it its containers have; kept on disk, since only the former is in the API.
type grants struct {
	Allocated resources.Grant `json:"allocated"`
	Actuated  resources.Grant `json:"actuated"` // by containers that run
}

// resizeRetry is when a deferred resize is tried again, unless another pod makes room before.
const resizeRetry = 30 * time.Second

func (n *Node) grantsFile(pod *corev1.Pod) string {
	return filepath.Join(n.podDir(pod), "resources.json")
}

// allocate decides whether the pod gets what it asks for now, and has it run with what it was given (KEP-1287).
func (w *worker) allocate(st *podplan.State) {
	asks := w.pod
	w.n.allocating.Lock()
	defer w.n.allocating.Unlock()
	if w.grants == nil {
		w.grants = w.n.loadGrants(asks)
		w.resumeResize()
	}
	granted, differs := w.grants.Allocated.Apply(asks)
	defer func() { w.allocated.Store(w.pod) }()
	if !differs {
		w.pending = nil
		return
	}
	w.pod = granted
	if isFinal(w.status.Phase) || asks.DeletionTimestamp != nil {
		return
	}
	if reason, message := w.n.mayResize(asks, st); reason != "" {
		w.setPending(asks, reason, message)
		return
	}
	before := w.grants.Allocated
	w.grants.Allocated = resources.Asked(asks)
	if err := w.n.saveGrants(asks, w.grants); err != nil {
		klog.ErrorS(err, "Recording what a pod was given; it keeps what it has", "pod", klog.KObj(asks))
		w.grants.Allocated = before
		return
	}
	w.pod, w.pending = asks, nil
	w.inProgress = resizeCondition(corev1.PodResizeInProgress, nil, "", "", asks.Generation)
	w.n.cfg.Recorder.Event(podRef(asks), corev1.EventTypeNormal, "ResizeStarted", resources.ResizeMessage("Pod resize started", asks, asks.Generation, ""))
	w.n.retryDeferred(asks)
}

// mayResize says why a pod does not get what it asks for.
func (n *Node) mayResize(pod *corev1.Pod, st *podplan.State) (reason, message string) {
	if n.cgroups.tree == nil {
		return corev1.PodReasonInfeasible, "In-place resize is not possible: this node limits no pods"
	}
	for _, gap := range n.cgroups.tree.Missing() {
		if gap.Controller == string(corev1.ResourceCPU) || gap.Controller == string(corev1.ResourceMemory) {
			return corev1.PodReasonInfeasible, "In-place resize is not possible: " + gap.String()
		}
	}
	if len(st.Running()) > 0 && !n.hasGroup(pod) {
		return corev1.PodReasonInfeasible, "In-place resize is not possible: the pod runs from before this node had cgroups; make it anew"
	}
	message, ever := resources.Short(pod, n.granted(pod.UID), n.allocatable)
	switch {
	case message == "":
		return "", ""
	case !ever:
		return corev1.PodReasonInfeasible, message
	}
	return corev1.PodReasonDeferred, message
}

// granted are the pods of this node but one, with what each was given. After a start that is on the disk for those whose
// workers have not looked yet: without them a pod that waits would get their room.
func (n *Node) granted(but types.UID) []*corev1.Pod {
	all := map[types.UID]*corev1.Pod{}
	for _, o := range n.pods.GetStore().List() {
		if pod := o.(*corev1.Pod); n.ours(pod) && !isFinal(pod.Status.Phase) {
			all[pod.UID] = pod
		}
	}
	looked := map[types.UID]bool{}
	n.mu.Lock()
	for uid, w := range n.workers {
		if isFinal(w.phase()) {
			delete(all, uid)
		} else if p := w.allocated.Load(); p != nil {
			all[uid], looked[uid] = p, true
		}
	}
	n.mu.Unlock()
	delete(all, but)
	var others []*corev1.Pod
	for uid, pod := range all {
		if !looked[uid] {
			pod, _ = n.loadGrants(pod).Allocated.Apply(pod)
		}
		others = append(others, pod)
	}
	return others
}

// hasGroup says whether a pod that runs has a cgroup; one of svcplane/echo alone needs none.
func (n *Node) hasGroup(pod *corev1.Pod) bool {
	if n.cgroups.tree.Has(resources.Group(n.cgroups.tree.Top(), pod)) {
		return true
	}
	for i := range pod.Spec.Containers {
		if name, _, _ := strings.Cut(pod.Spec.Containers[i].Image, ":"); name != "svcplane/echo" {
			return false
		}
	}
	return true
}

// retryDeferred wakes the pods that wait for room, since another one has changed.
func (n *Node) retryDeferred(but *corev1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for uid, w := range n.workers {
		if uid != but.UID && w.deferred.Load() {
			w.poke()
		}
	}
}

// setPending keeps why a resize waits, and tells of it once.
func (w *worker) setPending(asks *corev1.Pod, reason, message string) {
	before := w.pending
	w.pending = resizeCondition(corev1.PodResizePending, before, reason, message, asks.Generation)
	if before != nil && before.Reason == reason && before.ObservedGeneration == asks.Generation {
		return
	}
	w.n.cfg.Recorder.Event(podRef(asks), corev1.EventTypeWarning, "Resize"+reason, resources.ResizeMessage("Pod resize "+reason, asks, asks.Generation, message))
}

func resizeCondition(kind corev1.PodConditionType, before *corev1.PodCondition, reason, message string, generation int64) *corev1.PodCondition {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	c := &corev1.PodCondition{
		Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation,
		LastProbeTime: now, LastTransitionTime: now,
	}
	if before != nil && before.Reason == reason {
		c.LastTransitionTime = before.LastTransitionTime
		if before.Message == message && before.ObservedGeneration == generation {
			c.LastProbeTime = before.LastProbeTime // nothing new is to be written
		}
	}
	return c
}

// resumeResize takes conditions over that were written before a restart.
func (w *worker) resumeResize() {
	for i := range w.status.Conditions {
		c := w.status.Conditions[i]
		switch c.Type {
		case corev1.PodResizePending:
			w.pending = &c
		case corev1.PodResizeInProgress:
			w.inProgress = &c
		}
	}
}

// resizing are the conditions to report.
func (w *worker) resizing() []corev1.PodCondition {
	var list []corev1.PodCondition
	w.deferred.Store(w.pending != nil && w.pending.Reason == corev1.PodReasonDeferred)
	for _, c := range []*corev1.PodCondition{w.pending, w.inProgress} {
		if c != nil {
			list = append(list, *c)
		}
	}
	return list
}

// has is what a container that runs has, where that is not what its pod was given.
func (w *worker) has(name string) (corev1.ResourceRequirements, bool) {
	if w.grants == nil {
		return corev1.ResourceRequirements{}, false
	}
	r, ok := w.grants.Actuated.Containers[name]
	return r, ok
}

// planResize adds containers to a plan whose resize takes a restart, and gives those that change as they run.
func (w *worker) planResize(p *podplan.Plan, st *podplan.State) (inPlace []*corev1.Container) {
	if p.KillPod || p.CreateSandbox || w.grants == nil {
		return nil
	}
	look := func(c *corev1.Container) {
		last := st.Latest(c.Name)
		if !podplan.IsRunning(last) || slices.ContainsFunc(p.Kill, func(k podplan.Kill) bool { return k.Container.Name == c.Name }) {
			return
		}
		restart, changed := resources.Restarts(c, resources.Effective(w.grants.Actuated.Pod, w.grants.Actuated.Containers[c.Name]),
			resources.Effective(w.grants.Allocated.Pod, c.Resources))
		switch {
		case restart:
			p.Kill = append(p.Kill, podplan.Kill{Status: last, Container: c, Message: fmt.Sprintf("Container %s resize requires restart", c.Name)})
			p.Start = append(p.Start, c)
		case changed:
			inPlace = append(inPlace, c)
		}
	}
	for i := range w.pod.Spec.InitContainers {
		if c := &w.pod.Spec.InitContainers[i]; isSidecar(w.pod, c.Name) {
			look(c)
		}
	}
	for i := range w.pod.Spec.Containers {
		look(&w.pod.Spec.Containers[i])
	}
	return inPlace
}

// resize brings running containers to what the pod was given. The pod as a whole has the larger of both meanwhile: a kernel lets
// no group have more processor time than the one it is in.
func (w *worker) resize(ctx context.Context, st *podplan.State, sandboxID string, inPlace []*corev1.Container) error {
	if w.inProgress == nil || sandboxID == "" || w.n.cgroups.tree == nil {
		return nil
	}
	if err := w.tooSmall(st, inPlace); err != nil {
		w.resizeFailed(err)
		return nil
	}
	between, _ := resources.Upper(w.grants.Actuated, w.grants.Allocated).Apply(w.pod)
	if err := w.resizePod(ctx, sandboxID, between); err != nil {
		w.resizeFailed(err)
		return nil
	}
	for _, c := range inPlace {
		update := &runtimeapi.ContainerResources{Linux: unlimitedAsSuch(w.n.cgroups.limits.Container(w.pod, c))}
		if err := w.n.cfg.Runtime.UpdateContainerResources(ctx, st.Latest(c.Name).Id, update); err != nil {
			w.resizeFailed(err)
			return nil
		}
		if err := w.actuated(c); err != nil {
			return err
		}
	}
	w.grants.Actuated.Pod = w.grants.Allocated.Pod
	return w.n.saveGrants(w.pod, w.grants)
}

// finishResize ends a resize when nothing differs any more.
func (w *worker) finishResize(ctx context.Context, st *podplan.State, sandboxID string) {
	var rest podplan.Plan
	if w.inProgress == nil || sandboxID == "" || !equality.Semantic.DeepEqual(w.grants.Actuated.Pod, w.grants.Allocated.Pod) || len(w.planResize(&rest, st)) > 0 || len(rest.Kill) > 0 {
		return
	}
	if err := w.resizePod(ctx, sandboxID, w.pod); err != nil {
		w.resizeFailed(err)
		return
	}
	generation := w.inProgress.ObservedGeneration
	w.inProgress = nil
	w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeNormal, "ResizeCompleted", resources.ResizeMessage("Pod resize completed", w.pod, generation, ""))
}

func (w *worker) resizePod(ctx context.Context, sandboxID string, as *corev1.Pod) error {
	own, overhead := w.n.cgroups.limits.Pod(as)
	_, err := w.n.cfg.Runtime.UpdatePodSandboxResources(ctx, &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: sandboxID, Resources: unlimitedAsSuch(own), Overhead: overhead,
	})
	if unimplemented(err) {
		return nil // a runtime without: it limits containers alone
	}
	return err
}

// unlimitedAsSuch takes limits away: what is zero in an update stays as it is.
func unlimitedAsSuch(r *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	if r.CpuQuota == 0 {
		r.CpuQuota = -1
	}
	if r.MemoryLimitInBytes == 0 {
		r.MemoryLimitInBytes = -1
	}
	return r
}

// tooSmall refuses a limit of memory below what is used: the kernel would end processes for it.
func (w *worker) tooSmall(st *podplan.State, inPlace []*corev1.Container) error {
	tree, group := w.n.cgroups.tree, resources.Group(w.n.cgroups.tree.Top(), w.pod)
	var errs []error
	for _, c := range inPlace {
		at := path.Join(group, st.Latest(c.Name).Id)
		now, err := tree.Get(at)
		want := w.n.cgroups.limits.Container(w.pod, c).MemoryLimitInBytes
		if err != nil || want == 0 || now.Memory > 0 && now.Memory <= want {
			continue // it has no group, or gets no less
		}
		if used, err := tree.MemoryUsed(at); err == nil && used >= want {
			errs = append(errs, fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", c.Name, want, used))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("cannot decrease memory limits: %w", errors.Join(errs...))
}

// resizeFailed keeps why a resize does not get on, and tells of it once.
func (w *worker) resizeFailed(err error) {
	before, message := w.inProgress, statusText(err)
	w.inProgress = resizeCondition(corev1.PodResizeInProgress, before, corev1.PodReasonError, message, before.ObservedGeneration)
	if before.Reason != corev1.PodReasonError || before.Message != message {
		w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeWarning, "ResizeError",
			resources.ResizeMessage("Pod resize error", w.pod, before.ObservedGeneration, message))
	}
}

// actuated records that a container has what the pod was given for it.
func (w *worker) actuated(c *corev1.Container) error {
	if w.grants == nil {
		return nil
	}
	if have, ok := w.grants.Actuated.Containers[c.Name]; ok {
		if _, changed := resources.Restarts(c, have, c.Resources); !changed {
			return nil
		}
	}
	w.grants.Actuated.Containers[c.Name] = *c.Resources.DeepCopy()
	return w.n.saveGrants(w.pod, w.grants)
}

// loadGrants reads what a pod was given. One of which nothing is recorded, or that runs since an earlier version, has what it asks for.
func (n *Node) loadGrants(pod *corev1.Pod) *grants {
	g := &grants{}
	raw, err := os.ReadFile(n.grantsFile(pod))
	if err == nil {
		err = json.Unmarshal(raw, g)
	}
	if err == nil && g.Allocated.Containers != nil && g.Actuated.Containers != nil {
		return g
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		klog.ErrorS(err, "Reading what a pod was given; it has what it asks for", "pod", klog.KObj(pod))
	}
	g = &grants{Allocated: resources.Asked(pod), Actuated: resources.Asked(pod)}
	if len(pod.Spec.Containers) > 0 && pod.DeletionTimestamp == nil && !isFinal(pod.Status.Phase) {
		if err := n.saveGrants(pod, g); err != nil {
			klog.ErrorS(err, "Recording what a pod was given", "pod", klog.KObj(pod))
		}
	}
	return g
}

func (n *Node) saveGrants(pod *corev1.Pod, g *grants) error {
	raw, err := json.Marshal(g)
	if err != nil {
		return err
	}
	file := n.grantsFile(pod)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("recording what pod %s was given: %w", podText(pod), err)
	}
	if err := os.WriteFile(file+".new", raw, 0o600); err != nil {
		return fmt.Errorf("recording what pod %s was given: %w", podText(pod), err)
	}
	return os.Rename(file+".new", file)
}
