package dns

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/metrics/metricstest"
)

// checkCore holds that what TestMetrics has asked is told by CoreDNS' names, too.
func checkCore(t *testing.T, all metricstest.Set) {
	t.Helper()
	const zone = "zone=cluster.local."
	for _, tt := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{3, "dns_requests_total", []string{zone, "proto=udp", "family=1", "type=A", "server=dns://:53"}},
		{1, "dns_requests_total", []string{zone, "proto=udp", "family=1", "type=other"}},
		{4, "dns_responses_total", []string{zone, "rcode=NOERROR", "plugin=kubernetes"}},
		{1, "dns_responses_total", []string{zone, "rcode=NXDOMAIN", "plugin=kubernetes"}},
		{2, "dns_responses_total", []string{"zone=.", "plugin=cache"}},
		{1, "dns_responses_total", []string{"zone=.", "plugin=forward"}},
		{5, "dns_request_duration_seconds", []string{zone}},
		{4, "dns_request_size_bytes", []string{zone, "proto=udp"}},
		{1, "dns_response_size_bytes", []string{zone, "proto=tcp"}},
		{2, "cache_hits_total", []string{"type=success", "zones=."}},
		{3, "cache_requests_total", nil},
		{1, "cache_entries", []string{"type=success"}},
		{1, "build_info", nil},
	} {
		if got := all.Value(t, "coredns_"+tt.name, tt.labels...); got != tt.want {
			t.Errorf("coredns_%s%q is %v, expected %v", tt.name, tt.labels, got, tt.want)
		}
	}
	if got := all.Value(t, "coredns_proxy_request_duration_seconds", "proxy_name=forward", "to=127.0.0.171:53", "rcode=NOERROR"); got < 1 {
		t.Errorf("the upstream's answers took time %v times", got)
	}
	if got := all.Bounds(t, "coredns_dns_request_duration_seconds", zone); !slices.Equal(got, prometheus.ExponentialBuckets(0.00025, 2, 16)) {
		t.Errorf("the buckets are %v", got)
	}
	sizes := all.Find(t, "coredns_dns_request_size_bytes", zone, "proto=udp").GetHistogram()
	if sizes.GetSampleSum() < 4*30 || sizes.GetBucket()[1].GetCumulativeCount() != 4 {
		t.Errorf("the sizes of questions are %v", sizes)
	}
}
