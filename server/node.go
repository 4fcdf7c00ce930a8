package server

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"

	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // rest_client_* and workqueue_*
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	"k8s.io/metrics/pkg/apis/metrics"

	"svcplane/address"
	"svcplane/catalog"
	"svcplane/descriptors"
	"svcplane/metrics/scrape"
	"svcplane/node"
	"svcplane/node/runtime"
	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/image"
	"svcplane/proxy/switchover"
	"svcplane/server/admin"
)

// NodeConfig is what a Node is made of.
type NodeConfig struct {
	Config    *Config
	Access    Access
	Addresses *address.Source
	Shares    descriptors.Shares
	Planes    *switchover.Switch // nil without the proxy
	Inherited []net.Listener     // of an ingress that ended a moment ago
}

// Node is what runs on each machine: the catalog of Services, the pods, and those who carry Services out.
type Node struct {
	cfg       *Config
	access    Access
	addresses *address.Source
	shares    descriptors.Shares
	planes    *switchover.Switch
	inherited []net.Listener
	hints     hints

	services  *catalog.Catalog
	pods      *node.Node // nil: the part is disabled
	accessLog *logFile   // nil: there is none
	parts     []namedPart
	handlers  []func(*admin.Server)
}

// NewNode builds what of a node is enabled; nothing of it runs yet.
func NewNode(cfg NodeConfig) (*Node, error) {
	n := &Node{
		cfg: cfg.Config, access: cfg.Access, addresses: cfg.Addresses, shares: cfg.Shares, planes: cfg.Planes, inherited: cfg.Inherited,
		hints: hints{client: cfg.Access.Client, domain: cfg.Config.Domain},
	}
	var err error
	if n.services, err = catalog.New(n.access.Informers); err != nil {
		return nil, err
	}
	n.add(partCatalog, n.services)
	for _, part := range []struct {
		name string
		add  func() error
	}{
		{PartNode, n.addPods},
		{PartProxy, n.addProxy},
		{PartDNS, n.addDNS},
		{PartIngress, n.addIngress},
	} {
		if !n.cfg.Enabled(part.name) {
			continue
		}
		if err := part.add(); err != nil {
			return nil, err
		}
	}
	n.addMetrics()
	return n, nil
}

func (n *Node) add(name string, p part) { n.parts = append(n.parts, namedPart{name, p}) }

// Dial reaches the server of the node's logs and exec without the network.
func (n *Node) Dial(ctx context.Context) (net.Conn, error) { return n.pods.Dial(ctx) }

// Measure tells what the node and its pods use.
func (n *Node) Measure(ctx context.Context) ([]metrics.NodeMetrics, []metrics.PodMetrics, error) {
	return n.pods.ResourceMetrics(ctx)
}

// handle answers what commands ask of the parts of a node.
func (n *Node) handle(a *admin.Server) {
	for _, add := range n.handlers {
		add(a)
	}
}

// mode is the data plane in force, empty without the proxy.
func (n *Node) mode() string {
	if n.planes == nil {
		return ""
	}
	return n.planes.Mode()
}

