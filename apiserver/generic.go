package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	noopoteltrace "go.opentelemetry.io/otel/trace/noop"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/filters"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	"k8s.io/kubernetes/pkg/kubeapiserver"

	"svcplane/apiserver/resourcemetrics"
)

// dialer is how a client gets a connection, whatever address it asks for.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// resync is upstream's for the informers of the API server.
const resync = 10 * time.Minute

// newConfig puts the parts of the API server together. Upstream's app.NewConfig does the same, but makes
// the server's clients of itself at once, before anybody could give them another way to connect.
func newConfig(opts options.CompletedOptions, dial dialer) (*app.Config, error) {
	g := &generic{opts: opts, schemes: []*runtime.Scheme{legacyscheme.Scheme, apiextensionsapiserver.Scheme, aggregatorscheme.Scheme, resourcemetrics.NewScheme()}}
	if err := g.build(dial); err != nil {
		return nil, err
	}
	kube, resolver, plugins, err := app.CreateKubeAPIServerConfig(opts, g.config, g.informers, g.storage)
	if err != nil {
		return nil, err
	}
	c := &app.Config{Options: opts, KubeAPIs: kube}
	shared, transport := *kube.ControlPlane.Generic, kube.ControlPlane.ProxyTransport
	c.ApiExtensions, err = controlplaneapiserver.CreateAPIExtensionsConfig(shared, g.informers, plugins, opts.CompletedOptions, opts.MasterCount, resolver,
		webhook.NewDefaultAuthenticationInfoResolverWrapper(transport, shared.EgressSelector, shared.LoopbackClientConfig, shared.TracerProvider))
	if err != nil {
		return nil, err
	}
	c.Aggregator, err = controlplaneapiserver.CreateAggregatorConfig(shared, opts.CompletedOptions, g.informers, resolver, transport, kube.ControlPlane.PeerProxy, plugins)
	return c, err
}

// generic is what the servers of the chain have in common.
type generic struct {
	opts      options.CompletedOptions
	schemes   []*runtime.Scheme
	config    *genericapiserver.Config
	client    *kubernetes.Clientset
	informers informers.SharedInformerFactory
	storage   *serverstorage.DefaultStorageFactory
}

// build goes through the steps of upstream's BuildGenericConfig, in its order.
func (g *generic) build(dial dialer) error {
	g.config = genericapiserver.NewConfig(legacyscheme.Codecs)
	g.config.Flagz = g.opts.Flagz
	g.config.MergedResourceConfig = controlplane.DefaultAPIResourceConfigSource()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"general options", func() error { return g.opts.GenericServerRunOptions.ApplyTo(g.config) }},
		{"serving", func() error { return g.opts.SecureServing.ApplyToConfig(g.config) }},
		{"clients of its own", func() error { return g.clients(dial) }},
		{"features", func() error { return g.opts.Features.ApplyTo(g.config, g.client, g.informers) }},
		{"resources", func() error {
			return g.opts.APIEnablement.ApplyTo(g.config, g.config.MergedResourceConfig, legacyscheme.Scheme)
		}},
		{"tracing", func() error { return g.opts.Traces.ApplyTo(nil, g.config) }},
		{"descriptions", g.describe},
		{"storage", g.store},
		{"access", g.access},
		{"audit", func() error { return g.opts.Audit.ApplyTo(g.config) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	g.config.AggregatedDiscoveryGroupManager = aggregated.NewResourceManager("apis")
	return nil
}

// clients makes the client and the informers that the server has of itself.
func (g *generic) clients(dial dialer) error {
	loopback := g.config.LoopbackClientConfig
	loopback.Dial = dial
	loopback.ContentType = runtime.ContentTypeProtobuf
	loopback.DisableCompression = true
	var err error
	if g.client, err = kubernetes.NewForConfig(loopback); err != nil {
		return err
	}
	unmanaged := func(o any) (any, error) {
		if object, err := meta.Accessor(o); err == nil && object.GetManagedFields() != nil {
			object.SetManagedFields(nil)
		}
		return o, nil
	}
	g.informers = informers.NewSharedInformerFactoryWithOptions(g.client, resync, informers.WithTransform(unmanaged))
	return nil
}

func (g *generic) describe() error {
	definitions := openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions)
	names := openapinamer.NewDefinitionNamer(g.schemes...)
	g.config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, names)
	g.config.OpenAPIConfig.Info.Title = "Kubernetes"
	g.config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, names)
	g.config.OpenAPIV3Config.Info.Title = "Kubernetes"
	g.config.LongRunningFunc = filters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"), sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	return nil
}

func (g *generic) store() error {
	g.opts.Etcd.StorageConfig.Transport.TracerProvider = noopoteltrace.NewTracerProvider()
	if g.config.TracerProvider != nil {
		g.opts.Etcd.StorageConfig.Transport.TracerProvider = g.config.TracerProvider
	}
	factory := kubeapiserver.NewStorageFactoryConfigEffectiveVersion(g.config.EffectiveVersion)
	factory.APIResourceConfig = g.config.MergedResourceConfig
	factory.DefaultResourceEncoding.SetEffectiveVersion(g.config.EffectiveVersion)
	var err error
	if g.storage, err = factory.Complete(g.opts.Etcd).New(); err != nil {
		return err
	}
	g.storage.StorageConfig.StorageObjectCountTracker = g.config.StorageObjectCountTracker
	return g.opts.Etcd.ApplyWithStorageFactoryTo(g.storage, g.config)
}

// access is who a client is and what it may do.
func (g *generic) access() error {
	ctx := wait.ContextForChannel(g.config.DrainedNotify())
	c := g.config
	if err := g.opts.Authentication.ApplyTo(ctx, &c.Authentication, c.SecureServing, nil, c.OpenAPIConfig, c.OpenAPIV3Config, g.client, g.informers, c.APIServerID); err != nil {
		return err
	}
	var rbac bool
	var err error
	c.Authorization.Authorizer, c.RuleResolver, rbac, err = controlplaneapiserver.BuildAuthorizer(ctx, g.opts.CompletedOptions, nil, c.APIServerID, g.informers)
	if err == nil && !rbac {
		err = errors.New("RBAC must be among the authorization modes")
	}
	return err
}
