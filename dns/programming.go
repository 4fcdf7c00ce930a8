package dns

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// programming measures what SIG Scalability calls DNS programming latency: from the moment when the ready endpoints of
// a Service changed (the trigger time in its EndpointSlices) to the one when their names are served. The buckets are
// those of CoreDNS' coredns_kubernetes_dns_programming_duration_seconds: 1 ms, doubled 20 times.
type programming struct {
	mu    sync.Mutex
	kinds map[string]*programmed // by service_kind
}

type programmed struct {
	buckets [20]uint64 // the rest is in count only
	count   uint64
	sum     time.Duration
}

// observe counts a Service whose entry has just come into force; old is the one before.
func (p *programming) observe(svc *catalog.Service, old *entry, now time.Time) {
	if svc.Triggered.IsZero() || (old != nil && !svc.Triggered.After(old.triggered)) {
		return
	}
	took := max(now.Sub(svc.Triggered), 0)
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.kinds[kindOf(svc)]
	if k == nil {
		k = &programmed{}
		p.kinds[kindOf(svc)] = k
	}
	k.count++
	k.sum += took
	for i := range k.buckets {
		if took <= programmingBound(i) {
			k.buckets[i]++
		}
	}
}

func programmingBound(i int) time.Duration { return time.Millisecond << i }

// kindOf is the service_kind label of CoreDNS.
func kindOf(svc *catalog.Service) string {
	switch {
	case svc.Type == corev1.ServiceTypeExternalName:
		return "external_name"
	case !svc.Headless:
		return "cluster_ip"
	case svc.Selector != "":
		return "headless_with_selector"
	}
	return "headless_without_selector"
}
