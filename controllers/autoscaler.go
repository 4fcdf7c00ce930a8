package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"
)

// Upstream's defaults for the autoscaler.
const (
	autoscalerPeriod     = 15 * time.Second
	downscaleWindow      = 5 * time.Minute
	autoscalerTolerance  = 0.1
	cpuInitialization    = 5 * time.Minute
	initialReadinessTime = 30 * time.Second
)

// buildAutoscaler makes what holds workloads between minReplicas and maxReplicas and scales them by metrics. It asks the API
// for these: without an APIService that serves metrics the answer is that there are none, and the autoscaler's
// condition says so. Nothing of it is at work before there is an autoscaler.
func buildAutoscaler(_ context.Context, p *parts) (runner, error) {
	scales, err := p.scales()
	if err != nil {
		return nil, err
	}
	ofResources, err := resourceclient.NewForConfig(p.rest)
	if err != nil {
		return nil, fmt.Errorf("making a client for resource metrics: %w", err)
	}
	external, err := external_metrics.NewForConfig(p.rest)
	if err != nil {
		return nil, fmt.Errorf("making a client for external metrics: %w", err)
	}
	versions := custom_metrics.NewAvailableAPIsGetter(p.discovery)
	client := metrics.NewRESTMetricsClient(ofResources, custom_metrics.NewForConfig(p.rest, p.mapper, versions), external)
	first, err := p.firstAutoscaler()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		select {
		case <-first:
		case <-ctx.Done():
			return
		}
		c := podautoscaler.NewHorizontalController(ctx, p.Client.CoreV1(), scales, p.Client.AutoscalingV2(), p.mapper, client,
			p.Factory.Autoscaling().V2().HorizontalPodAutoscalers(), p.Factory.Core().V1().Pods(),
			autoscalerPeriod, downscaleWindow, autoscalerTolerance, cpuInitialization, initialReadinessTime)
		p.Factory.StartWithContext(ctx)
		together(
			func(ctx context.Context) {
				custom_metrics.PeriodicallyInvalidate(versions, autoscalerPeriod, ctx.Done())
			},
			withWorkers(c.Run),
		)(ctx)
	}, nil
}

// firstAutoscaler is closed when there is one. The garbage collector follows their metadata anyway.
func (p *parts) firstAutoscaler() (<-chan struct{}, error) {
	informer, err := p.resources.ForResource(autoscalingv2.SchemeGroupVersion.WithResource("horizontalpodautoscalers"))
	if err != nil {
		return nil, fmt.Errorf("following horizontal pod autoscalers: %w", err)
	}
	first := make(chan struct{})
	seen := sync.OnceFunc(func() { close(first) })
	_, err = informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(any) { seen() }})
	if err != nil {
		return nil, fmt.Errorf("following horizontal pod autoscalers: %w", err)
	}
	return first, nil
}

// scales makes a client for the replicas of whatever has a scale subresource.
func (p *parts) scales() (scale.ScalesGetter, error) {
	scales, err := scale.NewForConfig(p.rest, p.mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(p.discovery))
	if err != nil {
		return nil, fmt.Errorf("making a scale client: %w", err)
	}
	return scales, nil
}
