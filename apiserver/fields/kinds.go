package fields

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is a kind of objects whose fields are looked at, in the version that the table speaks of.
type Kind struct {
	schema.GroupVersionResource
	Of any // a value of its Go type
}

// kinds are those whose fields mean something to the node, the data planes, the name server, the ingress or a
// controller. Other kinds are carried out by the API server itself, or mean something to their authors only.
func kinds() []Kind {
	core, apps, batch := corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion
	networking, storage := networkingv1.SchemeGroupVersion, storagev1.SchemeGroupVersion
	return []Kind{
		{core.WithResource("pods"), corev1.Pod{}},
		{core.WithResource("podtemplates"), corev1.PodTemplate{}},
		{core.WithResource("replicationcontrollers"), corev1.ReplicationController{}},
		{apps.WithResource("replicasets"), appsv1.ReplicaSet{}},
		{apps.WithResource("deployments"), appsv1.Deployment{}},
		{apps.WithResource("statefulsets"), appsv1.StatefulSet{}},
		{apps.WithResource("daemonsets"), appsv1.DaemonSet{}},
		{batch.WithResource("jobs"), batchv1.Job{}},
		{batch.WithResource("cronjobs"), batchv1.CronJob{}},
		{autoscalingv2.SchemeGroupVersion.WithResource("horizontalpodautoscalers"), autoscalingv2.HorizontalPodAutoscaler{}},
		{policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"), policyv1.PodDisruptionBudget{}},
		{core.WithResource("services"), corev1.Service{}},
		//lint:ignore SA1019 deprecated, and served all the same
		{core.WithResource("endpoints"), corev1.Endpoints{}},
		{discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), discoveryv1.EndpointSlice{}},
		{networking.WithResource("ingresses"), networkingv1.Ingress{}},
		{networking.WithResource("ingressclasses"), networkingv1.IngressClass{}},
		{networking.WithResource("networkpolicies"), networkingv1.NetworkPolicy{}},
		{networking.WithResource("servicecidrs"), networkingv1.ServiceCIDR{}},
		{networking.WithResource("ipaddresses"), networkingv1.IPAddress{}},
		{core.WithResource("persistentvolumeclaims"), corev1.PersistentVolumeClaim{}},
		{core.WithResource("persistentvolumes"), corev1.PersistentVolume{}},
		{storage.WithResource("storageclasses"), storagev1.StorageClass{}},
		{core.WithResource("nodes"), corev1.Node{}},
		{core.WithResource("namespaces"), corev1.Namespace{}},
		{core.WithResource("serviceaccounts"), corev1.ServiceAccount{}},
		{core.WithResource("limitranges"), corev1.LimitRange{}},
		{core.WithResource("resourcequotas"), corev1.ResourceQuota{}},
		{nodev1.SchemeGroupVersion.WithResource("runtimeclasses"), nodev1.RuntimeClass{}},
		{schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), schedulingv1.PriorityClass{}},
		{coordinationv1.SchemeGroupVersion.WithResource("leases"), coordinationv1.Lease{}},
	}
}
