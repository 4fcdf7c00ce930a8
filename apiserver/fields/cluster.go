package fields

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// clusters are the kinds that describe the cluster and bound its namespaces.
func clusters() []Struct {
	return []Struct{
		{Of: corev1.Node{}, Honoured: []Honoured{{"binder", "spec"}}},
		{
			Of:       corev1.NodeSpec{},
			Honoured: []Honoured{{"binder", "unschedulable taints"}},
			Rows: []Row{
				{Fields: "podCIDR podCIDRs", Fate: Moot, Text: "the node has the addresses of --pod-cidr"},
				{Fields: "providerID externalID", Fate: Moot, Text: "kept for others to read"},
				{Fields: "configSource", Fate: Moot, Text: "removed from Kubernetes in 1.24"},
			},
		},
		{Of: corev1.Taint{}, Honoured: []Honoured{{"binder", "key value effect"}}, Rows: []Row{{Fields: "timeAdded", Fate: Moot, Text: "for people"}}},
		{Of: corev1.Namespace{}, Honoured: []Honoured{{"namespace-controller", "spec"}}},
		{Of: corev1.NamespaceSpec{}, Honoured: []Honoured{{"namespace-controller", "finalizers"}}},
		{
			Of:       corev1.ServiceAccount{},
			Honoured: []Honoured{{"API server", "secrets automountServiceAccountToken imagePullSecrets"}},
		},
		{Of: corev1.LimitRange{}, Honoured: []Honoured{{"API server", "spec"}}},
		{Of: corev1.LimitRangeSpec{}, Honoured: []Honoured{{"API server", "limits"}}},
		{Of: corev1.LimitRangeItem{}, Honoured: []Honoured{{"API server", "type max min default defaultRequest maxLimitRequestRatio"}}},
		{Of: corev1.ResourceQuota{}, Honoured: []Honoured{{"resourcequota-controller", "spec"}}},
		{Of: corev1.ResourceQuotaSpec{}, Honoured: []Honoured{{"resourcequota-controller", "hard scopes scopeSelector"}}},
		{Of: corev1.ScopeSelector{}, Honoured: []Honoured{{"resourcequota-controller", "matchExpressions"}}},
		{Of: corev1.ScopedResourceSelectorRequirement{}, Honoured: []Honoured{{"resourcequota-controller", "scopeName operator values"}}},
	}
}

// classes are the kinds that pods and candidates for a lease name.
func classes() []Struct {
	return []Struct{
		{
			Of:       nodev1.RuntimeClass{},
			Honoured: []Honoured{{"API server", "overhead scheduling"}},
			Rows: []Row{{
				Fields: "handler", Fate: Warned,
				Text: "this node has one container runtime, the default, and no handler: pods that name this class are not run",
			}},
		},
		{Of: nodev1.Overhead{}, Honoured: []Honoured{{"API server", "podFixed"}}},
		{Of: nodev1.Scheduling{}, Honoured: []Honoured{{"API server", "nodeSelector tolerations"}}},
		{
			Of:       schedulingv1.PriorityClass{},
			Honoured: []Honoured{{"API server", "globalDefault"}},
			Rows: []Row{
				{
					Fields: "value", Fate: Warned,
					Text: "pods get their nodes in the order of their creation, and none is preempted; it counts when the node runs short and pods are evicted",
				},
				{Fields: "preemptionPolicy", Fate: Moot, Text: "no pod is preempted"},
				{Fields: "description", Fate: Moot, Text: "for people"},
			},
		},
		{Of: coordinationv1.Lease{}, Honoured: []Honoured{{"node-lifecycle-controller", "spec"}}},
		{
			Of:       coordinationv1.LeaseSpec{},
			Honoured: []Honoured{{"node-lifecycle-controller", "renewTime"}},
			Rows: []Row{
				{Fields: "holderIdentity leaseDurationSeconds acquireTime leaseTransitions", Fate: Moot, Text: "for those who share the lease"},
				{Fields: "strategy preferredHolder", Fate: Warned, Text: "dropped by the API server, whose feature gate CoordinatedLeaderElection is off: the first candidate leads"},
			},
		},
	}
}
