package resourcemetrics

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/metrics/pkg/apis/metrics"
)

// storage is one of the two resources: items of type T in lists.
type storage[T any] struct {
	kind    string
	scoped  bool
	object  func(*T) runtime.Object
	list    func([]T) runtime.Object
	items   func(runtime.Object) []T
	meta    func(*T) *metav1.ObjectMeta
	usage   func(*T) (corev1.ResourceList, metav1.Duration)
	measure func(ctx context.Context) ([]T, error)
	// known is the object that is measured; an error if it is not there.
	known    func(namespace, name string) (metav1.Object, error)
	resource schema.GroupResource // of what is measured
}

func newPods(source Source, pods corelisters.PodLister) rest.Storage {
	return &storage[metrics.PodMetrics]{
		kind: "PodMetrics", scoped: true, resource: corev1.Resource("pods"),
		object: func(m *metrics.PodMetrics) runtime.Object { return m },
		list:   func(all []metrics.PodMetrics) runtime.Object { return &metrics.PodMetricsList{Items: all} },
		items: func(o runtime.Object) []metrics.PodMetrics {
			switch o := o.(type) {
			case *metrics.PodMetrics:
				return []metrics.PodMetrics{*o}
			case *metrics.PodMetricsList:
				return o.Items
			}
			return nil
		},
		meta: func(m *metrics.PodMetrics) *metav1.ObjectMeta { return &m.ObjectMeta },
		usage: func(m *metrics.PodMetrics) (corev1.ResourceList, metav1.Duration) {
			sum := corev1.ResourceList{}
			for _, c := range m.Containers {
				for name, quantity := range c.Usage {
					all := sum[name]
					all.Add(quantity)
					sum[name] = all
				}
			}
			return sum, m.Window
		},
		measure: func(ctx context.Context) ([]metrics.PodMetrics, error) {
			_, all, err := source(ctx)
			return all, err
		},
		known: func(namespace, name string) (metav1.Object, error) { return pods.Pods(namespace).Get(name) },
	}
}

func newNodes(source Source, nodes corelisters.NodeLister) rest.Storage {
	return &storage[metrics.NodeMetrics]{
		kind: "NodeMetrics", resource: corev1.Resource("nodes"),
		object: func(m *metrics.NodeMetrics) runtime.Object { return m },
		list:   func(all []metrics.NodeMetrics) runtime.Object { return &metrics.NodeMetricsList{Items: all} },
		items: func(o runtime.Object) []metrics.NodeMetrics {
			switch o := o.(type) {
			case *metrics.NodeMetrics:
				return []metrics.NodeMetrics{*o}
			case *metrics.NodeMetricsList:
				return o.Items
			}
			return nil
		},
		meta:  func(m *metrics.NodeMetrics) *metav1.ObjectMeta { return &m.ObjectMeta },
		usage: func(m *metrics.NodeMetrics) (corev1.ResourceList, metav1.Duration) { return m.Usage, m.Window },
		measure: func(ctx context.Context) ([]metrics.NodeMetrics, error) {
			all, _, err := source(ctx)
			return all, err
		},
		known: func(_, name string) (metav1.Object, error) { return nodes.Get(name) },
	}
}

var (
	_ rest.Lister               = &storage[metrics.PodMetrics]{}
	_ rest.Getter               = &storage[metrics.PodMetrics]{}
	_ rest.Scoper               = &storage[metrics.PodMetrics]{}
	_ rest.KindProvider         = &storage[metrics.PodMetrics]{}
	_ rest.SingularNameProvider = &storage[metrics.PodMetrics]{}
)

// New implements rest.Storage.
func (s *storage[T]) New() runtime.Object { return s.object(new(T)) }

// NewList implements rest.Lister.
func (s *storage[T]) NewList() runtime.Object { return s.list(nil) }

// Destroy implements rest.Storage.
func (s *storage[T]) Destroy() {}

// Kind implements rest.KindProvider.
func (s *storage[T]) Kind() string { return s.kind }

// NamespaceScoped implements rest.Scoper.
func (s *storage[T]) NamespaceScoped() bool { return s.scoped }

// GetSingularName implements rest.SingularNameProvider: as metrics-server, none.
func (s *storage[T]) GetSingularName() string { return "" }

// List gives what was measured of all objects that are selected, in the order of their names.
func (s *storage[T]) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	all, err := s.measured(ctx)
	if err != nil {
		return nil, err
	}
	namespace := request.NamespaceValue(ctx)
	selected := make([]T, 0, len(all))
	for i := range all {
		if s.selects(&all[i], namespace, options) {
			selected = append(selected, all[i])
		}
	}
	slices.SortFunc(selected, func(a, b T) int {
		m, n := s.meta(&a), s.meta(&b)
		return cmp.Or(cmp.Compare(m.Namespace, n.Namespace), cmp.Compare(m.Name, n.Name))
	})
	return s.list(selected), nil
}

func (s *storage[T]) selects(one *T, namespace string, options *internalversion.ListOptions) bool {
	meta := s.meta(one)
	if namespace != "" && meta.Namespace != namespace || !s.describe(meta) {
		return false
	}
	if options == nil {
		return true
	}
	names := fields.Set{"metadata.name": meta.Name, "metadata.namespace": meta.Namespace}
	return (options.LabelSelector == nil || options.LabelSelector.Matches(labelsOf(meta))) &&
		(options.FieldSelector == nil || options.FieldSelector.Matches(names))
}

// describe adds what the API has of an object; false: it is gone.
func (s *storage[T]) describe(meta *metav1.ObjectMeta) bool {
	object, err := s.known(meta.Namespace, meta.Name)
	if err != nil || meta.UID != "" && object.GetUID() != meta.UID {
		return false
	}
	meta.Labels, meta.UID, meta.CreationTimestamp = object.GetLabels(), "", metav1.Now()
	return true
}

// Get gives what was measured of one object.
func (s *storage[T]) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	if _, err := s.known(namespace, name); err != nil {
		return nil, err // it says what is not there
	}
	all, err := s.measured(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if meta := s.meta(&all[i]); meta.Name == name && meta.Namespace == namespace && s.describe(meta) {
			return s.object(&all[i]), nil
		}
	}
	full := name
	if namespace != "" {
		full = namespace + "/" + name
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: metrics.GroupName, Resource: s.resource.Resource}, full)
}

func (s *storage[T]) measured(ctx context.Context) ([]T, error) {
	all, err := s.measure(ctx)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("measuring %s: %w", s.resource.Resource, err))
	}
	return all, nil
}
