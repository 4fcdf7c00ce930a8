package catalog

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// labelServiceProxyName hands a Service to another proxy (well-known label, upstream pkg/proxy/apis).
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// Build makes the immutable value of one Service from the API objects. Slices of another Service or of
// address type FQDN are ignored. The result does not depend on the order of slices.
func Build(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) *Service {
	return build(svc, endpointSlices, nil)
}

// build also knows what the ports were called when the slices were written.
func build(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, names former) *Service {
	s := &Service{
		Key:                 Key{Namespace: svc.Namespace, Name: svc.Name},
		UID:                 svc.UID,
		Created:             svc.CreationTimestamp.Time,
		Type:                svc.Spec.Type,
		Headless:            svc.Spec.ClusterIP == corev1.ClusterIPNone,
		ExternalIPs:         parseAddrs(svc.Spec.ExternalIPs),
		SourceRanges:        sourceRanges(svc),
		InternalLocal:       deref(svc.Spec.InternalTrafficPolicy) == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal:       svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		HealthCheckNodePort: uint16(svc.Spec.HealthCheckNodePort),
		PublishNotReady:     svc.Spec.PublishNotReadyAddresses,
		TrafficDistribution: deref(svc.Spec.TrafficDistribution),
		Affinity:            affinity(svc),
		ForeignProxy:        foreign(svc),
		Selector:            labels.Set(svc.Spec.Selector).String(),
	}
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		s.ExternalName = strings.TrimSuffix(svc.Spec.ExternalName, ".")
		return s
	case !s.Headless:
		s.ClusterIPs = clusterIPs(svc)
		endpointSlices = slices.DeleteFunc(slices.Clone(endpointSlices), forHeadless)
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.LoadBalancerIPs = loadBalancerIPs(svc.Status.LoadBalancer.Ingress)
	}
	s.Ports = servicePorts(svc)
	from := sourcesOf(svc, names)
	if s.Headless {
		s.Ports = appendSlicePorts(s.Ports, endpointSlices)
	}
	for i := range s.Ports {
		if i == len(from) {
			from = append(from, source{portID: portID{s.Ports[i].Name, s.Ports[i].Protocol}})
		}
		s.Ports[i].Endpoints = endpointsOf(from[i], endpointSlices)
	}
	s.Hosts = hosts(endpointSlices)
	s.Triggered = triggered(endpointSlices)
	return s
}

// forHeadless says whether a slice is only for those who ask DNS for the endpoints of a headless Service. Proxies leave such
// slices alone, also those of a Service with an address (well-known label service.kubernetes.io/headless).
func forHeadless(slice *discoveryv1.EndpointSlice) bool {
	_, headless := slice.Labels[corev1.IsHeadlessService]
	return headless
}

// triggered is the newest trigger time that slices carry. One that does not parse is no time.
func triggered(endpointSlices []*discoveryv1.EndpointSlice) time.Time {
	var newest time.Time
	for _, slice := range endpointSlices {
		at, err := time.Parse(time.RFC3339Nano, slice.Annotations[corev1.EndpointsLastChangeTriggerTime])
		if err == nil && at.After(newest) {
			newest = at
		}
	}
	return newest
}

func foreign(svc *corev1.Service) bool {
	_, named := svc.Labels[labelServiceProxyName]
	_, headless := svc.Labels[corev1.IsHeadlessService]
	return named || headless
}

func affinity(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func clusterIPs(svc *corev1.Service) []netip.Addr {
	if len(svc.Spec.ClusterIPs) == 0 {
		return parseAddrs([]string{svc.Spec.ClusterIP})
	}
	return parseAddrs(svc.Spec.ClusterIPs)
}

func loadBalancerIPs(ingress []corev1.LoadBalancerIngress) []netip.Addr {
	var texts []string
	for _, in := range ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			texts = append(texts, in.IP)
		}
	}
	return parseAddrs(texts)
}

