package node

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/measure"
	"svcplane/node/figures"
)

const (
	// scrapeAge is how old figures may be that a scrape gets: several are made at about the same time.
	scrapeAge = 5 * time.Second
	// askedAge is how old they may be for those who want to know about now.
	askedAge = time.Second
	// sampleEvery is the pace while somebody asks for rates, and asking is how long somebody does who asked once: an
	// autoscaler asks every 15 s.
	sampleEvery = 5 * time.Second
	asking      = 40 * time.Second
	// firstWait is how long somebody waits who is the first to ask for rates: two looks are needed.
	firstWait = time.Second
)

// sampler has the figures of the last look. It looks when somebody asks, and goes on for a while if that was about rates.
type sampler struct {
	n     *Node
	asked chan struct{}

	mu      sync.Mutex
	machine figures.Machine
	pods    []figures.Pod
	rates   figures.Rates
	born    map[string]time.Time // by container
}

func newSampler(n *Node) *sampler { return &sampler{n: n, asked: make(chan struct{}, 1)} }

// run looks as long as somebody wants rates, until ctx ends.
func (s *sampler) run(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery)
	ticker.Stop()
	var until time.Time
	for {
		select {
		case <-ctx.Done():
			ticker.Stop()
			return
		case <-s.asked:
			if time.Now().After(until) {
				ticker.Reset(sampleEvery)
			}
			until = time.Now().Add(asking)
		case <-ticker.C:
			if time.Now().After(until) {
				ticker.Stop()
				continue
			}
			if _, _, err := s.get(ctx, askedAge); err != nil && ctx.Err() == nil {
				klog.V(2).InfoS("Measuring what pods use", "err", err)
			}
		}
	}
}

// get gives figures that are at most age old. The lists are not to be changed.
func (s *sampler) get(ctx context.Context, age time.Duration) (figures.Machine, []figures.Pod, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.machine.Measured) < age {
		return s.machine, s.pods, nil
	}
	m, pods, err := s.n.measure(ctx)
	if err != nil {
		return m, nil, err
	}
	s.rate(ctx, &m, pods)
	s.machine, s.pods = m, pods
	return m, pods, nil
}

// rated gives figures of now, with rates: the first who asks waits for a second look.
func (s *sampler) rated(ctx context.Context) (figures.Machine, []figures.Pod, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	m, pods, err := s.get(ctx, askedAge)
	if err != nil || m.Rate != nil && !slices.ContainsFunc(pods, figures.Pod.Unrated) {
		return m, pods, err
	}
	select {
	case <-ctx.Done():
		return m, pods, context.Cause(ctx)
	case <-time.After(firstWait - time.Since(m.Measured)):
	}
	return s.get(ctx, 0)
}

// rate adds rates to figures; s.mu is held.
func (s *sampler) rate(ctx context.Context, m *figures.Machine, pods []figures.Pod) {
	const machine = ""
	m.Rate = s.rates.Add(machine, time.Time{}, figures.Sample{At: m.Measured, CPU: m.CPU})
	there, born := map[string]bool{machine: true}, map[string]time.Time{}
	for i := range pods {
		for j := range pods[i].Containers {
			c := &pods[i].Containers[j]
			since, known := s.born[c.ID]
			if !known {
				since = s.n.bornAt(ctx, c.ID)
			}
			there[c.ID], born[c.ID] = true, since
			if c.Use != nil {
				c.Rate = s.rates.Add(c.ID, since, figures.Sample{At: pods[i].Measured, CPU: c.Use.CPU})
			}
		}
	}
	s.born = born
	s.rates.Retain(there)
}

// bornAt is when a container was started, which the API knows by seconds only; zero: it is not known.
func (n *Node) bornAt(ctx context.Context, id string) time.Time {
	resp, err := n.cfg.Runtime.ContainerStatus(ctx, id, false)
	if err != nil || resp.GetStatus().GetStartedAt() == 0 {
		return time.Time{}
	}
	return time.Unix(0, resp.GetStatus().GetStartedAt())
}

