package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
	"k8s.io/kubernetes/pkg/quota/v1/install"
)

// parts is what the upstream controllers are built from.
type parts struct {
	Config
	rest      *rest.Config // without a rate limit
	discovery discovery.DiscoveryInterface
	metadata  metadata.Interface
	mapper    meta.ResettableRESTMapper
	resources *resourceInformers
	// started is closed when the informers are: the generic controllers add theirs after that.
	started chan struct{}
}

const (
	// discoveryPeriod is how long a new CustomResourceDefinition may take to be collected and counted.
	discoveryPeriod = 30 * time.Second
	// namespaceResync and quotaResync are upstream's defaults.
	namespaceResync = 5 * time.Minute
	quotaResync     = 5 * time.Minute
)

func newParts(cfg Config) (*parts, error) {
	p := &parts{Config: cfg, rest: rest.CopyConfig(cfg.RestConfig), started: make(chan struct{})}
	p.rest.QPS, p.rest.RateLimiter = -1, nil
	var err error
	if p.discovery, err = discovery.NewDiscoveryClientForConfig(p.rest); err != nil {
		return nil, fmt.Errorf("making a discovery client: %w", err)
	}
	if p.metadata, err = metadata.NewForConfig(p.rest); err != nil {
		return nil, fmt.Errorf("making a metadata client: %w", err)
	}
	// it has a discovery client of its own: the garbage collector resets it when it finds new resources with the other
	forMapper, err := discovery.NewDiscoveryClientForConfig(p.rest)
	if err != nil {
		return nil, fmt.Errorf("making a discovery client: %w", err)
	}
	p.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(forMapper))
	p.resources = &resourceInformers{
		typed:    cfg.Factory,
		metadata: metadatainformer.NewSharedInformerFactoryWithOptions(p.metadata, 0, metadatainformer.WithTransform(TrimManagedFields)),
		kindFor:  p.mapper.KindFor,
	}
	return p, nil
}

// TrimManagedFields is an informer transform that drops what no controller reads and what is a good part of an object.
func TrimManagedFields(o any) (any, error) {
	if object, err := meta.Accessor(o); err == nil && len(object.GetManagedFields()) > 0 {
		object.SetManagedFields(nil)
	}
	return o, nil
}

func buildNamespace(ctx context.Context, p *parts) (runner, error) {
	c := namespace.NewNamespaceController(ctx, p.Client, p.metadata, p.discovery.ServerPreferredNamespacedResources,
		p.Factory.Core().V1().Namespaces(), namespaceResync, corev1.FinalizerKubernetes)
	return withWorkers(c.Run), nil
}

func buildGarbageCollector(ctx context.Context, p *parts) (runner, error) {
	c, err := garbagecollector.NewGarbageCollector(ctx, p.Client, p.metadata, p.mapper, garbagecollector.DefaultIgnoredResources(), p.resources, p.started)
	if err != nil {
		return nil, err
	}
	return together(
		func(ctx context.Context) { c.Run(ctx, workers, discoveryPeriod) },
		func(ctx context.Context) { c.Sync(ctx, p.discovery, discoveryPeriod) },
	), nil
}

func buildQuota(ctx context.Context, p *parts) (runner, error) {
	served := func(r schema.GroupVersionResource) bool { return r.Group != resourcev1.GroupName }
	listers := generic.ListerFuncForResourceFunc(p.resources.ForResource)
	evaluators, err := core.NewEvaluators(listers, p.Factory, served)
	if err != nil {
		return nil, fmt.Errorf("making quota evaluators: %w", err)
	}
	quota := generic.NewConfiguration(evaluators, install.DefaultIgnoredResources())
	c, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{
		QuotaClient:               p.Client.CoreV1(),
		ResourceQuotaInformer:     p.Factory.Core().V1().ResourceQuotas(),
		ResyncPeriod:              controller.StaticResyncPeriodFunc(quotaResync),
		InformerFactory:           p.resources,
		ReplenishmentResyncPeriod: controller.NoResyncPeriodFunc,
		DiscoveryFunc:             p.discovery.ServerPreferredNamespacedResources,
		IgnoredResourcesFunc:      quota.IgnoredResources,
		InformersStarted:          p.started,
		Registry:                  generic.NewRegistry(quota.Evaluators()),
		UpdateFilter:              install.DefaultUpdateFilter(),
	})
	if err != nil {
		return nil, err
	}
	return together(
		withWorkers(c.Run),
		func(ctx context.Context) {
			c.Sync(ctx, p.discovery.ServerPreferredNamespacedResources, discoveryPeriod)
		},
	), nil
}

// together runs all and waits for all.
func together(runs ...runner) runner {
	return func(ctx context.Context) {
		var wg sync.WaitGroup
		for _, run := range runs {
			wg.Go(func() { run(ctx) })
		}
		wg.Wait()
	}
}
