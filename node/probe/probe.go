package probe

import (
	"context"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	kprobe "k8s.io/kubernetes/pkg/probe"

	"svcplane/node/pod"
)

// Config is what a Manager needs.
type Config struct {
	Exec     Exec
	Recorder record.EventRecorder
	Ref      func(*corev1.Pod, *corev1.Container) *corev1.ObjectReference // whom Events are about
	Changed  func(types.UID)                                              // called after a verdict of this pod changed
}

// Target is a running container to probe.
type Target struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	ID        string
	IP        netip.Addr // the pod's primary address
	StartedAt time.Time
	// WasReady and WasStarted are what the API already says about this very container, if it was running
	// before the node's process came up.
	WasReady, WasStarted bool
}

// Verdict is what the probes say about a container. One without probes is started, ready and alive.
type Verdict = pod.Verdict

// Manager probes containers.
type Manager struct {
	cfg   Config
	tools tools
	wg    sync.WaitGroup
	counts

	mu      sync.Mutex
	watches map[string]*watch // by container id
}

// watch is one container that is probed.
type watch struct {
	Target
	cancel  context.CancelFunc
	started chan struct{} // closed once it counts as started

	mu           sync.Mutex
	verdict      Verdict
	stopLiveness context.CancelFunc
}

// New makes a Manager; it starts nothing.
func New(cfg Config) *Manager {
	return &Manager{cfg: cfg, tools: newTools(cfg.Exec), counts: newCounts(), watches: map[string]*watch{}}
}

// Watch begins to probe a container until ctx ends or Retain drops it. For one that is probed already it
// does nothing, but for the address.
func (m *Manager) Watch(ctx context.Context, t Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w, known := m.watches[t.ID]; known {
		w.move(t.IP)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	c := t.Container
	w := &watch{Target: t, cancel: cancel, started: make(chan struct{})}
	w.verdict.Started = c.StartupProbe == nil || t.WasStarted
	w.verdict.Ready = t.WasReady || (c.ReadinessProbe == nil && w.verdict.Started)
	if w.verdict.Started {
		close(w.started)
	}
	m.watches[t.ID] = w
	if c.StartupProbe != nil && !t.WasStarted {
		m.wg.Go(func() { m.run(ctx, w, Startup, c.StartupProbe) })
	}
	if c.ReadinessProbe != nil {
		m.wg.Go(func() { m.run(ctx, w, Readiness, c.ReadinessProbe) })
	}
	alive, stop := context.WithCancel(ctx)
	w.stopLiveness = stop
	if c.LivenessProbe != nil {
		m.wg.Go(func() { m.run(alive, w, Liveness, c.LivenessProbe) })
	}
}

// move follows the address of a pod with the host's network.
func (w *watch) move(to netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.IP = to
}

func (w *watch) target() Target {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Target
}

// Retain stops probing every container of the pod that is not in ids.
func (m *Manager) Retain(pod *corev1.Pod, ids map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, w := range m.watches {
		if w.Pod.UID == pod.UID && !ids[id] {
			w.cancel()
			delete(m.watches, id)
		}
	}
	if len(ids) == 0 {
		m.forget(pod)
	}
}

// Terminating stops the liveness probes of a pod that is going away: only readiness still matters.
func (m *Manager) Terminating(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.watches {
		if w.Pod.UID == pod {
			w.stopLiveness()
		}
	}
}

// Verdict gives the present verdict on a container; ok is false for one that is not probed.
func (m *Manager) Verdict(id string) (v Verdict, ok bool) {
	m.mu.Lock()
	w, ok := m.watches[id]
	m.mu.Unlock()
	if !ok {
		return Verdict{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict, true
}

// Wait returns when every probe has stopped.
func (m *Manager) Wait() { m.wg.Wait() }

// run probes until ctx ends, or until the verdict makes further tries pointless.
func (m *Manager) run(ctx context.Context, w *watch, kind Kind, p *corev1.Probe) {
	if kind != Startup {
		select {
		case <-w.started:
		case <-ctx.Done():
			return
		}
	}
	if !sleep(ctx, time.Until(w.StartedAt.Add(time.Duration(p.InitialDelaySeconds)*time.Second))) {
		return
	}
	count, pace := newTally(p), newPace(kind, p)
	if w.WasReady {
		pace.endExtra()
	}
	for extra := false; ; {
		ok, valid := m.once(ctx, w, kind, p, extra)
		if ctx.Err() != nil {
			return
		}
		if valid && count.add(ok) {
			if ok {
				pace.endExtra()
			}
			if m.decide(w, kind, ok) {
				return
			}
		}
		wait, outside := pace.next()
		if extra = outside; !sleep(ctx, wait) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once makes one try and reports it; valid is false when it had no result.
func (m *Manager) once(ctx context.Context, w *watch, kind Kind, p *corev1.Probe, extra bool) (ok, valid bool) {
	target, began := w.target(), time.Now()
	result, output, err := m.tools.try(ctx, p, &target)
	if ctx.Err() == nil {
		m.count(w, kind, result, err, time.Since(began))
	}
	if ctx.Err() != nil || extra && (err != nil || result == kprobe.Failure) {
		return false, err == nil
	}
	ref := m.cfg.Ref(w.Pod, w.Container)
	switch {
	case err != nil:
		m.cfg.Recorder.Eventf(ref, corev1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in %s state: %s", kind, result, err)
		return false, false
	case result == kprobe.Warning:
		m.cfg.Recorder.Eventf(ref, corev1.EventTypeWarning, "ProbeWarning", "%s probe warning: %s", kind, output)
		return true, true
	case result == kprobe.Failure:
		m.cfg.Recorder.Eventf(ref, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", kind, output)
	}
	return result == kprobe.Success, true
}

// decide records a verdict and says whether probing is over: a container that failed its liveness or startup
// probe is going to be replaced, and one that has started needs no further startup probes.
func (m *Manager) decide(w *watch, kind Kind, ok bool) (over bool) {
	w.mu.Lock()
	before := w.verdict
	switch kind {
	case Readiness:
		w.verdict.Ready = ok
	case Liveness:
		w.verdict.LivenessFailed = !ok
		over = !ok
	case Startup:
		over = true
		w.verdict.Started, w.verdict.StartupFailed = ok, !ok
		if ok {
			close(w.started)
			w.verdict.Ready = w.Container.ReadinessProbe == nil
		}
	}
	changed := before != w.verdict
	w.mu.Unlock()
	if changed {
		m.cfg.Changed(w.Pod.UID)
	}
	return over
}
