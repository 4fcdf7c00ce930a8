package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/measure"
	"svcplane/node/figures"
)

// routeFigures adds the paths that Prometheus and metrics-server ask a kubelet for.
func (s *server) routeFigures(mux *http.ServeMux) {
	if s.n.cfg.Metrics != nil {
		mux.Handle("GET /metrics", s.n.cfg.Metrics)
	}
	mux.HandleFunc("GET /metrics/cadvisor", s.cadvisor)
	mux.HandleFunc("GET /metrics/resource", s.resource)
	mux.HandleFunc("GET /metrics/probes", func(w http.ResponseWriter, r *http.Request) { serveCollector(w, r, s.n.probes) })
	mux.HandleFunc("GET /stats/summary", s.summary)
}

func (s *server) cadvisor(w http.ResponseWriter, r *http.Request) {
	m, pods, err := s.n.figures(r.Context())
	if err != nil {
		klog.ErrorS(err, "Measuring what pods use")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	serveCollector(w, r, figures.Cadvisor(m, pods))
}

func (s *server) resource(w http.ResponseWriter, r *http.Request) {
	m, pods, err := s.n.figures(r.Context())
	if err != nil {
		klog.ErrorS(err, "Measuring what pods use") // a family says so, too
	}
	serveCollector(w, r, figures.Resource(m, pods, err))
}

func serveCollector(w http.ResponseWriter, r *http.Request, c prometheus.Collector) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

func (s *server) summary(w http.ResponseWriter, r *http.Request) {
	m, pods, err := s.n.figures(r.Context())
	if err != nil {
		klog.ErrorS(err, "Measuring what pods use")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(figures.Summary(s.n.cfg.Name, time.Now(), m, pods)); err != nil {
		klog.V(2).InfoS("A client left while it was sent the summary", "err", err)
	}
}

// figures measures the machine, and the pods that the runtime can tell of.
func (n *Node) figures(ctx context.Context) (m figures.Machine, pods []figures.Pod, err error) {
	m.Cores = runtime.NumCPU()
	if m.Machine, err = measure.ReadMachine(); err != nil {
		return m, nil, err
	}
	all, err := n.cfg.Runtime.ListPodSandboxStats(ctx, &runtimeapi.PodSandboxStatsFilter{})
	if err != nil {
		return m, nil, fmt.Errorf("asking the container runtime what pods use: %w", err)
	}
	known := map[types.UID]*corev1.Pod{}
	for _, o := range n.pods.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok && n.ours(pod) {
			known[pod.UID] = pod
		}
	}
	now := time.Now()
	for _, s := range all {
		pods = append(pods, podFigures(s, known[types.UID(s.Attributes.GetMetadata().GetUid())], now))
	}
	return m, pods, nil
}

// podFigures joins what the runtime measured with what the API knows of a pod; nil: nothing.
func podFigures(s *runtimeapi.PodSandboxStats, pod *corev1.Pod, now time.Time) figures.Pod {
	of := s.Attributes.GetMetadata()
	p := figures.Pod{Namespace: of.GetNamespace(), Name: of.GetName(), UID: of.GetUid(), Sandbox: s.Attributes.Id, Measured: now}
	p.Processes = int(s.Linux.GetProcess().GetProcessCount().GetValue())
	for _, l := range s.Linux.GetNetwork().GetInterfaces() {
		p.Links = append(p.Links, measure.Link{Name: l.Name, Received: l.RxBytes.GetValue(), ReceiveErrors: l.RxErrors.GetValue(),
			Sent: l.TxBytes.GetValue(), SendErrors: l.TxErrors.GetValue()})
	}
	states := map[string]*corev1.ContainerStatus{}
	if pod != nil {
		if pod.Status.StartTime != nil {
			p.Started = pod.Status.StartTime.Time
		}
		all := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses)
		for i := range all {
			_, id, _ := strings.Cut(all[i].ContainerID, "://")
			states[id] = &all[i]
		}
	}
	for _, c := range s.Linux.GetContainers() {
		one := figures.Container{Name: c.Attributes.GetMetadata().GetName(), ID: c.Attributes.Id}
		if c.Cpu != nil && c.Memory != nil {
			one.Use = &figures.Use{CPU: time.Duration(c.Cpu.UsageCoreNanoSeconds.GetValue()),
				WorkingSet: c.Memory.WorkingSetBytes.GetValue(), RSS: c.Memory.RssBytes.GetValue()}
			p.Measured = time.Unix(0, c.Cpu.Timestamp)
		}
		if state := states[one.ID]; state != nil {
			one.Image = state.Image
			if state.State.Running != nil {
				one.Started = state.State.Running.StartedAt.Time
			}
		}
		p.Containers = append(p.Containers, one)
	}
	return p
}
