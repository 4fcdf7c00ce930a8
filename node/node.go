package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/klog/v2"

	"svcplane/listeners"
	"svcplane/measure"
	"svcplane/node/eviction"
	"svcplane/node/imagegc"
	"svcplane/node/probe"
	"svcplane/node/runtime/cgroup"
	"svcplane/node/volume"
)

// Drainer waits until nobody sends new connections to an address (catalog.Catalog).
type Drainer interface {
	Drained(ctx context.Context, addr netip.Addr) error
}

// Config is what a Node needs. Every field is required unless its comment says otherwise.
type Config struct {
	Client  kubernetes.Interface
	Factory informers.SharedInformerFactory // New registers informers: start it after New
	Catalog Drainer                         // nil: pods are not drained before they are killed
	Runtime internalapi.RuntimeService
	Images  internalapi.ImageManagerService
	// Recorder writes the Events of pods and of the node.
	Recorder record.EventRecorder

	Name     string       // of the Node object; it is the identity, addresses may change
	Addrs    []netip.Addr // of the machine, the preferred one first; see SetAddrs
	PodCIDRs []netip.Prefix
	Own      listeners.Set       // svcplane's on this machine, whose ports no pod gets as a hostPort
	DNSAddrs []netip.Addr        // of the cluster's DNS; none: pods get the host's resolver
	Domain   string              // of the cluster, "cluster.local"
	Dir      string              // volumes, logs and files of pods are kept below it
	Version  string              // shown as the kubelet's, "v1.36.3"
	Capacity corev1.ResourceList // what the node offers in place of what the machine has; may be empty
	// What of it is not there for pods; may be empty.
	SystemReserved, KubeReserved corev1.ResourceList
	Cgroups                      *cgroup.Tree // where pods are limited; nil: nowhere
	PodMaxPIDs                   int64        // processes and threads of one pod; 0: no limit

	UnsafeSysctls []string // that pods may set besides those that concern nobody else: names, or beginnings with * at the end

	SeccompDir     string // where profiles of type Localhost are
	SeccompDefault bool   // a container without a seccomp profile gets RuntimeDefault, not Unconfined

	// ImageGC says when images are removed; the zero value: never.
	ImageGC imagegc.Policy
	// EvictionHard are the thresholds from which on pods are ended; none: they never are. PressureTransition is how long a
	// condition of the node stays after the last of its thresholds was met; 0: the kubelet's five minutes.
	EvictionHard       []eviction.Threshold
	PressureTransition time.Duration
	Logs               LogPolicy // of containers; the zero value: DefaultLogPolicy
	// Refused says why containers of an image may not run in a namespace, or nil: those that do end. Nil: all may.
	Refused func(namespace, imageID string) error
	// HostPath says why pods of a namespace may not have volumes of that type, or nil. Nil: all may.
	HostPath func(namespace string) error

	// MasterService is the API's own Service; no container starts before it is known, and its variables
	// are in every container's environment. The zero value means default/kubernetes.
	MasterService types.NamespacedName

	// ServerAddr is where logs, exec and metrics are served. A client certificate of ClientCAs for ServerClients, or for a member of
	// system:masters, may do everything; what the owners of others and of bearer tokens may do is asked of the API.
	ServerAddr    netip.AddrPort
	ServingCert   tls.Certificate
	ClientCAs     *x509.CertPool
	ServerClients []string             // common names; none: kube-apiserver-kubelet-client
	Reviewer      kubernetes.Interface // is asked about them; nil: Client
	// Metrics is what /metrics of that server gives to those who may have it; nil: nothing.
	Metrics http.Handler
}

// Node runs the pods that are bound to one machine.
type Node struct {
	cfg          Config
	runtimeName  string // for container ids, known after Run asked the runtime
	runtimeVer   string
	handlers     []corev1.NodeRuntimeHandler // that the runtime has; known then, too
	strictGroups bool                        // the runtime has supplementalGroupsPolicy Strict; known then, too
	allocatable  corev1.ResourceList
	sysctls      *sysctls // that pods may set
	cgroups      cgroups
	users        userRanges

	pods     cache.SharedIndexInformer
	services corelisters.ServiceLister
	synced   []cache.InformerSynced

	objects *objects
	images  *images
	gc      *imagegc.Collector
	probes  *probe.Manager
	volumes *volume.Manager
	trees   *measure.Trees
	sampler *sampler
	evictor *evictor
	pressed chan struct{} // receives when the conditions of the node changed
	crash   *flowcontrol.Backoff
	starts  chan struct{} // bounds how many sandboxes are made at once
	writing chan struct{} // held by the one worker that writes to the API

	addrs   atomic.Pointer[[]netip.Addr]
	serving atomic.Pointer[tls.Certificate]
	server  *server
	moved   chan struct{} // receives when the addresses changed

	ready chan struct{}

	// What the last relist saw, by id of container or sandbox; only relist touches it.
	seen   map[string]int32
	owners map[string]types.UID

	allocating sync.Mutex // held while it is decided what a pod gets

	mu      sync.Mutex
	workers map[types.UID]*worker
	run     func(*worker)  // nil until the whole state is known
	wg      sync.WaitGroup // workers
	adopt   sync.WaitGroup // workers that have not looked at their pod yet, at start
	closed  bool           // no more workers
}

// everything selects all objects of a lister.
var everything = labels.Everything()

const (
	maxPods        = 500
	parallelStarts = 8
)

