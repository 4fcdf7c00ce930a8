package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/metrics/pkg/apis/metrics"

	"svcplane/address"
	"svcplane/descriptors"
	"svcplane/server/admin"
)

// Server is everything of one process, built and not yet running.
type Server struct {
	cfg       *Config
	addresses *address.Source
	shares    descriptors.Shares
	control   *ControlPlane
	node      *Node
	client    kubernetes.Interface
	parts     *parts
	order     []namedPart // in the order of their start
	admin     *admin.Server
	closing   context.CancelFunc // ends the admin socket
}

type namedPart struct {
	name string
	part part
}

// The parts that are always there.
const (
	partAddress     = "address"
	partStore       = "store"
	partDisk        = "disk"
	partAPI         = "api"
	partCatalog     = "catalog"
	partControllers = "controllers"
	partRuntime     = "runtime"
	partMetrics     = "metrics"
)

// startOrder is the order of the start: each part leans on those before it.
var startOrder = []string{
	partAddress, partStore, partDisk, partAPI, partCatalog, partControllers, partRuntime, PartNode, PartProxy, PartDNS, PartIngress, partMetrics,
}

func newServer(ctx context.Context, cfg *Config, r *reservation) (*Server, error) {
	s := &Server{cfg: cfg, addresses: r.addresses, parts: newParts(), closing: func() {}}
	var err error
	if s.shares, err = shareOut(); err != nil {
		return nil, err
	}
	control := ControlPlaneConfig{Config: cfg, Addresses: r.addresses, Listener: descriptors.Bound(r.api, s.shares.API, s.shares.API/8)}
	if cfg.Enabled(PartNode) {
		control.NodeDial = func(ctx context.Context) (net.Conn, error) { return s.node.Dial(ctx) }
		control.Measure = func(ctx context.Context) ([]metrics.NodeMetrics, []metrics.PodMetrics, error) {
			return s.node.Measure(ctx)
		}
	}
	if s.control, err = NewControlPlane(ctx, control); err != nil {
		return nil, err
	}
	if err := s.build(r); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// build joins the node to the control plane.
func (s *Server) build(r *reservation) error {
	access := s.control.Access()
	s.client = access.Client
	var err error
	if s.admin, err = admin.Listen(s.cfg.DataDir); err != nil {
		return err
	}
	s.node, err = NewNode(NodeConfig{
		Config: s.cfg, Access: access, Addresses: s.addresses, Shares: s.shares, Planes: r.planes, Inherited: r.inherited,
	})
	if err != nil {
		return err
	}
	s.order = slices.Concat([]namedPart{{partAddress, s.addresses}}, s.control.parts, s.node.parts)
	slices.SortStableFunc(s.order, func(a, b namedPart) int {
		return slices.Index(startOrder, a.name) - slices.Index(startOrder, b.name)
	})
	for _, p := range s.order {
		s.parts.expect(p.name)
	}
	s.handle()
	return nil
}

// handle answers what commands ask.
func (s *Server) handle() {
	admin.GetStatus.Handle(s.admin, func(context.Context, admin.None) ([]admin.Status, error) { return s.parts.status(), nil })
	known := hints{client: s.client, domain: s.cfg.Domain}
	admin.GetNames.Handle(s.admin, func(ctx context.Context, r admin.NamesRequest) ([]string, error) {
		return known.names(ctx, r.Kind, r.Namespace)
	})
	s.node.handle(s.admin)
}

// start brings the parts up one after the other.
func (s *Server) start(ctx context.Context) error {
	adminCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.closing = cancel
	go s.admin.Run(adminCtx)
	s.control.recordEvents()
	for _, p := range s.order {
		if err := s.parts.start(ctx, p.name, p.part); err != nil {
			return err
		}
	}
	select {
	case <-s.control.Bootstrapped():
		return nil
	case err := <-s.parts.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends everything in the reverse order; the kernel keeps what it has. It returns false if some of it still runs.
func (s *Server) stop() bool {
	s.control.access.Events.Shutdown()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.parts.stop()
		s.closing()
		s.control.Close()
	}()
	var late <-chan time.Time
	if s.control.store.Down() != nil { // what waits for an answer of it waits for ever
		late = time.After(stopWithoutStore)
	}
	select {
	case <-stopped:
		return true
	case <-late:
		return false
	}
}

// stopWithoutStore is how long the parts may take to end when the store has ended before them.
const stopWithoutStore = 8 * time.Second

// summary is the ready line's, in parentheses.
func (s *Server) summary() string {
	var ingress string
	if s.cfg.Enabled(PartIngress) {
		ingress = fmt.Sprintf("ingress :%d :%d", s.cfg.HTTP.Port(), s.cfg.HTTPS.Port())
	}
	words := []string{fmt.Sprintf("api https://%s", netip.AddrPortFrom(s.addresses.State().Node[0], s.cfg.API.Port()))}
	for _, w := range []struct{ part, text string }{
		{PartProxy, "proxy " + s.node.mode()},
		{PartDNS, "dns " + s.cfg.DNSIPs[0].String()},
		{PartIngress, ingress},
	} {
		if s.cfg.Enabled(w.part) {
			words = append(words, w.text)
		}
	}
	return strings.Join(words, ", ")
}
