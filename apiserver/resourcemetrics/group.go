package resourcemetrics

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/metrics/pkg/apis/metrics"
	"k8s.io/metrics/pkg/apis/metrics/install"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Source measures nodes and their pods. It gives names, times and what is used; labels are added here.
type Source func(ctx context.Context) ([]metrics.NodeMetrics, []metrics.PodMetrics, error)

// NewScheme knows the types of the group.
func NewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	return scheme
}

// Group is the group with its resources, for an API server. It registers with informers, which start later.
func Group(scheme *runtime.Scheme, source Source, all informers.SharedInformerFactory) *genericapiserver.APIGroupInfo {
	core := all.Core().V1()
	group := genericapiserver.NewDefaultAPIGroupInfo(v1beta1.GroupName, scheme, metav1.ParameterCodec, serializer.NewCodecFactory(scheme))
	group.VersionedResourcesStorageMap[v1beta1.SchemeGroupVersion.Version] = map[string]rest.Storage{
		"pods":  newPods(source, core.Pods().Lister()),
		"nodes": newNodes(source, core.Nodes().Lister()),
	}
	return &group
}
