package ingress

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// collector hands the figures that the routes and endpoints keep to Prometheus. They are read when somebody asks,
// so that a request costs a few atomic additions and no look-up.
type collector struct {
	server                              *server
	requests, latency, endpoint, status *prometheus.Desc
	conns, refused                      *prometheus.Desc
}

// Collector is for the registry that the process's metrics come from; never for the public listener.
func (i *Ingress) Collector() prometheus.Collector {
	route := []string{"namespace", "ingress", "host", "path", "service"}
	end := []string{"service", "endpoint"}
	return &collector{
		server:   i.server,
		requests: prometheus.NewDesc("svcplane_ingress_requests_total", "Requests by route and code; 499: the client went away.", append(route, "code"), nil),
		latency:  prometheus.NewDesc("svcplane_ingress_request_duration_seconds", "Time from the head of a request to the end of its answer.", route, nil),
		endpoint: prometheus.NewDesc("svcplane_ingress_endpoint_duration_seconds", "The same by the endpoint that answered.", end, nil),
		status:   prometheus.NewDesc("svcplane_ingress_endpoint_requests_total", "Requests by endpoint and code.", append(end, "code"), nil),
		conns:    prometheus.NewDesc("svcplane_ingress_connections", "Open connections of clients.", nil, nil),
		refused:  prometheus.NewDesc("svcplane_ingress_connections_refused_total", "Connections that were one too many.", nil, nil),
	}
}

// Describe makes it a prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.requests, c.latency, c.endpoint, c.status, c.conns, c.refused} {
		to <- d
	}
}

// Collect makes it a prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(c.conns, prometheus.GaugeValue, float64(c.server.conns.count()))
	to <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(c.server.conns.refused.Load()))
	emit(to, c.requests, c.latency, &c.server.unrouted, "", "", "", "", "")
	seen := map[*Group]bool{}
	for _, r := range c.server.table.Load().routes() {
		for _, r := range append([]*Route{r}, r.canaries...) {
			path := string(r.Kind) + " " + r.Path
			emit(to, c.requests, c.latency, r.stats, r.Origin.Namespace, r.Origin.Name, r.Host, path, r.Group.Key.String())
			if !seen[r.Group] {
				seen[r.Group] = true
				for _, e := range r.Group.state.Load().endpoints {
					emit(to, c.status, c.endpoint, &e.stats, r.Group.Key.String(), e.host)
				}
			}
		}
	}
}

// emit sends what was counted; nothing for what was never used.
func emit(to chan<- prometheus.Metric, requests, latency *prometheus.Desc, s *stats, labels ...string) {
	if s == nil {
		return
	}
	used := false
	s.each(func(code int, count uint64) {
		used = true
		to <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(count), append(labels[:len(labels):len(labels)], fmt.Sprint(code))...)
	})
	if used {
		count, sum, within := s.histogram()
		to <- prometheus.MustNewConstHistogram(latency, count, sum, within, labels...)
	}
}
