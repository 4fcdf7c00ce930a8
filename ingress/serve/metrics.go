package serve

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/ingress/http1"
	"svcplane/ingress/upstream"
	"svcplane/metrics"
)

// collector hands the figures that the routes and endpoints keep to Prometheus. They are read when somebody asks,
// so that a request costs a few atomic additions and no look-up.
type collector struct {
	server       *Server
	certificates func() []Certificate // in force
}

// Collector is for the registry that the process's metrics come from; never for the public listener. certificates are those
// in force.
func (s *Server) Collector(certificates func() []Certificate) prometheus.Collector {
	return &collector{server: s, certificates: certificates}
}

// Describe makes it a prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, Families()) }

// Collect makes it a prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	open, accepted, refused := c.server.conns.Count(), c.server.conns.Accepted.Load(), c.server.conns.Refused.Load()
	to <- connections.Value(float64(open))
	to <- refusedTotal.Value(float64(refused))
	to <- slowTotal.Value(float64(c.server.slow.bodies.Load()), slowBody)
	to <- slowTotal.Value(float64(c.server.slow.readers.Load()), slowReader)
	labelsOf(nil).collect(to, &c.server.unrouted)
	busy := int64(0)
	seen := map[*upstream.Group]bool{}
	for _, r := range c.server.Routes() {
		for _, r := range append([]*Route{r}, r.canaries...) {
			if r.stats != nil {
				labelsOf(r).collect(to, r.stats)
			}
			for _, g := range r.groups {
				if seen[g] {
					continue
				}
				seen[g] = true
				busy += g.Requests.Inside.Load()
				for _, e := range g.Endpoints() {
					collectStats(to, &e.Stats, g.Key.String(), e.Host)
				}
			}
		}
	}
	busy = max(0, min(busy, int64(open)))
	for state, n := range map[string]int64{"active": int64(open), "reading": 0, "writing": busy, "waiting": int64(open) - busy} {
		to <- nginxConnections.Value(float64(n), state)
	}
	to <- nginxAccepted.Value(float64(accepted+refused), "accepted")
	to <- nginxAccepted.Value(float64(accepted), "handled")
	c.collectConfig(to)
}

// collectConfig gives what ingress-nginx tells of its configuration.
func (c *collector) collectConfig(to chan<- prometheus.Metric) {
	tables, at := c.server.tables()
	to <- nginxHash.Value(float64(tables))
	to <- nginxSuccess.Value(float64(tables))
	to <- nginxReloaded.Value(1)
	to <- nginxWhen.Value(float64(at.UnixMilli()) / 1000)
	for _, own := range c.certificates() {
		to <- nginxExpires.Value(float64(own.Expires.Unix()), own.Secret.Namespace, own.Host, own.Secret.Name, own.Serial)
	}
}

// routeLabels are the values of ofRoute, and of the part of ofRequest that does not depend on the request.
type routeLabels struct {
	own, nginx []string
}

// labelsOf are those of a route; nil: of requests that none took.
func labelsOf(r *Route) routeLabels {
	if r == nil {
		return routeLabels{make([]string, len(ofRoute)), []string{"", "", "_", "", "", ""}}
	}
	l := routeLabels{own: []string{r.Origin.Namespace, r.Origin.Name, r.Host, string(r.Kind) + " " + r.Path, r.Target()}}
	host, path, canary := r.Host, r.Path, ""
	if host == "" {
		host = "_" // the server block for all other hosts
	}
	if path == "" {
		path = "/"
	}
	key := r.groups[0].Key // there is one in routes of an Ingress
	if r.Canary() {
		canary = key.Service.Namespace + "-" + key.Service.Name + "-" + key.Port.String()
	}
	l.nginx = []string{r.Origin.Namespace, r.Origin.Name, host, path, key.Service.Name, canary}
	return l
}

// collect gives what was counted of a route, by our names and ingress-nginx'; nothing for what was never used.
func (l routeLabels) collect(to chan<- prometheus.Metric, s *RouteStats) {
	all, codes := histogramSum{}, map[int]uint64{}
	s.each(func(code int, v http1.Verb, one *series) {
		took := histogramSum{}
		took.add(&one.took, 1)
		all.add(&one.took, 1)
		n := took.count() + one.switched.Load()
		codes[code] += n
		labels := append(l.nginx[:len(l.nginx):len(l.nginx)], v.String(), strconv.Itoa(code))
		to <- nginxRequests.Value(float64(n), labels...)
		if took.count() == 0 {
			return
		}
		to <- took.of(nginxRequestTime, nginxTimes, labels)
		if own := one.own.Load(); own != nil {
			took.add(own, -1)
		}
		if took.count() > 0 {
			to <- took.of(nginxResponseTime, nginxTimes, labels)
		}
		to <- one.asked.of(nginxRequestSize, nginxLengths, labels)
		to <- one.answered.of(nginxResponseSize, nginxLengths, labels)
		to <- one.answered.of(nginxBytesSent, nginxSizes, labels)
	})
	for code, n := range codes {
		to <- requestsTotal.Value(float64(n), append(l.own[:len(l.own):len(l.own)], strconv.Itoa(code))...)
	}
	if len(codes) > 0 {
		to <- all.of(requestTime, boundSeconds(), l.own)
	}
}

// collectStats gives what was counted of an endpoint; nothing if it was never used.
func collectStats(to chan<- prometheus.Metric, s *upstream.Stats, labels ...string) {
	used := false
	s.Each(func(code int, count uint64) {
		used = true
		to <- endpointTotal.Value(float64(count), append(labels[:len(labels):len(labels)], strconv.Itoa(code))...)
	})
	if used {
		all := histogramSum{}
		all.add(&s.Took, 1)
		to <- all.of(endpointTime, boundSeconds(), labels)
	}
}

// The buckets of ingress-nginx.
var (
	nginxTimes   = prometheus.DefBuckets
	nginxLengths = prometheus.LinearBuckets(10, 10, 10)
	nginxSizes   = prometheus.ExponentialBuckets(10, 10, 7)
)

func boundSeconds() []float64 {
	all := make([]float64, len(upstream.LatencyBounds))
	for i, b := range upstream.LatencyBounds {
		all[i] = b.Seconds()
	}
	return all
}

// histogramSum adds durations up for somebody who looks.
type histogramSum struct {
	buckets [len(upstream.LatencyBounds) + 1]uint64
	sum     time.Duration
}

// add adds d, or with sign -1 takes it off. A count that was read before another one may be behind it.
func (s *histogramSum) add(d *upstream.Durations, sign int64) {
	for i := range s.buckets {
		s.buckets[i] = uint64(max(0, int64(s.buckets[i])+sign*int64(d.Buckets[i].Load())))
	}
	s.sum = max(0, s.sum+time.Duration(sign*d.Sum.Load()))
}

func (s *histogramSum) count() (n uint64) {
	for _, b := range s.buckets {
		n += b
	}
	return n
}

func (s *histogramSum) of(f *metrics.Family, want []float64, labels []string) prometheus.Metric {
	count, within := metrics.Within(s.buckets[:], boundSeconds(), want)
	return f.Histogram(count, s.sum.Seconds(), within, labels...)
}

func (s *sizes) of(f *metrics.Family, want []float64, labels []string) prometheus.Metric {
	var counts [len(sizeBounds) + 1]uint64
	for i := range counts {
		counts[i] = s.buckets[i].Load()
	}
	count, within := metrics.Within(counts[:], sizeBounds[:], want)
	return f.Histogram(count, float64(s.sum.Load()), within, labels...)
}
