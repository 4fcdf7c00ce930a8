package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	podplan "svcplane/node/pod"
	"svcplane/node/volume"
)

// failedStartRetry is when a container that could not be created is tried again, unless what it refers to
// changes before. An image may appear in the meantime too; pulls have a back-off of their own.
const failedStartRetry = 5 * time.Second

// syncRunning brings a pod that is to run to what it should be.
func (w *worker) syncRunning(ctx context.Context, st *podplan.State) (time.Duration, error) {
	st, err := w.stopRefused(ctx, st)
	if err != nil {
		return 0, err
	}
	if err := w.report(ctx, st, false); err != nil {
		return 0, err
	}
	w.looked()
	if isFinal(w.status.Phase) {
		return 0, nil // the next sync ends it
	}
	p := podplan.MakePlan(w.pod, st, w.n.probes.Verdict)
	inPlace := w.planResize(&p, st)
	w.waitsForMaster.Store(true)
	if len(p.Start) > 0 && !w.n.masterKnown() {
		return idle, nil // serviceChanged pokes
	}
	w.waitsForMaster.Store(false)
	if err := w.setupVolumes(ctx, st); err != nil {
		return 0, err
	}
	sandboxID, st, err := w.prepare(ctx, p, st)
	if err != nil {
		return 0, err
	}
	if w.inProgress != nil {
		if err := w.resize(ctx, st, sandboxID, inPlace); err != nil {
			return 0, err
		}
		if len(p.Start) == 0 {
			w.finishResize(ctx, st, sandboxID)
			return w.due(), w.look(ctx)
		}
	}
	if len(p.Start) == 0 {
		return w.due(), nil
	}
	if sandboxID == "" {
		return 0, fmt.Errorf("pod %s has no sandbox to start containers in", podText(w.pod))
	}
	started, wait, err := w.startContainers(ctx, p, st, sandboxID)
	if err != nil {
		return 0, err
	}
	if started > 0 {
		w.poke() // probes and the next init container belong to a sync of their own
	}
	return min(wait, w.due()), w.look(ctx)
}

// look reports what the runtime holds now.
func (w *worker) look(ctx context.Context) error {
	st, err := readState(ctx, w.n.cfg.Runtime, w.first.UID)
	if err != nil {
		return err
	}
	w.watchProbes(w.lifetime, st)
	return w.report(ctx, st, false)
}

// due is when the worker has to look again by the clock.
func (w *worker) due() time.Duration {
	wait := idle
	if left, ok := w.deadline(); ok {
		wait = min(wait, max(left, 0))
	}
	if w.pending != nil || w.inProgress != nil {
		wait = min(wait, resizeRetry)
	}
	if w.mounted != nil && !w.mounted.Refresh.IsZero() {
		wait = min(wait, max(time.Until(w.mounted.Refresh), time.Second))
	}
	return wait
}

// setupVolumes provides the volumes. A running pod keeps those it has when a refresh fails.
func (w *worker) setupVolumes(ctx context.Context, st *podplan.State) error {
	mounted, err := w.n.volumes.Setup(ctx, w.n.facts(w.pod, w.ips(st)))
	if err == nil {
		w.mounted = &mounted
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var one *volume.Error
	for _, e := range unjoin(err) {
		if errors.As(e, &one) {
			w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeWarning, "FailedMount", one.Error())
		}
	}
	if w.mounted != nil || len(st.Running()) > 0 {
		klog.V(2).InfoS("Refreshing the volumes of a running pod failed, as an Event tells", "pod", klog.KObj(w.pod), "err", err)
		if w.mounted == nil {
			w.mounted = &mounted
		}
		return nil
	}
	return reported{err}
}

