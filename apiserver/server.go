package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	netutils "k8s.io/utils/net"

	"svcplane/apiserver/hostimages"
	"svcplane/apiserver/resourcemetrics"
	"svcplane/apiserver/store"
	"svcplane/inprocess"
)

// Config says what the API server is to be.
type Config struct {
	PKI          *PKI
	Store        *store.Store
	Listener     net.Listener   // TCP; taken over by the server
	Kubeconfig   string         // path the administrator's kubeconfig is written to
	NodeIP       netip.Addr     // advertised in default/kubernetes; see SetNodeIP
	ServiceCIDRs []netip.Prefix // one, or one of each family
	NodePorts    string         // "30000-32767"
	Domain       string         // cluster domain; part of the token issuer's name
	KubeletPort  uint16
	HostImages   hostimages.Config // without IsHost PodSecurity is upstream's own
	// Full says why nothing that makes the store grow may be accepted now; nil: it may.
	Full func() error
	// Down says why the store has ended; nil: it has not. What the caches have can be read then.
	Down func() error
	// KubeletDial reaches the node without the network; nil: at the address of its Node.
	KubeletDial func(context.Context) (net.Conn, error)
	// Measure is what metrics.k8s.io is made of; nil: the group is not served.
	Measure resourcemetrics.Source
}

// Server is the API, from the first filter to the CRDs.
type Server struct {
	chain     *aggregatorapiserver.APIAggregator
	loopback  *rest.Config
	informers informers.SharedInformerFactory
	ready     chan struct{}

	bootstrapped chan struct{}

	advertised *advertised
	measured   bool // metrics.k8s.io is served
	serving    dynamiccertificates.CertKeyContentProvider
}

// New builds the chain on the store; the store is read and written, but no request is served before Run.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := checkServiceCIDRs(ctx, cfg.Store, cfg.ServiceCIDRs); err != nil {
		return nil, err
	}
	address, err := clientAddress(cfg.Listener.Addr())
	if err != nil {
		return nil, err
	}
	if err := writeKubeconfig(cfg.Kubeconfig, cfg.PKI, address); err != nil {
		return nil, err
	}
	listener := inprocess.Listen(cfg.Listener)
	opts := cfg.options()
	opts.SecureServing.Listener = listener
	if err := restrict(opts); err != nil {
		return nil, err
	}
	completed, err := opts.Complete(ctx)
	if err != nil {
		return nil, fmt.Errorf("completing the api server's options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("checking the api server's options: %w", utilerrors.NewAggregate(errs))
	}
	config, err := newConfig(completed, listener.Dial)
	if err != nil {
		return nil, fmt.Errorf("configuring the api server: %w", err)
	}
	if cfg.Full != nil && cfg.Down != nil {
		generic := config.Aggregator.GenericConfig
		build := generic.BuildHandlerChainFunc
		generic.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
			return build(refusing(handler, cfg.Full, cfg.Down), c)
		}
	}
	own := newAdvertised(cfg.NodeIP, config.KubeAPIs)
	if cfg.KubeletDial != nil {
		config.KubeAPIs.Extra.KubeletClientConfig.Lookup = inside(cfg.KubeletDial)
	}
	complete, err := config.Complete()
	if err != nil {
		return nil, fmt.Errorf("configuring the api server: %w", err)
	}
	own.discover(complete.KubeAPIs.ControlPlane.Generic)
	chain, err := app.CreateServerChain(complete)
	if err != nil {
		return nil, fmt.Errorf("building the api server: %w", err)
	}
	if err := addMetrics(chain, cfg.Measure, config.KubeAPIs.ControlPlane.VersionedInformers); err != nil {
		return nil, err
	}
	loopback, err := shared(chain.GenericAPIServer.LoopbackClientConfig, listener.Dial)
	if err != nil {
		return nil, err
	}
	return &Server{
		chain:        chain,
		loopback:     loopback,
		informers:    config.KubeAPIs.ControlPlane.VersionedInformers,
		ready:        make(chan struct{}),
		bootstrapped: make(chan struct{}),
		advertised:   own,
		measured:     cfg.Measure != nil,
		serving:      config.KubeAPIs.ControlPlane.Generic.SecureServing.Cert,
	}, nil
}

func (cfg *Config) options() *options.ServerRunOptions {
	o := options.NewServerRunOptions()
	o.Etcd.StorageConfig.Transport.ServerList = cfg.Store.Endpoints()
	o.SecureServing.BindPort = cfg.Listener.Addr().(*net.TCPAddr).Port
	o.SecureServing.ServerCert.CertKey.CertFile = cfg.PKI.cert(pairServing)
	o.SecureServing.ServerCert.CertKey.KeyFile = cfg.PKI.key(pairServing)
	o.GenericServerRunOptions.AdvertiseAddress = net.IP(cfg.NodeIP.AsSlice())
	o.AllowPrivileged = true
	addWarnings(o.Admission.GenericAdmission)
	if cfg.HostImages.IsHost != nil {
		hostimages.Install(o.Admission.GenericAdmission, cfg.HostImages)
	}

	o.ServiceClusterIPRanges = joinPrefixes(cfg.ServiceCIDRs)
	if ports, err := utilnet.ParsePortRange(cfg.NodePorts); err == nil {
		o.ServiceNodePortRange = *ports
	}

	o.Authentication.ClientCert.ClientCA = cfg.PKI.cert(pairCA)
	o.Authentication.RequestHeader.ClientCAFile = cfg.PKI.cert(pairFrontCA)
	o.Authentication.RequestHeader.AllowedNames = []string{pairFrontClient}
	o.Authentication.RequestHeader.UsernameHeaders = []string{"X-Remote-User"}
	o.Authentication.RequestHeader.GroupHeaders = []string{"X-Remote-Group"}
	o.Authentication.RequestHeader.ExtraHeaderPrefixes = []string{"X-Remote-Extra-"}
	o.ProxyClientCertFile, o.ProxyClientKeyFile = cfg.PKI.cert(pairFrontClient), cfg.PKI.key(pairFrontClient)
	o.Authentication.ServiceAccounts.Issuers = []string{"https://kubernetes.default.svc." + cfg.Domain}
	o.Authentication.ServiceAccounts.KeyFiles = []string{cfg.PKI.Path(keyAccounts)}
	o.ServiceAccountSigningKeyFile = cfg.PKI.Path(keyAccounts)
	o.Authorization.Modes = []string{"RBAC"}

	o.KubeletConfig.Port = uint(cfg.KubeletPort)
	o.KubeletConfig.PreferredAddressTypes = []string{"InternalIP"}
	o.KubeletConfig.TLSClientConfig.CAFile = cfg.PKI.cert(pairCA)
	o.KubeletConfig.TLSClientConfig.CertFile = cfg.PKI.cert(pairKubeletClient)
	o.KubeletConfig.TLSClientConfig.KeyFile = cfg.PKI.key(pairKubeletClient)
	return o
}

