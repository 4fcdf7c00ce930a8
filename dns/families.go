package dns

import (
	"github.com/prometheus/client_golang/prometheus"

	"svcplane/metrics"
)

// own declares a family of a Server's own; the names are those of CoreDNS where the meaning is the same.
func own(kind metrics.Kind, name, help string, labels ...string) *metrics.Family {
	return metrics.New(kind, "svcplane_dns_"+name, help, labels...)
}

// What a Server counts.
var (
	responses    = own(metrics.Counter, "responses_total", "Answers sent.", "zone", "proto", "type", "rcode")
	responseTime = own(metrics.Histogram, "response_duration_seconds",
		"From the arrival of a question to the end of sending its answer.", "from")
	zoneNamesHeld = own(metrics.Gauge, "names", "Names in a zone.", "zone")
	waitingNow    = own(metrics.Gauge, "waiting_requests", "Questions that wait for an upstream or the first sync.")
	turnedAway    = own(metrics.Counter, "refused_requests_total", "Questions that were one too many to wait.")
	limitedTotal  = own(metrics.Counter, "limited_responses_total", "Answers over UDP withheld from clients over their limit.")
	logLines      = own(metrics.Counter, "log_lines_total", "Questions that went to the sampled log.")

	cacheHits = own(metrics.Counter, "cache_hits_total",
		"Questions answered from the cache of upstreams' answers.", "type")
	cacheMisses     = own(metrics.Counter, "cache_misses_total", "Questions that the cache had no fresh answer to.")
	cacheStale      = own(metrics.Counter, "cache_served_stale_total", "Questions answered with an expired answer.")
	cacheEvictions  = own(metrics.Counter, "cache_evictions_total", "Answers that had to go for others.")
	cachePrefetches = own(metrics.Counter, "cache_prefetch_total", "Answers fetched again before their end.")
	cacheEntries    = own(metrics.Gauge, "cache_entries", "Answers in the cache.")
	cacheBytes      = own(metrics.Gauge, "cache_bytes", "Memory that the answers in the cache take.")
	cacheLimit      = own(metrics.Gauge, "cache_limit_bytes", "Memory that the cache may take.")

	upstreamHealthy = own(metrics.Gauge, "upstream_healthy",
		"1 if the last exchange with an upstream went well.", "to", "domain")
	upstreamAnswers = own(metrics.Counter, "upstream_responses_total",
		"Answers of an upstream, the checks of its health included.", "to", "domain", "rcode")
	upstreamFailures = own(metrics.Counter, "upstream_failures_total",
		"Exchanges with an upstream that brought no answer.", "to", "domain")
	upstreamTime = own(metrics.Histogram, "upstream_duration_seconds",
		"How long an upstream took to answer.", "to", "domain")

	programmingTime = own(metrics.Histogram, "programming_duration_seconds",
		"From the change of a Service's endpoints to the moment when their names are served.", "service_kind")
)

// core declares a family of CoreDNS, as its release 1.14 has it (plugin/metrics, cache, forward, kubernetes). server is the
// one server block that we are, and there are no views.
func core(kind metrics.Kind, name, help string, labels ...string) *metrics.Family {
	f := metrics.New(kind, "coredns_"+name, help, labels...)
	return f.Fixed("server", "dns://:53", "view", "")
}

// plain is core for families that know no server.
func plain(kind metrics.Kind, name, help string, labels ...string) *metrics.Family {
	return metrics.New(kind, "coredns_"+name, help, labels...)
}

