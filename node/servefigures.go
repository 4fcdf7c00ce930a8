package node

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
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
	m, pods, err := s.n.sampler.get(r.Context(), scrapeAge)
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
	short := r.FormValue("only_cpu_and_memory") == "true"
	m, pods, err := s.n.figures(r.Context())
	if err != nil {
		klog.ErrorS(err, "Measuring what pods use")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encode := json.NewEncoder(w)
	encode.SetIndent("", " ") // as the kubelet does
	if err := encode.Encode(figures.Summary(s.n.cfg.Name, m, pods, short)); err != nil {
		klog.V(2).InfoS("A client left while it was sent the summary", "err", err)
	}
}

// figures are those of the last moments, with what disks hold.
func (n *Node) figures(ctx context.Context) (figures.Machine, []figures.Pod, error) {
	m, all, err := n.sampler.get(ctx, scrapeAge)
	if err != nil {
		return m, nil, err
	}
	info, err := n.nodeInfo()
	if err != nil {
		return m, nil, err
	}
	m.MachineID, m.SystemID, m.BootID = info.MachineID, info.SystemUUID, info.BootID
	m.Sockets, m.Physical = measure.ReadCores()
	n.addDisks(ctx, &m)
	known := map[types.UID]*corev1.Pod{}
	for _, pod := range n.own() {
		known[pod.UID] = pod
	}
	pods := slices.Clone(all)
	for i := range pods {
		pod := known[types.UID(pods[i].UID)]
		if pod == nil {
			continue
		}
		pods[i].Volumes = n.volumeFigures(ctx, pod)
		pods[i].Containers = slices.Clone(pods[i].Containers)
		for j := range pods[i].Containers {
			c := &pods[i].Containers[j]
			c.Logs = n.logFigures(pod, c.Name)
		}
	}
	return m, pods, nil
}

// machineFigures are those of the machine alone, of now.
func (n *Node) machineFigures(ctx context.Context) (figures.Machine, error) {
	m := figures.Machine{Measured: time.Now()}
	var err error
	m.Machine, err = measure.ReadMachine()
	n.addDisks(ctx, &m)
	return m, err
}

func (n *Node) addDisks(ctx context.Context, m *figures.Machine) {
	m.Disk = diskOf(n.cfg.Dir)
	m.Images, m.Containers = n.runtimeDisks(ctx)
}

// claimFigures tells of the volumes of claims alone, which /metrics has: nothing else is measured for it.
func (n *Node) claimFigures(ctx context.Context) []figures.Pod {
	var all []figures.Pod
	for _, pod := range n.own() {
		if isFinal(pod.Status.Phase) {
			continue
		}
		if volumes := slices.DeleteFunc(n.volumeFigures(ctx, pod), func(v figures.Volume) bool { return v.PVCRef == nil }); len(volumes) > 0 {
			all = append(all, figures.Pod{Volumes: volumes})
		}
	}
	return all
}
