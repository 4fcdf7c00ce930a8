package apiserver

import (
	"context"
	"errors"
	"fmt"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"

	"svcplane/apiserver/resourcemetrics"
)

// addMetrics has metrics.k8s.io served behind the aggregator, so that an APIService decides who answers.
func addMetrics(chain *aggregatorapiserver.APIAggregator, source resourcemetrics.Source, all informers.SharedInformerFactory) error {
	if source == nil {
		return nil
	}
	behind, ok := chain.GenericAPIServer.NextDelegate().(*genericapiserver.GenericAPIServer)
	if !ok {
		return errors.New("serving metrics.k8s.io: there is no server behind the aggregator")
	}
	if err := behind.InstallAPIGroup(resourcemetrics.Group(resourcemetrics.NewScheme(), source, all)); err != nil {
		return fmt.Errorf("serving metrics.k8s.io: %w", err)
	}
	return nil
}

// keepMetrics registers it with the aggregator until ctx ends.
func (s *Server) keepMetrics(ctx context.Context) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil
	}
	client, err := kubernetes.NewForConfig(s.Loopback())
	if err != nil {
		return fmt.Errorf("registering metrics.k8s.io: %w", err)
	}
	services, err := aggregator.NewForConfig(s.Loopback())
	if err != nil {
		return fmt.Errorf("registering metrics.k8s.io: %w", err)
	}
	keeper := resourcemetrics.Keeper{
		Client: client, Services: services.APIServices(), Served: s.measured,
		Informer: s.chain.APIRegistrationInformers.Apiregistration().V1().APIServices().Informer(),
	}
	return keeper.Run(ctx)
}
