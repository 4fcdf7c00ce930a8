package dns

import (
	"strconv"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metric describes one series of a Server; the names are those of CoreDNS where the meaning is the same.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("svcplane_dns_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector. The metrics follow from what Collect finds.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector. Workers count for themselves; here it is added up.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s.collectAnswers(ch, counter)
	names := metric("names", "Names in a zone.", "zone")
	for _, z := range s.zones {
		gauge(names, float64(z.names.Load()), textName([]byte(z.domain)))
	}
	gauge(metric("waiting_requests", "Questions that wait for an upstream or the first sync."), float64(len(s.waiting)))
	counter(metric("limited_responses_total", "Answers over UDP withheld from clients over their limit."), s.limiter.limited.Load())
	counter(metric("log_lines_total", "Questions that went to the sampled log."), s.logged.Load())
	s.collectCache(counter, gauge)
	s.collectUpstreams(ch, counter, gauge)
	s.collectProgramming(ch)
}

func (s *Server) collectAnswers(ch chan<- prometheus.Metric, counter func(*prometheus.Desc, uint64, ...string)) {
	answers := metric("responses_total", "Answers sent.", "zone", "proto", "type", "rcode")
	tallies := s.tallies()
	zones := s.zoneNames()
	for i := range tallies[0].answers {
		n := uint64(0)
		for _, t := range tallies {
			n += t.answers[i].Load()
		}
		if n == 0 {
			continue
		}
		rest := i
		code := rest % countedCodes
		rest /= countedCodes
		typ := rest % len(countedTypes)
		rest /= len(countedTypes)
		counter(answers, n, zones[rest/2], [...]string{"udp", "tcp"}[rest%2], typeLabel(countedTypes[typ]), codeLabel(code))
	}
	latency := metric("response_duration_seconds", "From the arrival of a question to the end of sending its answer.", "from")
	for from, pick := range map[string]func(*tally) *histogram{
		"memory":  func(t *tally) *histogram { return &t.memory },
		"waiting": func(t *tally) *histogram { return &t.waited },
	} {
		all := make([]*histogram, len(tallies))
		for i, t := range tallies {
			all[i] = pick(t)
		}
		ch <- constHistogram(latency, all, from)
	}
}

func constHistogram(d *prometheus.Desc, all []*histogram, labels ...string) prometheus.Metric {
	buckets := map[float64]uint64{}
	var count uint64
	var sum float64
	for _, h := range all {
		h.addTo(buckets, &count, &sum)
	}
	return prometheus.MustNewConstHistogram(d, count, sum, buckets, labels...)
}

func (s *Server) collectCache(counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	c := s.forward.cache
	hits := metric("cache_hits_total", "Questions answered from the cache of upstreams' answers.", "type")
	counter(hits, c.figures.positive.Load(), "success")
	counter(hits, c.figures.negative.Load(), "denial")
	counter(metric("cache_misses_total", "Questions that the cache had no fresh answer to."), c.figures.missed.Load())
	counter(metric("cache_served_stale_total", "Questions answered with an expired answer."), c.figures.stale.Load())
	counter(metric("cache_evictions_total", "Answers that had to go for others."), c.figures.evicted.Load())
	counter(metric("cache_prefetch_total", "Answers fetched again before their end."), c.figures.prefetched.Load())
	answers, octets := c.filled()
	gauge(metric("cache_entries", "Answers in the cache."), float64(answers))
	gauge(metric("cache_octets", "Memory that the answers in the cache take."), float64(octets))
	gauge(metric("cache_limit_octets", "Memory that the cache may take."), float64(c.limit))
}

func (s *Server) collectUpstreams(ch chan<- prometheus.Metric, counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	healthy := metric("upstream_healthy", "1 if the last exchange with an upstream went well.", "to", "domain")
	answers := metric("upstream_responses_total", "Answers of an upstream, the checks of its health included.", "to", "domain", "rcode")
	failures := metric("upstream_failures_total", "Exchanges with an upstream that brought no answer.", "to", "domain")
	latency := metric("upstream_duration_seconds", "How long an upstream took to answer.", "to", "domain")
	each := func(domain string, f *forwarder) {
		for _, u := range *f.upstreams.Load() {
			to := u.addr.String()
			failed, _, _ := u.standing()
			gauge(healthy, map[bool]float64{false: 1}[failed], to, domain)
			counter(failures, u.silent.Load(), to, domain)
			for code := range u.codes {
				if n := u.codes[code].Load(); n > 0 {
					counter(answers, n, to, domain, codeLabel(code))
				}
			}
			ch <- constHistogram(latency, []*histogram{&u.latency}, to, domain)
		}
	}
	each(".", s.forward)
	for _, stub := range s.stubs {
		each(textName([]byte(stub.domain)), stub.forward)
	}
}

func (s *Server) collectProgramming(ch chan<- prometheus.Metric) {
	d := metric("programming_duration_seconds", "From the change of a Service's endpoints to the moment when their names are served.", "service_kind")
	s.programming.mu.Lock()
	defer s.programming.mu.Unlock()
	for kind, k := range s.programming.kinds {
		buckets := map[float64]uint64{}
		for i, n := range k.buckets {
			buckets[programmingBound(i).Seconds()] = n
		}
		ch <- prometheus.MustNewConstHistogram(d, k.count, k.sum.Seconds(), buckets, kind)
	}
}

// zoneNames are the labels of the zones, by their number.
func (s *Server) zoneNames() []string {
	names := []string{zoneNone: "none", zoneForeign: ".", zoneReverse: "arpa.", zoneLAN: "lan"}
	if s.lan != nil {
		names[zoneLAN] = textName([]byte(s.lan.domain))
	}
	for _, z := range s.zones {
		names = append(names, textName([]byte(z.domain)))
	}
	return names
}

func typeLabel(typ uint16) string {
	if name := dns.TypeToString[typ]; typ != 0 && name != "" {
		return name
	}
	return "other"
}

func codeLabel(code int) string {
	if code == countedCodes-1 {
		return "BADVERS" // the only one above 15 that we send, or that an upstream without options can
	}
	if name := dns.RcodeToString[code]; name != "" {
		return name
	}
	return strconv.Itoa(code)
}
