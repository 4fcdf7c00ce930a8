package dns

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// coreVersion is the release of CoreDNS whose families we have.
const coreVersion = "1.14.2"

// collectCore gives the families of CoreDNS about answers. A question that no zone could answer is of zone "dropped", as
// those are that do not enter CoreDNS' chain of plugins.
func (a *sums) collectCore(to chan<- prometheus.Metric, names []string) {
	to <- coreBuild.Value(1, coreVersion, "svcplane", runtime.Version())
	to <- corePanics.Value(0)
	type request struct{ zone, transport, family, typ int }
	type response struct {
		zone, code int
		plugin     string
	}
	requests, responses := map[request]uint64{}, map[response]uint64{}
	a.each(func(c cellOf, n uint64) {
		requests[request{c.zone, c.transport, c.family, c.typ}] += n
		responses[response{c.zone, c.code, pluginOf(c.zone, c.source)}] += n
	})
	zone := func(z int) string {
		if z == zoneNone {
			return "dropped"
		}
		return names[z]
	}
	for k, n := range requests {
		family := [...]string{"1", "2"}[k.family]
		to <- coreRequests.Value(float64(n), zone(k.zone), transports[k.transport], family, typeLabel(countedTypes[k.typ]))
	}
	for k, n := range responses {
		to <- coreResponses.Value(float64(n), zone(k.zone), codeLabel(k.code), k.plugin)
	}
	for z := range a.zones {
		a.zones[z].collectCore(to, zone(z))
	}
}

// collectCore gives what a zone counts apart from its answers; nothing for a zone that nobody asked.
func (z *zoneTally) collectCore(to chan<- prometheus.Metric, zone string) {
	took := histogramSum{}
	for source := range z.latency {
		took.add(&z.latency[source])
	}
	if took.count() == 0 {
		return
	}
	to <- took.of(coreDuration, coreBounds[:], zone)
	if n := z.do.Load(); n > 0 {
		to <- coreDo.Value(float64(n), zone)
	}
	for transport, proto := range transports {
		asked, answered := &z.asked[transport], &z.answered[transport]
		if count, sum, within := asked.histogram(); count > 0 {
			to <- coreRequestSize.Histogram(count, sum, within, zone, proto)
		}
		if count, sum, within := answered.histogram(); count > 0 {
			to <- coreResponseSize.Histogram(count, sum, within, zone, proto)
		}
	}
}

// pluginOf is the plugin of CoreDNS, with the configuration that kubeadm gives it, that would have answered.
func pluginOf(zone, source int) string {
	switch {
	case zone == zoneNone:
		return ""
	case zone != zoneForeign:
		return "kubernetes"
	case source == fromMemory:
		return "cache"
	}
	return "forward"
}

// collectCore gives the families of CoreDNS about an upstream.
func (u *upstream) collectCore(to chan<- prometheus.Metric) {
	at := u.addr.String()
	asked := u.silent.Load()
	for code := range u.codes {
		h := u.codes[code].Load()
		if h == nil {
			continue
		}
		one := histogramSum{}
		one.add(h)
		asked += one.count()
		to <- one.of(coreProxyTime, coreBounds[:], "forward", at, codeLabel(code))
		to <- coreForwardResponses.Value(float64(one.count()), at, codeLabel(code))
	}
	to <- coreForwardRequests.Value(float64(asked), at)
	to <- coreProxyFailures.Value(float64(u.unheard.Load()), "forward", at)
}