// What dashboards of CoreDNS ask for.
var (
	coreRequests = core(metrics.Counter, "dns_requests_total",
		"DNS requests by zone, protocol and address family (1: IPv4, 2: IPv6).", "zone", "proto", "family", "type")
	coreResponses = core(metrics.Counter, "dns_responses_total",
		"Answers by code, and the plugin of CoreDNS that would have given them.", "zone", "rcode", "plugin")
	coreDuration     = core(metrics.Histogram, "dns_request_duration_seconds", "Time that each request took.", "zone")
	coreRequestSize  = core(metrics.Histogram, "dns_request_size_bytes", "Size of requests.", "zone", "proto")
	coreResponseSize = core(metrics.Histogram, "dns_response_size_bytes", "Size of answers.", "zone", "proto")
	coreDo           = core(metrics.Counter, "dns_do_requests_total", "Requests with the DO bit.", "zone")
	coreBuild        = plain(metrics.Gauge, "build_info",
		"The release of CoreDNS whose families these are; svcplane is no CoreDNS.", "version", "revision", "goversion")
	corePanics      = plain(metrics.Counter, "panics_total", "Panics; svcplane survives none.")
	coreProgramming = plain(metrics.Histogram, "kubernetes_dns_programming_duration_seconds",
		"From the change of a Service's endpoints to the moment when their names are served.", "service_kind")

	coreCacheEntries  = coreCached("entries", metrics.Gauge, "Answers in the cache.", "type")
	coreCacheHits     = coreCached("hits_total", metrics.Counter, "Questions answered from the cache.", "type")
	coreCacheEvicted  = coreCached("evictions_total", metrics.Counter, "Answers that had to go for others.", "type")
	coreCacheRequests = coreCached("requests_total", metrics.Counter, "Questions that came to the cache.")
	coreCacheMisses   = coreCached("misses_total", metrics.Counter, "Questions that the cache had no fresh answer to.")
	coreCachePrefetch = coreCached("prefetch_total", metrics.Counter, "Answers fetched again before their end.")
	coreCacheStale    = coreCached("served_stale_total", metrics.Counter, "Questions answered with an expired answer.")

	coreProxyTime = plain(metrics.Histogram, "proxy_request_duration_seconds",
		"How long an upstream took to answer.", "proxy_name", "to", "rcode")
	coreProxyFailures = plain(metrics.Counter, "proxy_healthcheck_failures_total",
		"Probes of an upstream that brought no answer.", "proxy_name", "to")
	coreForwardBroken = plain(metrics.Counter, "forward_healthcheck_broken_total",
		"Questions that came while no upstream answered.")
	coreForwardRejects = plain(metrics.Counter, "forward_max_concurrent_rejects_total",
		"Questions that were one too many to wait.")
	// as CoreDNS had them until 1.10; many dashboards still ask for these
	coreForwardRequests  = plain(metrics.Counter, "forward_requests_total", "Exchanges with an upstream.", "to")
	coreForwardResponses = plain(metrics.Counter, "forward_responses_total", "Answers of an upstream.", "to", "rcode")
)

// coreCached declares a family of CoreDNS' cache, of which there is one, for every zone.
func coreCached(name string, kind metrics.Kind, help string, labels ...string) *metrics.Family {
	return metrics.New(kind, "coredns_cache_"+name, help, labels...).Fixed("server", "dns://:53", "zones", ".", "view", "")
}

// Families are all that a Server collects.
func Families() []*metrics.Family {
	return []*metrics.Family{
		responses, responseTime, zoneNamesHeld, waitingNow, turnedAway, limitedTotal, logLines,
		cacheHits, cacheMisses, cacheStale, cacheEvictions, cachePrefetches, cacheEntries, cacheBytes, cacheLimit,
		upstreamHealthy, upstreamAnswers, upstreamFailures, upstreamTime, programmingTime,
		coreRequests, coreResponses, coreDuration, coreRequestSize, coreResponseSize, coreDo, coreBuild, corePanics, coreProgramming,
		coreCacheEntries, coreCacheHits, coreCacheEvicted, coreCacheRequests, coreCacheMisses, coreCachePrefetch, coreCacheStale,
		coreProxyTime, coreProxyFailures, coreForwardBroken, coreForwardRejects, coreForwardRequests, coreForwardResponses,
	}
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, Families()) }
