package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/metrics/pkg/apis/metrics"

	"svcplane/address"
	"svcplane/apiserver"
	"svcplane/apiserver/hostimages"
	"svcplane/apiserver/store"
	"svcplane/controllers"
	"svcplane/disk"
	"svcplane/node/runtime/image"
)

// ControlPlaneConfig is what a ControlPlane is made of.
type ControlPlaneConfig struct {
	Config    *Config
	Addresses *address.Source
	Listener  net.Listener // of the API
	// NodeDial reaches the node of this process without the network; nil: there is none.
	NodeDial func(context.Context) (net.Conn, error)
	// Measure is what the node of this process uses, and its pods; nil: there is none.
	Measure func(context.Context) ([]metrics.NodeMetrics, []metrics.PodMetrics, error)
}

// ControlPlane keeps the objects of the API, serves them, and has the controllers.
type ControlPlane struct {
	cfg       *Config
	addresses *address.Source
	store     *storePart
	disk      *disk.Watch
	api       *apiserver.Server
	access    Access
	parts     []namedPart

	pki        *apiserver.PKI
	certifying sync.Mutex // while the files of pki are written
}

// NewControlPlane opens the store and builds the rest, of which nothing runs yet. Close ends it.
func NewControlPlane(ctx context.Context, cfg ControlPlaneConfig) (*ControlPlane, error) {
	c := &ControlPlane{cfg: cfg.Config, addresses: cfg.Addresses}
	notes, err := apiserver.CheckIdentity(c.cfg.DataDir, len(c.cfg.Etcd) > 0)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		fmt.Fprintln(os.Stderr, "svcplane:", note)
	}
	if c.pki, err = c.certify(c.cfg.NodeIPs); err != nil {
		return nil, err
	}
	opened, err := store.Open(ctx, apiserver.StoreDir(c.cfg.DataDir), c.cfg.Etcd)
	if err != nil {
		return nil, err
	}
	c.disk = disk.New(disk.Config{Dir: c.cfg.DataDir, Reserve: opened.Reserve})
	c.store = &storePart{Store: opened, disk: c.disk}
	if err := c.build(ctx, cfg); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *ControlPlane) build(ctx context.Context, cfg ControlPlaneConfig) error {
	var err error
	c.api, err = apiserver.New(ctx, apiserver.Config{
		PKI: c.pki, Store: c.store.Store, Listener: cfg.Listener, Kubeconfig: KubeconfigPath(c.cfg.DataDir),
		NodeIP: c.cfg.NodeIP(), ServiceCIDRs: c.cfg.ServiceCIDRs, NodePorts: c.cfg.NodePorts,
		Domain: c.cfg.Domain, KubeletPort: kubeletPort, Full: c.disk.Refusal, Down: c.store.Down,
		HostImages: c.cfg.hostImages(), KubeletDial: cfg.NodeDial, Measure: cfg.Measure,
	})
	if err != nil {
		return err
	}
	c.access = Access{Rest: c.api.Loopback(), Informers: c.api.Informers(), Events: record.NewBroadcaster(), Serving: c.serving}
	if c.access.Client, err = kubernetes.NewForConfig(c.access.Rest); err != nil {
		return fmt.Errorf("making a client for the api: %w", err)
	}
	if c.access.CA, err = c.pki.CA(); err != nil {
		return err
	}
	c.addresses.Follow("certificates and the API", c.move)
	c.parts = []namedPart{{partStore, c.store}, {partDisk, c.disk}, {partAPI, c.api}}
	return c.addControllers(ctx)
}

// Access is what a Node of this process needs.
func (c *ControlPlane) Access() Access { return c.access }

// Bootstrapped is closed when the objects are there that every cluster has.
func (c *ControlPlane) Bootstrapped() <-chan struct{} { return c.api.Bootstrapped() }

// recordEvents begins to write Events to the API.
func (c *ControlPlane) recordEvents() {
	c.access.Events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.access.Client.CoreV1().Events("")})
}

// Close ends what is left when the parts have ended: the store, last of all.
func (c *ControlPlane) Close() { c.store.Close() }

func (c *ControlPlane) addControllers(ctx context.Context) error {
	key, err := c.pki.ServiceAccountKey()
	if err != nil {
		return err
	}
	caCert, caKey := c.pki.CAFiles()
	cfg := controllers.Config{
		RestConfig: c.access.Rest, Client: c.access.Client, Factory: c.access.Informers, Broadcaster: c.access.Events,
		NodeName: c.cfg.NodeName, NodeAddrs: c.addresses.State().Node,
		RootCA: c.access.CA, ServiceAccountKey: key, ClientCA: controllers.ClientCA{Certificate: caCert, Key: caKey},
		Own:          c.cfg.listeners(),
		IngressClass: c.cfg.Enabled(PartIngress),
	}
	if c.cfg.Enabled(PartDNS) {
		cfg.DNSAddrs = c.cfg.DNSIPs
	}
	if c.cfg.Enabled(PartNode) {
		if cfg.VolumesDir, err = filepath.Abs(volumesDir(c.cfg.DataDir)); err != nil {
			return fmt.Errorf("finding the directory of volumes: %w", err)
		}
	}
	all, err := controllers.New(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return err
	}
	c.parts = append(c.parts, namedPart{partControllers, all})
	c.addresses.Follow("load-balancer addresses", func(ctx context.Context, now address.State) error { return all.SetNodeAddrs(ctx, now.Node) })
	return nil
}

// move brings to the node's addresses what clients know the API by: the certificates come first, and what has to be written
// to the API last.
func (c *ControlPlane) move(ctx context.Context, now address.State) error {
	if _, err := c.certify(now.Node); err != nil {
		return err
	}
	return c.api.SetNodeIP(ctx, now.Node[0])
}

// certify makes what is missing of keys and certificates, and those of servers anew when the addresses have changed.
func (c *ControlPlane) certify(node []netip.Addr) (*apiserver.PKI, error) {
	c.certifying.Lock()
	defer c.certifying.Unlock()
	return apiserver.EnsurePKI(apiserver.PKIDir(c.cfg.DataDir), c.cfg.apiNames(node), c.cfg.nodeNames(node))
}

// serving is the certificate of the node's own server at these addresses.
func (c *ControlPlane) serving(node []netip.Addr) (tls.Certificate, error) {
	pki, err := c.certify(node)
	if err != nil {
		return tls.Certificate{}, err
	}
	certFile, keyFile := pki.KubeletServing()
	serving, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("loading the node's serving certificate: %w", err)
	}
	return serving, nil
}

// apiNames are what clients call the API by (Kubernetes: "Accessing the API from a Pod").
func (c *Config) apiNames(node []netip.Addr) apiserver.Names {
	return apiserver.Names{
		DNS: []string{"localhost", c.NodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + c.Domain},
		IPs: append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.KubernetesIP}, node...),
	}
}

func (c *Config) nodeNames(node []netip.Addr) apiserver.Names {
	return apiserver.Names{DNS: []string{c.NodeName}, IPs: node}
}

// hostImages tells the API what svcplane/host is here, aliases included.
func (c *Config) hostImages() hostimages.Config {
	store := ImageStore(c.DataDir)
	return hostimages.Config{Mode: c.HostImages, IsHost: func(ref string) bool {
		// Where the aliases can't be read, the names decide here, and the node when it starts the container.
		_ = store.Load()
		return store.Builtin(ref) == image.Host
	}}
}