func joinPrefixes(prefixes []netip.Prefix) string {
	var texts []string
	for _, p := range prefixes {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}

// KubernetesServiceIP is the address of default/kubernetes: the first of the range, as upstream chooses it.
func KubernetesServiceIP(serviceCIDR netip.Prefix) (netip.Addr, error) {
	_, ipnet, err := netutils.ParseCIDRSloppy(serviceCIDR.String())
	if err != nil {
		return netip.Addr{}, err
	}
	ip, err := netutils.GetIndexedIP(ipnet, 1)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("service range %s: %w", serviceCIDR, err)
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap(), nil
}

// Loopback is a privileged client configuration that does not leave the process, whatever becomes of the machine's network,
// and is not rate limited.
func (s *Server) Loopback() *rest.Config { return s.loopback }

// Informers is the one set of informers of the process. What is asked for before Run is started by it.
// Objects come without managedFields.
func (s *Server) Informers() informers.SharedInformerFactory { return s.informers }

// startEnds is how long a start that nobody wants any more may take to come to its end.
const startEnds = 5 * time.Second

// Run serves until ctx ends and all requests are answered. If ctx ends during the start, that is ended first: upstream's
// hooks take an order to stop for a fault, and end the process at once, with a stack and exit code 255.
func (s *Server) Run(ctx context.Context) error {
	prepared, err := s.chain.PrepareRun()
	if err != nil {
		return fmt.Errorf("preparing the api server: %w", err)
	}
	asked := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(asked, func() {
		select {
		case <-s.ready:
		case <-ctx.Done():
		case <-time.After(startEnds):
		}
		cancel()
	})()
	watching := make(chan error, 2)
	go func() { watching <- s.waitReady(ctx) }()
	go func() { watching <- s.keepMetrics(ctx) }()
	err = prepared.Run(ctx)
	cancel()
	return errors.Join(err, <-watching, <-watching)
}

// readyInterval is between two looks at /readyz, which answers from memory.
const readyInterval = 5 * time.Millisecond

// The paths that answer 200 when the stages of readiness are reached. Upstream makes the default roles and
// priority classes at the first tick of a one-second poll; what uses the loopback client need not wait for
// that, and after a restart they are there already: these are the last ones it makes.
var (
	pathsReady        = []string{"/readyz?exclude=poststarthook/rbac/bootstrap-roles&exclude=poststarthook/scheduling/bootstrap-system-priority-classes"}
	pathsBootstrapped = []string{
		"/api/v1/namespaces/default/services/kubernetes",
		"/api/v1/namespaces/default/endpoints/kubernetes",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/rolebindings/system:controller:bootstrap-signer",
		"/apis/scheduling.k8s.io/v1/priorityclasses/system-cluster-critical",
		"/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
	}
)

// waitReady closes ready and bootstrapped as the API comes to say so.
func (s *Server) waitReady(ctx context.Context) error {
	client, err := rest.HTTPClientFor(s.Loopback())
	if err != nil {
		return fmt.Errorf("making a client for the api server: %w", err)
	}
	if !s.await(ctx, client, pathsReady) {
		return nil
	}
	close(s.ready)
	if err := makeDefaults(ctx, s.Loopback()); err != nil && ctx.Err() == nil {
		klog.V(2).InfoS("Making the default objects early", "err", err) // upstream's hooks try until it works
	}
	if !s.await(ctx, client, pathsBootstrapped) {
		return nil
	}
	select {
	case <-s.advertised.written: // what an earlier run wrote may name an address that is gone
		close(s.bootstrapped)
	case <-ctx.Done():
	}
	return nil
}

// await returns true when all paths have answered 200, false when ctx ends first.
func (s *Server) await(ctx context.Context, client *http.Client, paths []string) bool {
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for len(paths) > 0 {
		if s.probe(ctx, client, paths[0]) {
			paths = paths[1:]
			continue
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

func (s *Server) probe(ctx context.Context, client *http.Client, path string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Loopback().Host+path, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Ready is closed when the API serves privileged clients: caches are filled, allocators run.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Bootstrapped is closed when default/kubernetes, the default RBAC roles and priority classes are there too.
func (s *Server) Bootstrapped() <-chan struct{} { return s.bootstrapped }

// Figure is a short count for people.
func (s *Server) Figure() string {
	return fmt.Sprintf("%d paths", len(s.chain.GenericAPIServer.Handler.ListedPaths()))
}
