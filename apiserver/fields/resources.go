package fields

import "k8s.io/apimachinery/pkg/runtime/schema"

// Resource says who carries out the objects of a resource that the API serves.
type Resource struct {
	schema.GroupResource
	By   string // who does
	Text string // of what nobody carries out: what that means. Its creation is answered with a Warning.
	// OnUpdate has the Warning given for updates; of subresources, which are not created.
	OnUpdate bool
}

const byAPI = "API server"

// resources lists every resource that the API serves, but subresources that only read or write a part of their object.
func resources() []Resource {
	carried := map[string]map[string]string{ // group: who: resources, separated by spaces
		"": {
			byAPI:                                "bindings componentstatuses configmaps events limitranges secrets",
			"endpointslice-mirroring-controller": "endpoints", "namespace-controller": "namespaces", "node-lifecycle-controller": "nodes",
			"volumes": "persistentvolumeclaims persistentvolumes", "node": "pods", "nobody: kept for programs that make pods of it": "podtemplates",
			"replicationcontroller-controller": "replicationcontrollers", "resourcequota-controller": "resourcequotas",
			"serviceaccount-controller": "serviceaccounts", "catalog": "services",
		},
		"admissionregistration.k8s.io": {byAPI: "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations " +
			"validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations"},
		"apiextensions.k8s.io":   {byAPI: "customresourcedefinitions"},
		"apiregistration.k8s.io": {byAPI: "apiservices"},
		"apps": {
			"nobody: the history of DaemonSets and StatefulSets": "controllerrevisions", "daemonset-controller": "daemonsets",
			"deployment-controller": "deployments", "replicaset-controller": "replicasets", "statefulset-controller": "statefulsets",
		},
		"authentication.k8s.io":     {byAPI: "selfsubjectreviews tokenreviews"},
		"authorization.k8s.io":      {byAPI: "localsubjectaccessreviews selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews"},
		"autoscaling":               {"horizontal-pod-autoscaler-controller": "horizontalpodautoscalers"},
		"batch":                     {"job-controller": "jobs", "cronjob-controller": "cronjobs"},
		"certificates.k8s.io":       {"certificatesigningrequest-signing-controller": "certificatesigningrequests"},
		"coordination.k8s.io":       {"those who share them": "leases"},
		"discovery.k8s.io":          {"catalog": "endpointslices"},
		"events.k8s.io":             {byAPI: "events"},
		"networking.k8s.io":         {byAPI: "ipaddresses", "service-cidr-controller": "servicecidrs", "ingress": "ingressclasses ingresses", "nobody: see its fields": "networkpolicies"},
		"node.k8s.io":               {byAPI: "runtimeclasses"},
		"policy":                    {"disruption-controller": "poddisruptionbudgets"},
		"rbac.authorization.k8s.io": {byAPI: "clusterrolebindings rolebindings roles", "clusterrole-aggregation-controller": "clusterroles"},
		"scheduling.k8s.io":         {byAPI: "priorityclasses"},
		"storage.k8s.io":            {"volumes": "storageclasses"},
	}
	all := unserved()
	for group, who := range carried {
		for by, names := range who {
			for _, name := range split(names) {
				all = append(all, Resource{GroupResource: schema.GroupResource{Group: group, Resource: name}, By: by})
			}
		}
	}
	return all
}

// unserved are those that nobody carries out.
func unserved() []Resource {
	storage := func(name string) schema.GroupResource {
		return schema.GroupResource{Group: "storage.k8s.io", Resource: name}
	}
	const noDrivers = "no CSI driver runs on this node, and the object has no effect; volumes are of type hostPath or local"
	return []Resource{
		{GroupResource: storage("csidrivers"), Text: noDrivers},
		{GroupResource: storage("csinodes"), Text: noDrivers},
		{GroupResource: storage("csistoragecapacities"), Text: noDrivers},
		{GroupResource: storage("volumeattachments"), Text: "nothing attaches volumes to this node, and the object has no effect"},
		{GroupResource: storage("volumeattributesclasses"), Text: "no volume here has attributes, and the class has no effect"},
	}
}
