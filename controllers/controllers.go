package controllers

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"svcplane/controllers/binder"
	"svcplane/controllers/loadbalancer"
	"svcplane/controllers/localpath"
	"svcplane/listeners"
)

// Config is what the controllers need. All fields must be set but those that say otherwise.
type Config struct {
	RestConfig  *rest.Config         // loopback, may do everything; its rate limit is ignored
	Client      kubernetes.Interface // of the same, without a rate limit (QPS -1)
	Factory     informers.SharedInformerFactory
	Broadcaster record.EventBroadcaster // records to the API; the caller starts it and shuts it down

	NodeName  string
	NodeAddrs []netip.Addr // of the node, in order of preference: what LoadBalancer Services get; see SetNodeAddrs

	// RootCA is the PEM of the authority that signed the API's certificate, published to every namespace.
	RootCA []byte
	// ServiceAccountKey signs the tokens in Secrets of type kubernetes.io/service-account-token (an RSA, ECDSA or
	// Ed25519 private key). nil: such Secrets stay empty; the tokens of pods do not need it.
	ServiceAccountKey crypto.Signer
	// ClientCA issues certificates to users. Empty: requests that were approved stay without one.
	ClientCA ClientCA

	Own          listeners.Set // svcplane's own on the node, whose ports neither pods nor Services get; may be empty
	DNSAddrs     []netip.Addr  // the cluster IPs of kube-system/kube-dns, one of a family; none: that Service is not made
	IngressClass bool          // make the IngressClass svcplane
	VolumesDir   string        // absolute, on the node: where volumes of the StorageClass local-path lie; empty: there is none
}

// Controllers runs the controllers.
type Controllers struct {
	cfg       Config
	parts     *parts
	upstream  map[string]runner
	binder    *binder.Binder
	balance   *loadbalancer.Controller
	volumes   *localpath.Provisioner // nil: no VolumesDir
	ready     chan struct{}
	nodeAddrs atomic.Pointer[[]netip.Addr]
	// defaults is closed once the default objects exist.
	defaults chan struct{}
}

// New registers with the informers of cfg.Factory; the caller starts the factory, then calls Run. It must not be started
// before: upstream's constructors register handlers that cannot be called until they are through. ctx, under which Run
// is to be called, ends the event pipelines that they open. The API need not serve yet.
func New(ctx context.Context, cfg Config) (*Controllers, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if len(startedTypes(cfg.Factory)) > 0 {
		return nil, errors.New("controllers: the informer factory is started already, make them before that")
	}
	c := &Controllers{cfg: cfg, ready: make(chan struct{}), defaults: make(chan struct{})}
	recorder := func(component string) record.EventRecorder {
		return cfg.Broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})
	}
	c.nodeAddrs.Store(&cfg.NodeAddrs)
	var err error
	c.binder, err = binder.New(binder.Config{
		Client: cfg.Client, Factory: cfg.Factory, Recorder: recorder(corev1.DefaultSchedulerName),
		NodeName: cfg.NodeName, Own: cfg.Own,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the binder: %w", err)
	}
	c.balance, err = loadbalancer.New(loadbalancer.Config{
		Client: cfg.Client, Factory: cfg.Factory, Recorder: recorder("service-controller"),
		NodeName: cfg.NodeName, Addrs: cfg.NodeAddrs, Own: cfg.Own,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up load-balancer addresses: %w", err)
	}
	if cfg.VolumesDir != "" {
		c.volumes, err = localpath.New(localpath.Config{
			Client: cfg.Client, Factory: cfg.Factory, Recorder: recorder(localpath.ProvisionerName),
			NodeName: cfg.NodeName, Dir: cfg.VolumesDir,
		})
		if err != nil {
			return nil, fmt.Errorf("setting up volumes on the node's disk: %w", err)
		}
	}
	if c.parts, err = newParts(cfg); err != nil {
		return nil, err
	}
	if c.upstream, err = c.parts.build(quiet(ctx), cfg.early()); err != nil {
		return nil, err
	}
	return c, nil
}

func (cfg *Config) validate() error {
	var missing []string
	for name, ok := range map[string]bool{
		"RestConfig": cfg.RestConfig != nil, "Client": cfg.Client != nil, "Factory": cfg.Factory != nil,
		"Broadcaster": cfg.Broadcaster != nil, "NodeName": cfg.NodeName != "", "NodeAddrs": len(cfg.NodeAddrs) > 0,
		"RootCA": len(cfg.RootCA) > 0,
	} {
		if !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("controllers need %s in their configuration", strings.Join(missing, ", "))
	}
	return nil
}

// Ready is closed once all caches hold the state of the API, the default objects exist and every controller runs.
func (c *Controllers) Ready() <-chan struct{} { return c.ready }

// Figure is a short count for people: "24 controllers, 40 pods bound, 0 pending, 2 load balancers".
func (c *Controllers) Figure() string {
	return fmt.Sprintf("%d controllers, %s, %s", len(c.upstream)+len(late()), c.binder.Figure(), c.balance.Figure())
}

// Run starts the controllers and waits for all of them. It returns nil when ctx ends, and the error of the first that
// stopped on its own otherwise.
func (c *Controllers) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	start := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := contained(quiet(ctx), name, run); err != nil {
				stop(err)
			}
		})
	}
	// these need no upstream controller and no cache but their own
	start("binder", c.binder.Run)
	start("load-balancer addresses", c.balance.Run)
	start("default objects", c.ensureDefaults)
	if c.volumes != nil {
		start("volumes on the node's disk", c.volumes.Run)
	}
	c.cfg.Factory.StartWithContext(ctx) // what was asked for after the caller started it
	if c.waitForCaches(ctx) {
		late, err := c.parts.build(quiet(ctx), late())
		if err != nil {
			stop(err)
		}
		c.cfg.Factory.StartWithContext(ctx)
		close(c.parts.started)
		for _, group := range []map[string]runner{c.upstream, late} {
			for name, run := range group {
				start(name, func(ctx context.Context) error { run(ctx); return nil })
			}
		}
		wg.Go(func() { c.announce(ctx) })
	}
	wg.Wait()
	c.parts.resources.metadata.Shutdown() // waits for its informers, which ended with ctx
	return cause(ctx)
}