// measure looks at the machine, and at the pods that the runtime can tell of.
func (n *Node) measure(ctx context.Context) (m figures.Machine, pods []figures.Pod, err error) {
	m.Cores, m.Measured = runtime.NumCPU(), time.Now()
	if m.Machine, err = measure.ReadMachine(); err != nil {
		return m, nil, err
	}
	if m.Links, err = measure.Links(); err != nil {
		return m, nil, err
	}
	m.Links = slices.DeleteFunc(m.Links, func(l measure.Link) bool { return strings.HasPrefix(l.Name, "sp") }) // of pods
	all, err := n.cfg.Runtime.ListPodSandboxStats(ctx, &runtimeapi.PodSandboxStatsFilter{})
	if err != nil {
		return m, nil, fmt.Errorf("asking the container runtime what pods use: %w", err)
	}
	known := map[types.UID]*corev1.Pod{}
	for _, pod := range n.own() {
		known[pod.UID] = pod
	}
	for _, s := range all {
		pods = append(pods, podFigures(s, known[types.UID(s.Attributes.GetMetadata().GetUid())], time.Now()))
	}
	return m, pods, nil
}

// own are the pods of this node as the API has them.
func (n *Node) own() []*corev1.Pod {
	var all []*corev1.Pod
	for _, o := range n.pods.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok && n.ours(pod) {
			all = append(all, pod)
		}
	}
	return all
}

// podFigures joins what the runtime measured with what the API knows of a pod; nil: nothing.
func podFigures(s *runtimeapi.PodSandboxStats, pod *corev1.Pod, now time.Time) figures.Pod {
	of := s.Attributes.GetMetadata()
	p := figures.Pod{Namespace: of.GetNamespace(), Name: of.GetName(), UID: of.GetUid(), Sandbox: s.Attributes.Id, Measured: now}
	p.Processes = int(s.Linux.GetProcess().GetProcessCount().GetValue())
	p.Own = useOf(s.Linux.GetCpu(), s.Linux.GetMemory(), nil)
	for _, l := range s.Linux.GetNetwork().GetInterfaces() {
		p.Links = append(p.Links, measure.Link{Name: l.Name, Received: l.RxBytes.GetValue(), ReceiveErrors: l.RxErrors.GetValue(),
			Sent: l.TxBytes.GetValue(), SendErrors: l.TxErrors.GetValue()})
	}
	if pod != nil {
		p.Class = pod.Status.QOSClass
		if pod.Status.StartTime != nil {
			p.Started = pod.Status.StartTime.Time
		}
	}
	for _, c := range s.Linux.GetContainers() {
		one := figures.Container{Name: c.Attributes.GetMetadata().GetName(), ID: c.Attributes.Id, Layer: layerFigures(c.WritableLayer)}
		if one.Use = useOf(c.Cpu, c.Memory, c.Swap); one.Use != nil && c.Cpu.Timestamp > 0 {
			p.Measured = time.Unix(0, c.Cpu.Timestamp)
		}
		if pod != nil {
			describe(&one, pod)
		}
		p.Containers = append(p.Containers, one)
	}
	return p
}

// describe adds what the API knows of a container.
func describe(c *figures.Container, pod *corev1.Pod) {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		if _, id, _ := strings.Cut(s.ContainerID, "://"); id == c.ID {
			c.Image = s.Image
			if s.State.Running != nil {
				c.Started = s.State.Running.StartedAt.Time
			}
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == c.Name {
				c.Wants = &list[i].Resources
			}
		}
	}
}

// useOf is nil if time or memory was not measured.
func useOf(cpu *runtimeapi.CpuUsage, memory *runtimeapi.MemoryUsage, swap *runtimeapi.SwapUsage) *figures.Use {
	if cpu.GetUsageCoreNanoSeconds() == nil || memory.GetWorkingSetBytes() == nil {
		return nil
	}
	figure := func(v *runtimeapi.UInt64Value) *uint64 {
		if v == nil {
			return nil
		}
		return &v.Value
	}
	return &figures.Use{
		CPU: time.Duration(cpu.UsageCoreNanoSeconds.Value), WorkingSet: memory.WorkingSetBytes.Value, RSS: memory.RssBytes.GetValue(),
		Taken: figure(memory.UsageBytes), Available: figure(memory.AvailableBytes),
		Faults: figure(memory.PageFaults), MajorFaults: figure(memory.MajorPageFaults),
		Swap: figure(swap.GetSwapUsageBytes()), SwapAvailable: figure(swap.GetSwapAvailableBytes()),
	}
}