func (n *Node) addPods() error {
	c := n.cfg
	groups := cgroup.New(cgroup.Config{DataDir: RuntimeDir(c.DataDir), Under: c.Cgroup, Own: func() []int { return []int{os.Getpid()} }})
	rt, err := runtime.New(runtime.Config{
		DataDir:      RuntimeDir(c.DataDir),
		NodeName:     c.NodeName,
		NodeIPs:      c.NodeIPs,
		PodCIDR:      c.PodCIDRs[0],
		PodCIDR6:     c.podCIDR6(),
		NoMasquerade: c.ServiceCIDRs,
		Own:          c.listeners(),
		HostAccess:   n.hostAccess(),
		Hide:         []string{c.DataDir},
		Registries:   cmp.Or(c.Registries, RegistriesPath(c.DataDir)),
		Archives:     archivesDir(c.DataDir),
		Cgroups:      groups,
	})
	if err != nil {
		return err
	}
	serving, err := n.access.Serving(c.NodeIPs)
	if err != nil {
		return err
	}
	clientCAs := x509.NewCertPool()
	if !clientCAs.AppendCertsFromPEM(n.access.CA) {
		return errors.New("the certificate authority holds no certificate")
	}
	cfg := node.Config{
		Client: n.access.Client, Factory: n.access.Informers, Catalog: n.services, Runtime: rt, Images: rt,
		Recorder: n.access.recorder("kubelet", c.NodeName),
		Name:     c.NodeName, Addrs: c.NodeIPs, PodCIDRs: c.PodCIDRs, Domain: c.Domain, Own: c.listeners(),
		Dir:        nodeDir(c.DataDir),
		Version:    KubernetesVersion(),
		Capacity:   c.Capacity,
		SeccompDir: SeccompDir(c.DataDir), SeccompDefault: c.SeccompDefault,
		ImageGC:      c.ImageGC,
		EvictionHard: c.EvictionHard, PressureTransition: c.PressureTransition,
		Logs:          c.Logs,
		UnsafeSysctls: c.UnsafeSysctls,
		Refused:       n.hostRefused(),
		HostPath:      n.hostPathRefused(),
		ServerAddr:    netip.AddrPortFrom(c.NodeIP(), kubeletPort), ServingCert: serving, ClientCAs: clientCAs,
		Cgroups: groups, PodMaxPIDs: c.PodMaxPIDs, SystemReserved: c.SystemReserved, KubeReserved: c.KubeReserved,
		Metrics: legacyregistry.Handler(),
	}
	if c.Enabled(PartDNS) {
		cfg.DNSAddrs = c.DNSIPs
	}
	if n.pods, err = node.New(cfg); err != nil {
		return err
	}
	legacyregistry.RawMustRegister(n.pods) // there is one server per process
	n.add(partRuntime, rt)
	n.add(PartNode, n.pods)
	n.addresses.Follow("routes to pods", func(ctx context.Context, now address.State) error {
		select {
		case <-rt.Ready():
			return rt.SetNodeIPs(now.Node)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	n.addresses.Follow("the node", func(_ context.Context, now address.State) error {
		serving, err := n.access.Serving(now.Node) // clients know it by its certificate: that comes first
		if err != nil {
			return err
		}
		return n.pods.SetAddrs(now.Node, serving)
	})
	return nil
}

// hostAccess says why the pods of a namespace may not have the host's root, or nil.
func (n *Node) hostAccess() func(namespace string) error {
	namespaces := n.access.Informers.Core().V1().Namespaces().Lister()
	return func(name string) error {
		ns, err := namespaces.Get(name)
		if err != nil {
			return err
		}
		return n.cfg.HostImages.Access(ns)
	}
}

// hostRefused says why svcplane/host may not go on running in a namespace by --host-images, or nil. What PodSecurity
// enforces is about new pods, as upstream.
func (n *Node) hostRefused() func(namespace, imageID string) error {
	namespaces := n.access.Informers.Core().V1().Namespaces().Lister()
	return func(name, imageID string) error {
		if imageID != image.Host {
			return nil
		}
		ns, err := namespaces.Get(name)
		if err != nil {
			return nil // the pod goes with its namespace
		}
		return n.cfg.HostImages.Refused(ns)
	}
}

// hostPathRefused says why the pods of a namespace get no volumes of type hostPath by --host-images, or nil.
func (n *Node) hostPathRefused() func(namespace string) error {
	namespaces := n.access.Informers.Core().V1().Namespaces().Lister()
	return func(name string) error {
		ns, err := namespaces.Get(name)
		if err != nil {
			return err
		}
		return n.cfg.HostImages.Refused(ns)
	}
}

// scrapers is how many connections each of the ports for metrics has at once, and how many of them are kept for this machine.
const scrapers, ownScrapers = 32, 4

func (n *Node) addMetrics() {
	if len(n.cfg.Metrics) == 0 {
		return
	}
	cfg := scrape.Config{
		Addresses: n.cfg.Metrics, Gatherer: legacyregistry.DefaultGatherer,
		Listen: func(at netip.AddrPort) (net.Listener, error) {
			l, err := listenOn(flagMetrics, at)
			if err != nil {
				return nil, err
			}
			return descriptors.Bound(l, scrapers, ownScrapers), nil
		},
	}
	if n.planes != nil {
		cfg.Mode = n.planes.Mode
	}
	n.add(partMetrics, scrape.New(cfg))
}

// SeccompDir is where a data directory has the seccomp profiles of type Localhost.
func SeccompDir(dataDir string) string { return filepath.Join(dataDir, "seccomp") }

// CheckSysctls says what is wrong with Config.UnsafeSysctls.
func CheckSysctls(list []string) error { return node.CheckSysctls(list) }

// KubernetesVersion is the release of Kubernetes that this program is made of.
func KubernetesVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, dep := range info.Deps {
		if dep.Path == "k8s.io/kubernetes" {
			return dep.Version
		}
	}
	return "unknown"
}