// SetNodeAddrs follows the node's addresses: LoadBalancer Services get them, and the Service of the cluster DNS leads to
// them.
func (c *Controllers) SetNodeAddrs(ctx context.Context, addrs []netip.Addr) error {
	c.nodeAddrs.Store(&addrs)
	c.balance.SetAddrs(addrs)
	select {
	case <-c.defaults: // until then they may be made with what was before
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return c.ensureDNSEndpoints(ctx)
}

// quiet leaves out what upstream controllers say of their starting and stopping: it is not worth a line each.
func quiet(ctx context.Context) context.Context {
	return klog.NewContext(ctx, klog.FromContext(ctx).V(2))
}

// announce closes ready when everything that has to be waited for is there.
func (c *Controllers) announce(ctx context.Context) {
	for _, part := range []<-chan struct{}{c.binder.Ready(), c.balance.Ready(), c.defaults} {
		select {
		case <-part:
		case <-ctx.Done():
			return
		}
	}
	close(c.ready)
}

// cause is what ended ctx, nil when the caller did.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// contained turns a panic and a premature return into an error.
func contained(ctx context.Context, name string, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("controller %s panicked: %v\n%s", name, p, debug.Stack())
		}
	}()
	if err := run(ctx); err != nil {
		return fmt.Errorf("controller %s: %w", name, err)
	}
	if ctx.Err() == nil {
		return fmt.Errorf("controller %s stopped by itself", name)
	}
	return nil
}

// waitForCaches waits until every informer of the process has the state of the API, and names now and then those that
// do not: one of a resource that the API server does not serve never will.
func (c *Controllers) waitForCaches(ctx context.Context) bool {
	for {
		round, cancel := context.WithTimeout(ctx, slowCache)
		synced := c.cfg.Factory.WaitForCacheSyncWithContext(round).Synced
		cancel()
		var missing []string
		for _, t := range slices.Collect(maps.Keys(synced)) {
			if !synced[t] {
				missing = append(missing, typeName(t))
			}
		}
		if len(missing) == 0 || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		slices.Sort(missing)
		klog.InfoS("Controllers wait for caches that are not filled: does the API server serve these?", "types", missing)
	}
}

const slowCache = 10 * time.Second

func typeName(t reflect.Type) string { return strings.TrimPrefix(t.String(), "*") }
