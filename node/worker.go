package node

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"svcplane/node/eviction"
	podplan "svcplane/node/pod"
	"svcplane/node/probe"
	"svcplane/node/volume"
)

// idle is how long a worker sleeps when nothing is due. It looks again then, so that nothing depends on every
// wake having come through.
const idle = 5 * time.Minute

// worker acts on one pod.
type worker struct {
	n      *Node
	first  *corev1.Pod // as it was when the worker began: identity, and what it refers to
	signal chan struct{}
	looked func()

	waitsForMaster atomic.Bool
	wrote          atomic.Pointer[string]     // resource version of our own last write
	allocated      atomic.Pointer[corev1.Pod] // with what it was given
	deferred       atomic.Bool                // it waits for room to be resized

	// The loop alone uses these.
	lifetime context.Context        // of the loop: probes outlive the sync that finds their container
	pod      *corev1.Pod            // newest object
	known    bool                   // the API has had the pod while this worker ran
	base     *corev1.Pod            // what the last patch of the status returned
	status   corev1.PodStatus       // what was reported last
	waiting  map[string]podplan.Why // by container
	mounted  *volume.Mounted        // nil: not all volumes were ready yet
	failures int                    // in a row
	failed   *podplan.Why           // the pod as a whole
	ending   *killing

	grants              *grants                           // nil: not looked at yet
	pending, inProgress *corev1.PodCondition              // of a resize
	evicted             atomic.Pointer[eviction.Eviction] // set by others

	mu      sync.Mutex
	stop    context.CancelFunc // ends the present sync; nil when it must not be
	current corev1.PodPhase
}

func newWorker(n *Node, pod *corev1.Pod, looked func()) *worker {
	return &worker{
		n: n, first: pod, pod: pod, looked: looked,
		signal:  make(chan struct{}, 1),
		status:  *pod.Status.DeepCopy(),
		waiting: map[string]podplan.Why{},
		current: pod.Status.Phase,
	}
}

// poke makes the worker look again.
func (w *worker) poke() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// interrupt ends what the worker is waiting for, a pull or a hook, because the pod is going away.
func (w *worker) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		w.stop()
	}
}

func (w *worker) phase() corev1.PodPhase {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// loop syncs whenever it is poked or something is due, until ctx ends or the pod is gone for good.
func (w *worker) loop(ctx context.Context) {
	w.lifetime = ctx
	timer := time.NewTimer(idle)
	defer timer.Stop()
	defer func() {
		if w.ending != nil {
			w.ending.abandon()
		}
		w.n.probes.Retain(w.first, nil)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.signal:
		case <-timer.C:
		}
		wait, done := w.sync(ctx)
		if done {
			return
		}
		timer.Reset(wait)
	}
}

// sync compares the pod with the runtime once and does what is to be done. wait is when to look again at
// the latest; done says that nothing is left of the pod.
func (w *worker) sync(ctx context.Context) (wait time.Duration, done bool) {
	defer w.looked()
	pod, exists := w.n.lookup(w.first)
	if exists {
		w.pod, w.known = pod, true
	}
	st, err := readState(ctx, w.n.cfg.Runtime, w.first.UID)
	if err != nil {
		return w.retry(ctx, err), false
	}
	if exists {
		w.allocate(st)
		w.admit(st)
	}
	w.watchProbes(ctx, st)
	if w.isEnding(exists) {
		return w.syncEnding(ctx, st, exists)
	}
	interruptible, cancel := context.WithCancel(ctx)
	w.setStop(cancel)
	defer w.setStop(nil)
	defer cancel()
	wait, err = w.syncRunning(interruptible, st)
	if err != nil && interruptible.Err() != nil {
		return 0, false // interrupted: the pod is going away
	}
	if err != nil {
		return w.retry(ctx, err), false
	}
	w.failures = 0
	return wait, false
}

func (w *worker) setStop(stop context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop = stop
}

// reported is an error of which an Event on the pod has told already: it is not logged too.
type reported struct{ error }

// retry gives the time until the next try: half a second, doubled with every failure in a row, at most half
// a minute.
func (w *worker) retry(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	if _, known := errors.AsType[reported](err); !known {
		klog.ErrorS(err, "Bringing a pod to what it should be; trying again", "pod", klog.KObj(w.first), "failures", w.failures)
	}
	wait := 500 * time.Millisecond << min(w.failures, 6)
	w.failures++
	return min(wait, 30*time.Second)
}

// isEnding says whether everything of the pod has to stop.
func (w *worker) isEnding(exists bool) bool {
	w.takeEviction()
	if !exists || w.pod.DeletionTimestamp != nil || w.failed != nil || isFinal(w.status.Phase) {
		return true
	}
	if isFinal(w.pod.Status.Phase) {
		// Somebody else ended it: podgc, for example.
		w.status.Phase = w.pod.Status.Phase
		return true
	}
	if left, ok := w.deadline(); ok && left <= 0 {
		w.failed = &podplan.Why{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
		w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeNormal, w.failed.Reason, w.failed.Message)
		return true
	}
	return false
}

func isFinal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// deadline gives what is left of spec.activeDeadlineSeconds.
func (w *worker) deadline() (left time.Duration, ok bool) {
	seconds := w.pod.Spec.ActiveDeadlineSeconds
	if seconds == nil || w.status.StartTime == nil {
		return 0, false
	}
	return time.Until(w.status.StartTime.Add(time.Duration(*seconds) * time.Second)), true
}

// watchProbes makes sure that exactly the running containers of the pod are probed.
func (w *worker) watchProbes(ctx context.Context, st *podplan.State) {
	running := map[string]bool{}
	ip := netip.Addr{}
	if ips := w.ips(st); len(ips) > 0 {
		ip = ips[0]
	}
	for _, list := range [][]corev1.Container{w.pod.Spec.Containers, w.pod.Spec.InitContainers, podplan.Ephemeral(w.pod)} {
		for i := range list {
			c := &list[i]
			s := st.Latest(c.Name)
			if !podplan.IsRunning(s) {
				continue
			}
			running[s.Id] = true
			ready, started := w.reported(c.Name, s.Id)
			w.n.probes.Watch(ctx, probe.Target{
				Pod: w.pod, Container: c, ID: s.Id, IP: ip,
				StartedAt: time.Unix(0, s.StartedAt),
				WasReady:  ready, WasStarted: started,
			})
		}
	}
	w.n.probes.Retain(w.first, running)
}

// reported gives what the status already says about this very instance of a container.
func (w *worker) reported(name, id string) (ready, started bool) {
	for _, list := range [][]corev1.ContainerStatus{w.status.ContainerStatuses, w.status.InitContainerStatuses} {
		for i := range list {
			if s := &list[i]; s.Name == name && s.ContainerID == w.n.runtimeName+"://"+id {
				return s.Ready, s.Started != nil && *s.Started
			}
		}
	}
	return false, false
}

// ips are the addresses of the pod as containers and probes see them.
func (w *worker) ips(st *podplan.State) []netip.Addr {
	if w.pod.Spec.HostNetwork {
		return *w.n.addrs.Load()
	}
	return st.Ips()
}
