package catalog

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Key names a Service: namespace and name.
type Key = types.NamespacedName

// Service is one Service with its endpoints, both address families together. It is immutable.
type Service struct {
	Key
	UID          types.UID
	Created      time.Time // metadata.creationTimestamp, whole seconds
	Type         corev1.ServiceType
	Headless     bool         // spec.clusterIP: None
	ExternalName string       // target of an ExternalName Service, without a trailing dot
	ClusterIPs   []netip.Addr // one per address family; empty when headless or ExternalName
	ExternalIPs  []netip.Addr
	// LoadBalancerIPs are the addresses in status.loadBalancer.ingress that traffic reaches unchanged
	// (ipMode VIP or unset, KEP-1860). Those of ipMode Proxy are left out: the node never sees them.
	LoadBalancerIPs     []netip.Addr
	SourceRanges        []netip.Prefix // spec.loadBalancerSourceRanges; empty allows everybody
	InternalLocal       bool           // internalTrafficPolicy: Local
	ExternalLocal       bool           // externalTrafficPolicy: Local
	Affinity            time.Duration  // sessionAffinity ClientIP; 0: none
	HealthCheckNodePort uint16
	PublishNotReady     bool
	TrafficDistribution string // spec.trafficDistribution, KEP-4444
	// ForeignProxy is set when the Service is not for this node's proxy: it is headless by label or names
	// another one (service.kubernetes.io/headless, service.kubernetes.io/service-proxy-name).
	ForeignProxy bool
	// Selector is spec.selector as text, "app=toad,tier=web"; empty when the endpoints are made by hand.
	Selector string
	Ports    []Port
	// Triggered is the newest endpoints.kubernetes.io/last-change-trigger-time of its EndpointSlices: when what led to
	// the present endpoints happened. Zero when none says so.
	Triggered time.Time
	// Hosts are the endpoint addresses whatever the ports, each once, with Port 0: what a headless name
	// resolves to, also for a Service without ports.
	Hosts []Endpoint
}

// Port is one port of a Service with the endpoints that serve it.
type Port struct {
	Name        string
	Protocol    corev1.Protocol
	Port        uint16
	NodePort    uint16 // 0: none
	AppProtocol string
	// Endpoints are sorted by address and port. Named target ports may differ from pod to pod.
	Endpoints []Endpoint
}

// Endpoint is a pod, or any address, behind a port of a Service.
type Endpoint struct {
	netip.AddrPort
	// Ready, Serving and Terminating are the conditions of the EndpointSlice (KEP-1672), nil values resolved.
	Ready       bool
	Serving     bool
	Terminating bool
	Hostname    string
	Node        string
	Zone        string
	Pod         string   // name of the pod in the Service's namespace; empty when there is none
	ForZones    []string // topology hints (KEP-2433)
	ForNodes    []string
}
