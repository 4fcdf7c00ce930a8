package fields

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// services are Services and their endpoints.
func services() []Struct {
	return []Struct{
		{Of: corev1.Service{}, Honoured: []Honoured{{"catalog", "spec"}}},
		{
			Of: corev1.ServiceSpec{},
			Honoured: []Honoured{
				{"catalog", "ports selector clusterIP clusterIPs type externalIPs sessionAffinity sessionAffinityConfig externalName " +
					"externalTrafficPolicy internalTrafficPolicy loadBalancerSourceRanges healthCheckNodePort publishNotReadyAddresses " +
					"trafficDistribution"},
				{"loadbalancer", "loadBalancerIP"},
				{"API server", "ipFamilies ipFamilyPolicy allocateLoadBalancerNodePorts"},
			},
			Rows: []Row{{
				Fields: "loadBalancerClass", Fate: Warned, Mean: "not svcplane.io/node",
				If: when(func(s *corev1.ServiceSpec) bool {
					return s.LoadBalancerClass != nil && *s.LoadBalancerClass != "svcplane.io/node"
				}),
				Text: "svcplane gives no address to a Service of this class; leave it out or use svcplane.io/node",
			}},
		},
		{Of: corev1.ServicePort{}, Honoured: []Honoured{{"catalog", "name protocol appProtocol port nodePort"}, {"endpointslice-controller", "targetPort"}}},
		{Of: corev1.SessionAffinityConfig{}, Honoured: []Honoured{{"catalog", "clientIP"}}},
		{Of: corev1.ClientIPConfig{}, Honoured: []Honoured{{"catalog", "timeoutSeconds"}}},
		//lint:ignore SA1019 deprecated, and served all the same
		{Of: corev1.Endpoints{}, Honoured: []Honoured{{"endpointslice-mirroring-controller", "subsets"}}},
		//lint:ignore SA1019 deprecated, and served all the same
		{Of: corev1.EndpointSubset{}, Honoured: []Honoured{{"endpointslice-mirroring-controller", "addresses notReadyAddresses ports"}}},
		{Of: corev1.EndpointAddress{}, Honoured: []Honoured{{"endpointslice-mirroring-controller", "ip hostname nodeName targetRef"}}},
		{Of: corev1.EndpointPort{}, Honoured: []Honoured{{"endpointslice-mirroring-controller", "name port protocol appProtocol"}}},
		{
			Of:       discoveryv1.EndpointSlice{},
			Honoured: []Honoured{{"catalog", "endpoints ports"}},
			Rows: []Row{{
				Fields: "addressType", Fate: Warned, Mean: "FQDN",
				If:   when(func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == discoveryv1.AddressTypeFQDN }),
				Text: "names are not resolved: nothing is sent to these endpoints, as with kube-proxy; use IPv4 or IPv6 addresses",
			}},
		},
		{
			Of:       discoveryv1.Endpoint{},
			Honoured: []Honoured{{"catalog", "addresses conditions hostname targetRef nodeName zone hints"}},
			Rows:     []Row{{Fields: "deprecatedTopology", Fate: Moot, Text: "of the API's version v1beta1"}},
		},
		{Of: discoveryv1.EndpointConditions{}, Honoured: []Honoured{{"catalog", "ready serving terminating"}}},
		{Of: discoveryv1.EndpointHints{}, Honoured: []Honoured{{"catalog", "forZones forNodes"}}},
		{Of: discoveryv1.ForZone{}, Honoured: []Honoured{{"catalog", "name"}}},
		{Of: discoveryv1.ForNode{}, Honoured: []Honoured{{"catalog", "name"}}},
		{Of: discoveryv1.EndpointPort{}, Honoured: []Honoured{{"catalog", "name protocol port appProtocol"}}},
		{
			Of:       corev1.ObjectReference{},
			Honoured: []Honoured{{"catalog", "kind name"}, {"volumes", "namespace uid"}},
			Rows:     []Row{{Fields: "apiVersion resourceVersion fieldPath", Fate: Moot, Text: "the kind says enough where references are followed"}},
		},
	}
}

// ingresses are Ingresses, their classes, and what is about packets.
func ingresses() []Struct {
	return []Struct{
		{Of: networkingv1.Ingress{}, Honoured: []Honoured{{"ingress", "spec"}}},
		{Of: networkingv1.IngressSpec{}, Honoured: []Honoured{{"ingress", "ingressClassName defaultBackend tls rules"}}},
		{
			Of:       networkingv1.IngressBackend{},
			Honoured: []Honoured{{"ingress", "service"}},
			Rows:     []Row{{Fields: "resource", Fate: Event, Text: "the path is not served (ResourceRefused); set service instead"}},
		},
		{Of: networkingv1.IngressServiceBackend{}, Honoured: []Honoured{{"ingress", "name port"}}},
		{Of: networkingv1.ServiceBackendPort{}, Honoured: []Honoured{{"ingress", "name number"}}},
		{Of: networkingv1.IngressTLS{}, Honoured: []Honoured{{"ingress", "hosts secretName"}}},
		{Of: networkingv1.IngressRule{}, Honoured: []Honoured{{"ingress", "host"}}},
		{Of: networkingv1.IngressRuleValue{}, Honoured: []Honoured{{"ingress", "http"}}},
		{Of: networkingv1.HTTPIngressRuleValue{}, Honoured: []Honoured{{"ingress", "paths"}}},
		{Of: networkingv1.HTTPIngressPath{}, Honoured: []Honoured{{"ingress", "path pathType backend"}}},
		{Of: networkingv1.IngressClass{}, Honoured: []Honoured{{"ingress", "spec"}}},
		{
			Of:       networkingv1.IngressClassSpec{},
			Honoured: []Honoured{{"ingress", "controller"}},
			Rows: []Row{{
				Fields: "parameters", Fate: Warned, Mean: "controller svcplane.io/ingress",
				If: when(func(s *networkingv1.IngressClassSpec) bool {
					return s.Parameters != nil && s.Controller == "svcplane.io/ingress"
				}),
				Text: "svcplane's ingress has no parameters by class; annotate the Ingress",
			}},
		},
		{
			Of: networkingv1.NetworkPolicy{},
			Rows: []Row{{
				Fields: "spec", Fate: Warned,
				Text: "not enforced: every pod and every client goes on reaching the pods that it selects",
			}},
		},
		{Of: networkingv1.ServiceCIDR{}, Honoured: []Honoured{{"API server", "spec"}}},
		{Of: networkingv1.ServiceCIDRSpec{}, Honoured: []Honoured{{"API server", "cidrs"}}},
		{Of: networkingv1.IPAddress{}, Honoured: []Honoured{{"API server", "spec"}}},
		{Of: networkingv1.IPAddressSpec{}, Honoured: []Honoured{{"API server", "parentRef"}}},
		{Of: networkingv1.ParentReference{}, Honoured: []Honoured{{"API server", "group resource namespace name"}}},
	}
}
