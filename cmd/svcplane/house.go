package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"svcplane/address"
	"svcplane/apiserver"
	"svcplane/apiserver/store"
	"svcplane/catalog"
	"svcplane/descriptors"
	"svcplane/disk"
	"svcplane/node"
)

// house is everything of one server process, built and not yet running.
type house struct {
	cfg       *Config
	addresses *address.Source
	node      *node.Node // nil: --disable node
	accessLog *logFile
	parts     *parts
	mode      string // of the proxy
	order     []room // in the order of their start
	store     *storePart
	shares    descriptors.Shares
	disk      *disk.Watch
	api       *apiserver.Server
	events    record.EventBroadcaster
	client    kubernetes.Interface
	admin     *admin
	closing   context.CancelFunc // ends the admin socket
}

type room struct {
	name string
	part part
}

func build(ctx context.Context, cfg *Config, c *claims) (*house, error) {
	notes, err := apiserver.CheckIdentity(cfg.DataDir, len(cfg.Etcd) > 0)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		fmt.Fprintln(os.Stderr, "svcplane:", note)
	}
	pki, err := apiserver.EnsurePKI(apiserver.PKIDir(cfg.DataDir), cfg.apiNames(cfg.NodeIPs), cfg.nodeNames(cfg.NodeIPs))
	if err != nil {
		return nil, err
	}
	h := &house{cfg: cfg, addresses: c.addresses, parts: newParts(), closing: func() {}}
	if h.shares, err = shareOut(); err != nil {
		return nil, err
	}
	opened, err := store.Open(ctx, apiserver.StoreDir(cfg.DataDir), cfg.Etcd)
	if err != nil {
		return nil, err
	}
	h.disk = disk.New(disk.Config{Dir: cfg.DataDir, Reserve: opened.Reserve})
	h.store = &storePart{Store: opened, disk: h.disk}
	if err := h.furnish(ctx, pki, c); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

// furnish builds the rooms; none of them runs yet.
func (h *house) furnish(ctx context.Context, pki *apiserver.PKI, c *claims) error {
	var err error
	api := apiserver.Config{
		PKI: pki, Store: h.store.Store, Listener: descriptors.Bound(c.api, h.shares.API, h.shares.API/8), Kubeconfig: apiserver.KubeconfigPath(h.cfg.DataDir),
		NodeIP: h.cfg.NodeIP(), ServiceCIDRs: h.cfg.ServiceCIDRs, NodePorts: h.cfg.NodePorts,
		Domain: h.cfg.Domain, KubeletPort: kubeletPort, Full: h.disk.Refusal, Down: h.store.Down,
		HostImages: h.cfg.hostImages(),
	}
	if h.cfg.Enabled(partNode) {
		api.KubeletDial = func(ctx context.Context) (net.Conn, error) { return h.node.Dial(ctx) }
	}
	if h.api, err = apiserver.New(ctx, api); err != nil {
		return err
	}
	if h.client, err = kubernetes.NewForConfig(h.api.Loopback()); err != nil {
		return fmt.Errorf("making a client for the api: %w", err)
	}
	if h.admin, err = newAdmin(h.cfg.DataDir); err != nil {
		return err
	}
	h.admin.handle("GET /status", func(*http.Request) (any, error) { return h.parts.status(), nil })
	h.adminNames()
	h.events = record.NewBroadcaster()

	h.add("address", h.addresses)
	h.addresses.Follow("certificates, the API and the node", h.moveNode)
	h.add("store", h.store)
	h.add("disk", h.disk)
	h.add("api", h.api)
	services, err := catalog.New(h.api.Informers())
	if err != nil {
		return err
	}
	h.add("catalog", services)
	return h.addRooms(ctx, pki, services, c)
}

func (h *house) add(name string, p part) {
	h.order = append(h.order, room{name, p})
	h.parts.expect(name)
}

func (h *house) recorder(component string) record.EventRecorder {
	return h.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: h.cfg.NodeName})
}

// start brings the rooms up one after the other.
func (h *house) start(ctx context.Context) error {
	adminCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.closing = cancel
	go h.admin.serve(adminCtx)
	h.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: h.client.CoreV1().Events("")})
	for _, r := range h.order {
		if err := h.parts.start(ctx, r.name, r.part); err != nil {
			return err
		}
	}
	select {
	case <-h.api.Bootstrapped():
		return nil
	case err := <-h.parts.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends everything in the reverse order; the kernel keeps what it was told. It returns false if some of it still runs.
func (h *house) stop() bool {
	if h.events != nil {
		h.events.Shutdown()
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		h.parts.stop()
		h.closing()
		h.store.Close()
	}()
	var late <-chan time.Time
	if h.store.Down() != nil { // what waits for an answer of it waits for ever
		late = time.After(stopWithoutStore)
	}
	select {
	case <-stopped:
		return true
	case <-late:
		return false
	}
}

// stopWithoutStore is how long the rooms may take to end when the store has ended before them.
const stopWithoutStore = 8 * time.Second

func (h *house) summary() string {
	var ingress string
	if h.cfg.Enabled(partIngress) {
		ingress = fmt.Sprintf("ingress :%d :%d", h.cfg.HTTP.Port(), h.cfg.HTTPS.Port())
	}
	words := []string{fmt.Sprintf("api https://%s", netip.AddrPortFrom(h.addresses.State().Node[0], h.cfg.API.Port()))}
	for _, w := range []struct{ part, text string }{
		{partProxy, "proxy " + h.mode},
		{partDNS, "dns " + h.cfg.DNSIPs[0].String()},
		{partIngress, ingress},
	} {
		if h.cfg.Enabled(w.part) {
			words = append(words, w.text)
		}
	}
	return strings.Join(words, ", ")
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