func hosts(endpointSlices []*discoveryv1.EndpointSlice) []Endpoint {
	var all []Endpoint
	for _, slice := range endpointSlices {
		all = appendEndpoints(all, slice, 0)
	}
	return sorted(all)
}

func appendEndpoints(all []Endpoint, slice *discoveryv1.EndpointSlice, port uint16) []Endpoint {
	if slice.AddressType == discoveryv1.AddressTypeFQDN {
		return all
	}
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		for _, addr := range parseAddrs(e.Addresses) {
			all = append(all, Endpoint{
				AddrPort: netip.AddrPortFrom(addr, port),
				// nil means true for ready, the value of ready for serving, false for terminating (discovery/v1)
				Ready:       e.Conditions.Ready == nil || *e.Conditions.Ready,
				Serving:     serving(e.Conditions),
				Terminating: deref(e.Conditions.Terminating),
				Hostname:    deref(e.Hostname),
				Node:        deref(e.NodeName),
				Zone:        deref(e.Zone),
				Pod:         podName(e.TargetRef),
				ForZones:    zoneHints(e.Hints),
				ForNodes:    nodeHints(e.Hints),
			})
		}
	}
	return all
}

func serving(c discoveryv1.EndpointConditions) bool {
	if c.Serving != nil {
		return *c.Serving
	}
	return c.Ready == nil || *c.Ready
}

func podName(ref *corev1.ObjectReference) string {
	if ref == nil || ref.Kind != "Pod" {
		return ""
	}
	return ref.Name
}

func zoneHints(h *discoveryv1.EndpointHints) []string {
	if h == nil {
		return nil
	}
	var zones []string
	for _, z := range h.ForZones {
		zones = append(zones, z.Name)
	}
	return zones
}

func nodeHints(h *discoveryv1.EndpointHints) []string {
	if h == nil {
		return nil
	}
	var nodes []string
	for _, n := range h.ForNodes {
		nodes = append(nodes, n.Name)
	}
	return nodes
}

// sorted orders endpoints and keeps one of each address and port: while a pod moves from one slice to
// another it is for a moment in both (EndpointSlice documentation), and the one in better condition counts.
func sorted(all []Endpoint) []Endpoint {
	slices.SortStableFunc(all, func(a, b Endpoint) int {
		return cmp.Or(a.AddrPort.Compare(b.AddrPort), rank(b)-rank(a), cmp.Compare(a.Pod, b.Pod))
	})
	return slices.CompactFunc(all, func(a, b Endpoint) bool { return a.AddrPort == b.AddrPort })
}

func rank(e Endpoint) int {
	switch {
	case e.Ready && !e.Terminating:
		return 3
	case e.Ready:
		return 2
	case e.Serving:
		return 1
	}
	return 0
}

// parseAddrs drops what is not an address: the API server validates, and an old object may carry ""
// or "None".
func parseAddrs(texts []string) []netip.Addr {
	var addrs []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// sourceRanges are those of the spec, or else of the annotation that came before the field and that the load balancers of clouds
// go by (upstream cloud-provider/service/helpers): who wrote it wants others kept out.
func sourceRanges(svc *corev1.Service) []netip.Prefix {
	texts := svc.Spec.LoadBalancerSourceRanges
	said := strings.TrimSpace(svc.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey])
	if len(texts) == 0 && said != "" && svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		texts = strings.Split(said, ",")
	}
	return parsePrefixes(texts)
}

// parsePrefixes keeps a range that does not parse as one that matches nobody, so that a mistake never
// opens a Service to the world.
func parsePrefixes(texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(t))
		if err != nil {
			p = netip.PrefixFrom(netip.IPv4Unspecified(), 32)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes
}

func protocolOrTCP(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// KeyOfSlice names the Service that an EndpointSlice belongs to; ok is false for a slice of none.
func KeyOfSlice(slice *discoveryv1.EndpointSlice) (Key, bool) {
	name := slice.Labels[discoveryv1.LabelServiceName]
	return types.NamespacedName{Namespace: slice.Namespace, Name: name}, name != ""
}
