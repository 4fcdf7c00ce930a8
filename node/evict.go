package node

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"svcplane/node/eviction"
	"svcplane/node/figures"
)

const (
	// evictEvery is the kubelet's interval between two looks, and evictWait how long it waits for a pod that it ended
	// before it looks whether more have to go.
	evictEvery = 10 * time.Second
	evictWait  = 30 * time.Second
	// evictGrace is what an evicted pod has to end.
	evictGrace = time.Second
	// pressureTransition is the kubelet's.
	pressureTransition = 5 * time.Minute
)

// evictor ends pods when the node runs short of something, and those that take more of its disk than they may.
type evictor struct {
	n       *Node
	manager *eviction.Manager

	mu         sync.Mutex
	conditions []corev1.NodeConditionType
}

// run looks from time to time until ctx ends.
func (e *evictor) run(ctx context.Context) {
	ticker := time.NewTicker(evictEvery)
	defer ticker.Stop()
	for {
		evicted, err := e.look(ctx)
		if err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Looking whether the node runs short of something")
		}
		if len(evicted) > 0 {
			e.await(ctx, evicted)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// begin finds the conditions of the node before it is registered, so that it takes no pods that would have to go.
func (e *evictor) begin(ctx context.Context) error {
	seen, err := e.observe(ctx)
	if err != nil {
		return err
	}
	e.manager.Update(time.Now(), seen)
	e.set(e.manager.Conditions(time.Now()))
	return nil
}

// look compares what there is with the thresholds once, and gives the pods that it ended.
func (e *evictor) look(ctx context.Context) ([]eviction.Eviction, error) {
	seen, err := e.observe(ctx)
	if err != nil {
		return nil, err
	}
	met := e.manager.Update(time.Now(), seen)
	e.set(e.manager.Conditions(time.Now()))
	running := e.active()
	if len(met) == 0 && !slices.ContainsFunc(running, eviction.Limited) {
		return nil, nil // nothing more has to be measured
	}
	pods, err := e.measure(ctx, running)
	if err != nil {
		return nil, err
	}
	if all := eviction.Exceeding(pods); len(all) > 0 {
		e.end(all)
		return all, nil
	}
	if len(met) == 0 {
		return nil, nil
	}
	short := met[0].Signal
	e.n.cfg.Recorder.Eventf(e.n.ref(), corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", short.Resource())
	if e.reclaim(ctx, short, pods.ImageDisk) {
		if seen, err = e.observe(ctx); err != nil || len(e.manager.Met(seen)) == 0 {
			return nil, err
		}
	}
	one := eviction.Choose(met, seen, pods)
	if one == nil {
		klog.InfoS("The node runs short of something, and there is no pod that may be ended", "signal", short)
		return nil, nil
	}
	e.end([]eviction.Eviction{*one})
	return []eviction.Eviction{*one}, nil
}

// observe measures the node alone, which costs next to nothing.
func (e *evictor) observe(ctx context.Context) (eviction.Observations, error) {
	m, err := e.n.machineFigures(ctx)
	if err != nil {
		return nil, err
	}
	all := figures.Summary(e.n.cfg.Name, m, nil, false)
	return eviction.Observe(&all.Node), nil
}

// measure tells what pods use.
func (e *evictor) measure(ctx context.Context, running []*corev1.Pod) (*eviction.Pods, error) {
	m, all, err := e.n.figures(ctx)
	if err != nil {
		return nil, err
	}
	summary := figures.Summary(e.n.cfg.Name, m, all, false)
	pods := &eviction.Pods{List: running, Use: map[string]*stats.PodStats{}, ImageDisk: e.n.imageDisk(ctx)}
	for i := range summary.Pods {
		pods.Use[summary.Pods[i].PodRef.UID] = &summary.Pods[i]
	}
	return pods, nil
}

// active are the pods that have something to end.
func (e *evictor) active() []*corev1.Pod {
	return slices.DeleteFunc(e.n.own(), func(pod *corev1.Pod) bool {
		return isFinal(pod.Status.Phase) || pod.DeletionTimestamp != nil || pod.Status.StartTime == nil
	})
}

func (e *evictor) end(all []eviction.Eviction) {
	for _, one := range all {
		e.n.cfg.Recorder.AnnotatedEventf(podRef(one.Pod), one.Annotations, corev1.EventTypeWarning, eviction.Reason, "%s", one.Message)
		e.n.mu.Lock()
		if w := e.n.workers[one.Pod.UID]; w != nil {
			w.evict(one)
		}
		e.n.mu.Unlock()
	}
}

// await waits until pods have ended.
func (e *evictor) await(ctx context.Context, evicted []eviction.Eviction) {
	ctx, cancel := context.WithTimeout(ctx, evictWait)
	defer cancel()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for _, one := range evicted {
		for {
			st, err := readState(ctx, e.n.cfg.Runtime, one.Pod.UID)
			if _, exists := e.n.lookup(one.Pod); !exists || err == nil && len(st.Running()) == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// set changes the conditions of the node, and has them written soon.
func (e *evictor) set(conditions []corev1.NodeConditionType) {
	e.mu.Lock()
	same := slices.Equal(e.conditions, conditions)
	e.conditions = conditions
	e.mu.Unlock()
	if same {
		return
	}
	select {
	case e.n.pressed <- struct{}{}:
	default:
	}
}

// now are the conditions of the node.
func (e *evictor) now() []corev1.NodeConditionType {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conditions
}
