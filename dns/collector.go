package dns

import (
	"strconv"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"svcplane/metrics"
)

// Collect implements prometheus.Collector. Workers count for themselves; here it is added up.
func (s *Server) Collect(to chan<- prometheus.Metric) {
	all := s.sum()
	names := s.zoneNames()
	all.collect(to, names)
	all.collectCore(to, names)
	for _, z := range s.zones {
		to <- zoneNamesHeld.Value(float64(z.names.Load()), textName([]byte(z.domain)))
	}
	to <- waitingNow.Value(float64(len(s.waiting)))
	to <- turnedAway.Value(float64(s.rejected.Load()))
	to <- coreForwardRejects.Value(float64(s.rejected.Load()))
	to <- limitedTotal.Value(float64(s.limiter.limited.Load()))
	to <- logLines.Value(float64(s.logged.Load()))
	s.forward.cache.collect(to)
	s.collectUpstreams(to)
	s.collectProgramming(to)
}

// collect gives our own families of answers.
func (a *sums) collect(to chan<- prometheus.Metric, zones []string) {
	type key struct{ zone, transport, typ, code int }
	counts := map[key]uint64{}
	a.each(func(c cellOf, n uint64) { counts[key{c.zone, c.transport, c.typ, c.code}] += n })
	for k, n := range counts {
		to <- responses.Value(float64(n), zones[k.zone], transports[k.transport], typeLabel(countedTypes[k.typ]), codeLabel(k.code))
	}
	for source, from := range [...]string{"memory", "waiting"} {
		all := histogramSum{}
		for z := range a.zones {
			all.add(&a.zones[z].latency[source])
		}
		to <- all.of(responseTime, ownBounds[:], from)
	}
}

// transports are the labels of transports, by their number.
var transports = [...]string{"udp", "tcp"}

func (s *Server) collectUpstreams(to chan<- prometheus.Metric) {
	broken := s.forward.broken.Load()
	each := func(domain string, f *forwarder) {
		for _, u := range *f.upstreams.Load() {
			u.collect(to, domain)
		}
	}
	each(".", s.forward)
	seen := map[string]bool{}
	for _, u := range *s.forward.upstreams.Load() {
		seen[u.addr.String()] = true
		u.collectCore(to)
	}
	for _, stub := range s.stubs {
		broken += stub.forward.broken.Load()
		each(textName([]byte(stub.domain)), stub.forward)
		for _, u := range *stub.forward.upstreams.Load() {
			if at := u.addr.String(); !seen[at] { // CoreDNS knows no domains here: the first has the name
				seen[at] = true
				u.collectCore(to)
			}
		}
	}
	to <- coreForwardBroken.Value(float64(broken))
}

func (u *upstream) collect(to chan<- prometheus.Metric, domain string) {
	at := u.addr.String()
	failed, _, _ := u.standing()
	healthy := 1.0
	if failed {
		healthy = 0
	}
	to <- upstreamHealthy.Value(healthy, at, domain)
	to <- upstreamFailures.Value(float64(u.silent.Load()), at, domain)
	all := histogramSum{}
	for code := range u.codes {
		if h := u.codes[code].Load(); h != nil {
			one := histogramSum{}
			one.add(h)
			all.add(h)
			to <- upstreamAnswers.Value(float64(one.count()), at, domain, codeLabel(code))
		}
	}
	to <- all.of(upstreamTime, ownBounds[:], at, domain)
}

func (s *Server) collectProgramming(to chan<- prometheus.Metric) {
	s.programming.mu.Lock()
	defer s.programming.mu.Unlock()
	for kind, k := range s.programming.kinds {
		within := map[float64]uint64{}
		for i, n := range k.buckets {
			within[programmingBound(i).Seconds()] = n
		}
		for _, f := range []*metrics.Family{programmingTime, coreProgramming} {
			to <- f.Histogram(k.count, k.sum.Seconds(), within, kind)
		}
	}
}

// collect gives what a cache counts, by our names and CoreDNS'.
func (c *cache) collect(to chan<- prometheus.Metric) {
	figures, held := &c.figures, c.filled()
	count := func(n uint64, families []*metrics.Family, labels ...string) {
		for _, f := range families {
			to <- f.Value(float64(n), labels...)
		}
	}
	count(figures.positive.Load(), []*metrics.Family{cacheHits, coreCacheHits}, "success")
	count(figures.negative.Load(), []*metrics.Family{cacheHits, coreCacheHits}, "denial")
	missed := figures.missed.Load()
	count(missed, []*metrics.Family{cacheMisses, coreCacheMisses})
	count(missed+figures.positive.Load()+figures.negative.Load(), []*metrics.Family{coreCacheRequests})
	count(figures.stale.Load(), []*metrics.Family{cacheStale, coreCacheStale})
	count(figures.prefetched.Load(), []*metrics.Family{cachePrefetches, coreCachePrefetch})
	evicted := [...]uint64{figures.evicted[0].Load(), figures.evicted[1].Load()}
	count(evicted[0]+evicted[1], []*metrics.Family{cacheEvictions})
	for i, kind := range [...]string{"success", "denial"} {
		count(evicted[i], []*metrics.Family{coreCacheEvicted}, kind)
	}
	to <- cacheEntries.Value(float64(held.answers))
	to <- coreCacheEntries.Value(float64(held.answers-held.denials), "success")
	to <- coreCacheEntries.Value(float64(held.denials), "denial")
	to <- cacheBytes.Value(float64(held.octets))
	to <- cacheLimit.Value(float64(c.limit))
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
