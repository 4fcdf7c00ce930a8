package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/listeners"
	"svcplane/measure"
	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/image"
	"svcplane/node/runtime/podnet"
	"svcplane/node/runtime/preload"
	"svcplane/node/runtime/process"
	"svcplane/node/runtime/shim"
)

// Config is what a Runtime needs to know.
type Config struct {
	DataDir       string         // made if missing; everything of the runtime is in it
	NodeName      string         // what svcplane/echo says of itself
	NodeIPs       []netip.Addr   // source addresses towards pods, one of a family; without one the kernel chooses
	PodCIDR       netip.Prefix   // IPv4; pods get their addresses from it
	PodCIDR6      netip.Prefix   // IPv6, at least as large; pods get a second address from it unless it is zero
	NoMasquerade  []netip.Prefix // destinations besides those two that see pods' own addresses: the Service CIDRs
	Own           listeners.Set  // svcplane's on the node, whose ports lead to no pod
	MTU           int            // of pods' links; 0 takes that of the default route
	Executable    string         // this binary, executed again as the shim; os.Executable if empty
	StreamingAddr string         // where exec streams are served, "127.0.0.1:0" if empty
	// HostAccess says why pods of a namespace may not have the host's root, or nil: svcplane/host then does not run, and
	// an exec into svcplane/echo gets a view of the host's programs. It is asked each time. Nil: all may.
	HostAccess func(namespace string) error
	Hide       []string // directories that such a view never shows, besides DataDir
	// Registries is the path of registries.yaml, which need not exist: images come from registries. Empty: they are imported.
	Registries string
	// Archives is a directory; archives of images that are there, or appear there, are imported. Empty: there is none.
	Archives string
	// Cgroups, which Run opens, are where containers' are, if their pods name one there. Nil: nothing is limited.
	Cgroups *cgroup.Tree
}

// Runtime implements CRI. Its methods work from Ready on.
type Runtime struct {
	cfg     Config
	store   store
	images  *image.Store
	puller  *puller // nil: there are no registries
	preload *preload.Importer
	// noOverlay says why there is no overlayfs: each container gets a copy of its image. Set at the start.
	noOverlay error
	network   *podnet.Network
	shim      *shim.Client
	streams   *streams
	events    broadcaster
	ready     chan struct{}
	holding   chan struct{} // closed when there is a shim to follow
	mountNS   string        // this process's, from which containers' are made

	mu         sync.Mutex
	sandboxes  map[string]*sandboxEntry
	containers map[string]*containerEntry
	seq        uint64     // of the shim's state that was merged last
	shimID     process.ID // zero while there is none

	usage   usage
	layers  *measure.Trees // what containers have written
	filters filters
	revive  sync.Mutex // held while a shim is started
}

var (
	_ internalapi.RuntimeService      = (*Runtime)(nil)
	_ internalapi.ImageManagerService = (*Runtime)(nil)
)

// New checks cfg; Run starts the runtime.
func New(cfg Config) (*Runtime, error) {
	if cfg.DataDir == "" || !filepath.IsAbs(cfg.DataDir) {
		return nil, fmt.Errorf("container runtime: data directory %q must be an absolute path", cfg.DataDir)
	}
	if cfg.StreamingAddr == "" {
		cfg.StreamingAddr = "127.0.0.1:0"
	}
	if cfg.Executable == "" {
		path, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("container runtime: find this program's file: %w", err)
		}
		cfg.Executable = path
	}
	network, err := podnet.New(podnet.Config{
		Dir: cfg.DataDir, NodeIPs: cfg.NodeIPs, PodCIDR: cfg.PodCIDR, PodCIDR6: cfg.PodCIDR6, NoMasquerade: cfg.NoMasquerade, Own: cfg.Own, MTU: cfg.MTU,
	})
	if err != nil {
		return nil, fmt.Errorf("container runtime: %w", err)
	}
	r := &Runtime{
		cfg:        cfg,
		store:      store{dir: cfg.DataDir},
		images:     image.NewStore(filepath.Join(cfg.DataDir, "images")),
		network:    network,
		shim:       shim.NewClient(cfg.DataDir),
		ready:      make(chan struct{}),
		holding:    make(chan struct{}),
		mountNS:    fmt.Sprintf("/proc/%d/ns/mnt", os.Getpid()),
		sandboxes:  map[string]*sandboxEntry{},
		containers: map[string]*containerEntry{},
		layers:     measure.NewTrees(layerAge),
	}
	if cfg.Registries != "" {
		r.puller = newPuller(r.images, BlobDir(cfg.DataDir), cfg.Registries)
	}
	if cfg.Archives != "" {
		r.preload = newPreload(r.images, cfg)
	}
	r.streams = newStreams(r)
	return r, nil
}