func unjoin(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// prepare stops what has to go and makes sure of the sandbox.
func (w *worker) prepare(ctx context.Context, p podplan.Plan, st *podplan.State) (sandboxID string, _ *podplan.State, err error) {
	if s, ready := st.Sandbox(); ready {
		sandboxID = s.Id
	}
	if p.KillPod {
		if p.CreateSandbox && len(st.Sandboxes) > 0 {
			w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
		}
		if err := w.n.stopPod(ctx, w.pod, st, graceOf(w.pod)); err != nil {
			return "", st, err
		}
	}
	for _, k := range p.Kill {
		if err := w.n.stopContainer(ctx, w.pod, k.Container, k.Status, w.killGrace(k), k.Message); err != nil {
			return "", st, err
		}
	}
	if !p.CreateSandbox {
		return sandboxID, st, nil
	}
	if err := w.forgetInits(ctx, st); err != nil {
		return "", st, err
	}
	if sandboxID, err = w.runSandbox(ctx, p.Attempt); err != nil {
		return "", st, err
	}
	if st, err = readState(ctx, w.n.cfg.Runtime, w.first.UID); err != nil {
		return "", st, err
	}
	// The address is known from here on, also to others, and a pull may take long.
	return sandboxID, st, w.report(ctx, st, false)
}

// forgetInits removes the init containers of an earlier sandbox: in a new one they run again.
func (w *worker) forgetInits(ctx context.Context, st *podplan.State) error {
	for i := range w.pod.Spec.InitContainers {
		for _, s := range st.All(w.pod.Spec.InitContainers[i].Name) {
			if err := w.n.cfg.Runtime.RemoveContainer(ctx, s.Id); err != nil && !gone(err) {
				return fmt.Errorf("removing init container %s of the last sandbox: %w", podplan.ContainerName(s), err)
			}
		}
	}
	return nil
}

func (w *worker) runSandbox(ctx context.Context, attempt uint32) (string, error) {
	select {
	case w.n.starts <- struct{}{}:
		defer func() { <-w.n.starts }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	id, err := w.n.makeSandbox(ctx, w.pod, attempt)
	if err == nil {
		w.n.warnDNS(w.pod)
		w.n.warnLimits(w.pod)
		return id, nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	w.n.cfg.Recorder.Eventf(podRef(w.pod), corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", statusText(err))
	return "", reported{fmt.Errorf("making the sandbox of pod %s: %w", podText(w.pod), err)}
}

// startContainers starts what the plan says, one after the other. next is when to try again what could not
// be started.
func (w *worker) startContainers(ctx context.Context, p podplan.Plan, st *podplan.State, sandboxID string) (started int, next time.Duration, err error) {
	config, err := w.n.sandboxConfig(w.pod, p.Attempt)
	if err != nil {
		return 0, 0, err
	}
	l := &launch{pod: w.pod, state: st, sandboxID: sandboxID, sandbox: config, ips: w.ips(st), volumes: *w.mounted, waiting: w.waiting}
	l.tell = func(c *corev1.Container, message string) { w.tell(ctx, st, c, message) }
	next = idle
	for _, c := range p.Start {
		if wait, bad := w.n.backingOff(w.pod, c, st); bad != nil {
			if w.waiting[c.Name] != *bad {
				w.n.cfg.Recorder.Eventf(objectRef(w.pod, c), corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", c.Name, podText(w.pod))
			}
			w.waiting[c.Name] = *bad
			next = min(next, wait)
			continue
		}
		bad := w.n.start(ctx, l, c)
		if ctx.Err() != nil {
			return started, 0, context.Cause(ctx)
		}
		if bad != nil {
			w.waiting[c.Name] = *bad
			next = min(next, failedStartRetry)
			continue
		}
		started++
		delete(w.waiting, c.Name)
		if err := w.actuated(c); err != nil {
			return started, 0, err
		}
		if err := w.n.dropOld(ctx, l, c); err != nil {
			return started, 0, err
		}
	}
	return started, next, nil
}

// tell reports what a container waits for. It is not what keeps it from running, so that it is forgotten.
func (w *worker) tell(ctx context.Context, st *podplan.State, c *corev1.Container, message string) {
	before, had := w.waiting[c.Name]
	reason := "ContainerCreating"
	if len(w.pod.Spec.InitContainers) > 0 {
		reason = "PodInitializing"
	}
	w.waiting[c.Name] = podplan.Why{Reason: reason, Message: message}
	err := w.report(ctx, st, false)
	if delete(w.waiting, c.Name); had {
		w.waiting[c.Name] = before
	}
	if err != nil && ctx.Err() == nil {
		klog.V(2).InfoS("Reporting how far a pull is", "pod", klog.KObj(w.pod), "err", err)
	}
}

// backingOff says whether a container that ended has to wait before it is started again: 10 s after its
// second end, doubled each time up to 5 minutes, forgotten after it ran for 10 minutes.
func (n *Node) backingOff(pod *corev1.Pod, c *corev1.Container, st *podplan.State) (time.Duration, *podplan.Why) {
	last := st.Latest(c.Name)
	if !podplan.HasExited(last) {
		return 0, nil
	}
	key := crashKey(pod, c)
	ended := time.Unix(0, last.FinishedAt)
	if !n.crash.IsInBackOffSince(key, ended) {
		n.crash.Next(key, ended)
		return 0, nil
	}
	full := n.crash.Get(key)
	message := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", full, c.Name, podText(pod))
	return full - time.Since(ended) + 50*time.Millisecond, &podplan.Why{Reason: "CrashLoopBackOff", Message: message}
}

func crashKey(pod *corev1.Pod, c *corev1.Container) string {
	return string(pod.UID) + "_" + c.Name + "_" + podplan.ContainerHash(c)
}

// dropOld removes what is left of earlier instances of a container but the last one, whose log
// `kubectl logs -p` shows.
func (n *Node) dropOld(ctx context.Context, l *launch, c *corev1.Container) error {
	instances := l.state.All(c.Name)
	if len(instances) < 2 {
		return nil
	}
	for _, old := range instances[1:] {
		if podplan.IsRunning(old) {
			continue
		}
		if err := n.cfg.Runtime.RemoveContainer(ctx, old.Id); err != nil && !gone(err) {
			return fmt.Errorf("removing an old instance of container %s: %w", c.Name, err)
		}
	}
	dropLogs(filepath.Join(l.sandbox.LogDirectory, c.Name), podplan.RestartCount(instances[0]))
	return nil
}

// killGrace is the grace period of a container that is stopped while its pod goes on: a probe may set its own.
func (w *worker) killGrace(k podplan.Kill) time.Duration {
	v, _ := w.n.probes.Verdict(k.Status.Id)
	var p *corev1.Probe
	switch {
	case v.LivenessFailed:
		p = k.Container.LivenessProbe
	case v.StartupFailed:
		p = k.Container.StartupProbe
	}
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	return graceOf(w.pod)
}

// isSidecar says whether a container is an init container that keeps running.
func isSidecar(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name {
			return podutil.IsRestartableInitContainer(c)
		}
	}
	return false
}
