package controllers

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata/metadatainformer"
)

// resourceInformers gives the controllers that follow every resource the informers the process has anyway, and metadata
// of what nobody else follows: a typed informer holds whole objects, and would for each resource there is.
type resourceInformers struct {
	typed    informers.SharedInformerFactory
	metadata metadatainformer.SharedInformerFactory
	kindFor  func(schema.GroupVersionResource) (schema.GroupVersionKind, error)
}

// ForResource implements k8s.io/controller-manager/pkg/informerfactory.InformerFactory.
func (r *resourceInformers) ForResource(resource schema.GroupVersionResource) (informers.GenericInformer, error) {
	kind, err := r.kindFor(resource)
	if err != nil {
		// a definition made after the mapper last asked the API: no typed informer can be following that
		return r.metadata.ForResource(resource), nil
	}
	if o, err := scheme.Scheme.New(kind); err == nil && r.running(reflect.TypeOf(o)) {
		return r.typed.ForResource(resource)
	}
	return r.metadata.ForResource(resource), nil
}

// Start starts the metadata informers that do not run yet; the typed ones do.
func (r *resourceInformers) Start(stop <-chan struct{}) { r.metadata.Start(stop) }

// running says whether the factory has an informer of that type at work.
func (r *resourceInformers) running(t reflect.Type) bool {
	_, ok := startedTypes(r.typed)[t]
	return ok
}

// startedTypes lists what factory has informers at work for. Asked with a context that is over, it does not wait.
func startedTypes(factory informers.SharedInformerFactory) map[reflect.Type]bool {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return factory.WaitForCacheSyncWithContext(over).Synced
}