// Run adopts what an earlier run left, serves until ctx ends and leaves all pods running.
func (r *Runtime) Run(ctx context.Context) error {
	if err := r.setup(ctx); err != nil {
		return fmt.Errorf("start the container runtime: %w", err)
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := r.streams.listen(ctx, r.cfg.StreamingAddr)
	if err != nil {
		return fmt.Errorf("start the container runtime: %w", err)
	}
	failed := make(chan error, 1)
	parts.Go(func() { failed <- r.streams.serve(ctx, listener) })
	parts.Go(func() { r.follow(ctx) })
	parts.Go(func() { r.tidyImages(ctx) })
	if r.preload != nil {
		parts.Go(func() { r.preload.Run(ctx) })
	}
	parts.Go(func() { r.layers.Run(ctx) })
	parts.Go(func() { r.sweepGroups(ctx) })
	close(r.ready)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("serve exec streams: %w", err)
	}
}

// Ready is closed when the methods work.
func (r *Runtime) Ready() <-chan struct{} { return r.ready }

// Figure is one short figure for people.
func (r *Runtime) Figure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	pods, running := 0, 0
	for _, s := range r.sandboxes {
		if s.State == sandboxReady {
			pods++
		}
	}
	for _, c := range r.containers {
		if c.State == containerRunning {
			running++
		}
	}
	figure := fmt.Sprintf("%d pods, %d containers", pods, running)
	if r.noOverlay != nil {
		figure += fmt.Sprintf("; each container has a copy of its image, since %s has no overlayfs (%v)", r.cfg.DataDir, r.noOverlay)
	}
	return figure
}

// Trouble says what of the store of images is not as somebody wants it, and what of the pods' limits is not in force.
func (r *Runtime) Trouble() string {
	var parts []string
	if r.preload != nil && r.preload.Trouble() != "" {
		parts = append(parts, r.preload.Trouble())
	}
	return strings.Join(append(parts, r.gaps()...), "; ")
}

// setup makes the directories and the host's part of the network, and adopts.
func (r *Runtime) setup(ctx context.Context) error {
	for _, dir := range []string{"", "sandboxes", "containers", "images"} {
		if err := os.MkdirAll(filepath.Join(r.cfg.DataDir, dir), 0o700); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
	}
	if err := r.openGroups(); err != nil {
		return err
	}
	if err := r.network.Begin(); err != nil {
		return err
	}
	if err := r.images.Load(); err != nil {
		return err
	}
	if r.noOverlay = probeOverlay(r.cfg.DataDir); r.noOverlay != nil {
		klog.InfoS("There is no overlayfs for containers: each gets a copy of its image", "directory", r.cfg.DataDir, "reason", r.noOverlay)
	}
	if err := r.adopt(ctx); err != nil {
		return err
	}
	return r.network.Settle()
}

// Version says who answers.
func (r *Runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "svcplane", RuntimeVersion: "0.1.0", RuntimeApiVersion: "v1"}, nil
}

// Status reports both conditions of CRI.
func (r *Runtime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	up := false
	select {
	case <-r.ready:
		up = true
	default:
	}
	condition := func(kind string) *runtimeapi.RuntimeCondition {
		c := &runtimeapi.RuntimeCondition{Type: kind, Status: up}
		if !up {
			c.Reason, c.Message = "Starting", "the container runtime is starting"
		}
		return c
	}
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{
		Conditions: []*runtimeapi.RuntimeCondition{condition(runtimeapi.RuntimeReady), condition(runtimeapi.NetworkReady)},
	}, RuntimeHandlers: []*runtimeapi.RuntimeHandler{{Features: &runtimeapi.RuntimeHandlerFeatures{UserNamespaces: usersSupported() == nil}}},
		Features: &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true}}, nil
}

// Close has nothing to do: there is no connection, and Run stops with its context.
func (r *Runtime) Close(context.Context) error { return nil }

// waitReady fails calls that come too early or too late.
func (r *Runtime) waitReady(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the container runtime is not ready: %w", ctx.Err())
	case <-time.After(30 * time.Second):
		return errors.New("the container runtime is not ready after 30s")
	}
}