// New makes a Node and registers its informers; it starts nothing.
func New(cfg Config) (*Node, error) {
	if cfg.MasterService == (types.NamespacedName{}) {
		cfg.MasterService = types.NamespacedName{Namespace: "default", Name: "kubernetes"}
	}
	if cfg.Logs == (LogPolicy{}) {
		cfg.Logs = DefaultLogPolicy()
	}
	if cfg.ImageGC == (imagegc.Policy{}) {
		cfg.ImageGC.HighThresholdPercent = 100
	}
	switch {
	case cfg.Name == "":
		return nil, errors.New("node: no name is configured")
	case len(cfg.Addrs) == 0:
		return nil, fmt.Errorf("node %s: no address is configured; set --node-ip", cfg.Name)
	case cfg.Dir == "":
		return nil, fmt.Errorf("node %s: no directory is configured", cfg.Name)
	}
	core := cfg.Factory.Core().V1()
	n := &Node{
		cfg:      cfg,
		pods:     core.Pods().Informer(),
		services: core.Services().Lister(),
		crash:    flowcontrol.NewBackOff(backOffInitial, backOffMax),
		starts:   make(chan struct{}, parallelStarts),
		writing:  make(chan struct{}, 1),
		moved:    make(chan struct{}, 1),
		pressed:  make(chan struct{}, 1),
		ready:    make(chan struct{}),
		workers:  map[types.UID]*worker{},
	}
	n.trees, n.sampler = measure.NewTrees(treeAge), newSampler(n)
	n.evictor = &evictor{n: n, manager: eviction.NewManager(cfg.EvictionHard, cmp.Or(cfg.PressureTransition, pressureTransition))}
	n.addrs.Store(&cfg.Addrs)
	n.serving.Store(&cfg.ServingCert)
	var err error
	if n.sysctls, err = newSysctls(cfg.UnsafeSysctls); err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if n.server, err = newKubeletServer(n); err != nil {
		return nil, err
	}
	n.objects = &objects{
		client: cfg.Client, configMaps: core.ConfigMaps().Lister(), secrets: core.Secrets().Lister(),
		claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(),
	}
	n.images = newImages(cfg.Images, cfg.Recorder, cfg.Dir, n.objects.Secret)
	n.gc = n.newImageGC()
	n.users.dir = n.podsDir()
	n.volumes = volume.New(volume.Config{Dir: n.podsDir(), Objects: n.objects, Claims: n.objects, Tokens: n.requestToken, HostPath: cfg.HostPath})
	n.probes = probe.New(probe.Config{Exec: n.execSync, Recorder: cfg.Recorder, Ref: objectRef, Changed: n.wake})
	return n, n.register(core)
}

// Run registers the node and runs pods until ctx ends; then it leaves every container running and returns
// nil. It fails when the runtime does not answer or the kubelet port is taken.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := n.askRuntime(ctx); err != nil {
		return err
	}
	defer n.server.end()
	if err := n.server.begin(ctx, cancel); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if !cache.WaitForCacheSync(ctx.Done(), n.synced...) {
		return failure(ctx)
	}
	if err := n.evictor.begin(ctx); err != nil {
		return err
	}
	if err := n.joinSoon(ctx); err != nil {
		cancel(err)
		return failure(ctx)
	}
	if err := n.setupCgroups(); err != nil {
		cancel(err)
		return failure(ctx)
	}
	n.cfg.Recorder.Eventf(n.ref(), corev1.EventTypeNormal, "Starting", "Starting the node's pods.")
	wg.Go(func() { n.heartbeat(ctx) })
	if n.cfg.Logs.MaxSize >= 0 {
		wg.Go(func() { n.rotateLogs(ctx) })
	}
	if !n.cfg.ImageGC.Never() {
		wg.Go(func() { n.gc.Run(ctx) })
	}
	wg.Go(func() { n.trees.Run(ctx) })
	wg.Go(func() { n.sampler.run(ctx) })
	wg.Go(func() { n.evictor.run(ctx) })
	wg.Go(func() { n.keepCgroups(ctx) })
	n.adoptAll(ctx)
	if err := n.sweep(ctx); err != nil {
		klog.ErrorS(err, "Removing what pods left that are gone")
	}
	wg.Go(func() { n.watchRuntime(ctx) })
	wg.Go(func() {
		n.adopt.Wait()
		close(n.ready)
	})
	<-ctx.Done()
	n.stopWorkers()
	n.probes.Wait()
	return failure(ctx)
}

// failure is nil when ctx ended from outside.
func failure(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Ready is closed when the node is registered and has looked at every pod it had at start.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Figure is a short count for people: "8 pods running".
func (n *Node) Figure() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	running := 0
	for _, w := range n.workers {
		if w.phase() == corev1.PodRunning {
			running++
		}
	}
	return fmt.Sprintf("%d pods running", running)
}

func (n *Node) askRuntime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	v, err := n.cfg.Runtime.Version(ctx, "v1")
	if err != nil {
		return fmt.Errorf("asking the container runtime for its version: %w", err)
	}
	n.runtimeName, n.runtimeVer = v.RuntimeName, v.RuntimeVersion
	status, err := n.cfg.Runtime.Status(ctx, false)
	if err != nil {
		return fmt.Errorf("asking the container runtime for its features: %w", err)
	}
	n.strictGroups = status.GetFeatures().GetSupplementalGroupsPolicy()
	n.handlers = handlerFeatures(status.GetRuntimeHandlers())
	return nil
}

// ref names the node in Events; a node's Events go by its name, as the kubelet's do.
func (n *Node) ref() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.cfg.Name, UID: types.UID(n.cfg.Name)}
}
