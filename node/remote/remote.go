package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	criclient "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"

	"svcplane/node/cni"
	"svcplane/node/runtime/podnet"
)

// Config is what a Runtime needs to know.
type Config struct {
	Endpoint   string // unix:///run/containerd/containerd.sock
	Dir        string // <data-dir>/cni: made if missing
	Network    podnet.Config
	Executable string // this binary
}

// Runtime implements CRI by another process. Its methods work from Ready on.
type Runtime struct {
	internalapi.RuntimeService
	images

	cfg     Config
	network *podnet.Network
	cni     *cni.Server
	name    string // and version, from Ready on
	ready   chan struct{}
	stats   stats
}

const (
	startPatience = 30 * time.Second // for a runtime that is being started beside us
	callTimeout   = 2 * time.Minute  // of CRI's calls: the kubelet's --runtime-request-timeout
)

// CheckEndpoint says what is wrong with an endpoint.
func CheckEndpoint(endpoint string) error {
	path, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return errors.New("must be like unix:///run/containerd/containerd.sock")
	}
	return nil
}

// New makes a Runtime; Run starts it.
func New(cfg Config) (*Runtime, error) {
	if err := CheckEndpoint(cfg.Endpoint); err != nil {
		return nil, fmt.Errorf("container runtime %s: %w", cfg.Endpoint, err)
	}
	network, err := podnet.New(cfg.Network)
	if err != nil {
		return nil, fmt.Errorf("container runtime %s: %w", cfg.Endpoint, err)
	}
	if cfg.Executable == "" {
		if cfg.Executable, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("container runtime %s: find this program's file: %w", cfg.Endpoint, err)
		}
	}
	return &Runtime{
		cfg: cfg, network: network, ready: make(chan struct{}),
		cni: cni.New(cni.Config{Dir: cfg.Dir, Executable: cfg.Executable, Network: network}),
	}, nil
}

// Run serves the network, connects with the runtime, and holds both until ctx ends. Pods run on.
func (r *Runtime) Run(ctx context.Context) error {
	for _, dir := range []string{r.cfg.Dir, r.cfg.Network.Dir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the directory of the pods' network: %w", err)
		}
	}
	if err := os.WriteFile(endpointPath(r.cfg.Dir), []byte(r.cfg.Endpoint+"\n"), 0o600); err != nil {
		return fmt.Errorf("record the container runtime's endpoint: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	parts.Go(func() {
		if err := r.cni.Run(ctx); err != nil {
			cancel(err)
		}
	})
	select {
	case <-r.cni.Ready():
	case <-ctx.Done():
		return failure(ctx)
	}
	var err error
	if r.RuntimeService, r.ImageManagerService, err = connect(ctx, r.cfg.Endpoint, startPatience); err != nil {
		if ctx.Err() != nil {
			return failure(ctx)
		}
		return fmt.Errorf("container runtime %s does not answer: %w: start it, or leave --container-runtime-endpoint out", r.cfg.Endpoint, err)
	}
	defer r.close()
	v, err := r.Version(ctx, "v1")
	if err != nil {
		return fmt.Errorf("ask the container runtime %s for its version: %w", r.cfg.Endpoint, err)
	}
	r.name = v.RuntimeName + " " + v.RuntimeVersion
	close(r.ready)
	<-ctx.Done()
	return failure(ctx)
}

// failure is nil when ctx ended from outside.
func failure(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// connect tries for as long as a runtime may take to start.
func connect(ctx context.Context, endpoint string, patience time.Duration) (internalapi.RuntimeService, internalapi.ImageManagerService, error) {
	for began := time.Now(); ; {
		runtime, images, err := connectOnce(ctx, endpoint)
		if err == nil || time.Since(began) > patience {
			return runtime, images, err
		}
		klog.V(2).InfoS("The container runtime does not answer yet", "endpoint", endpoint, "err", err)
		select {
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func connectOnce(ctx context.Context, endpoint string) (internalapi.RuntimeService, internalapi.ImageManagerService, error) {
	runtime, err := criclient.NewRemoteRuntimeService(ctx, endpoint, callTimeout, nil, false)
	if err != nil {
		return nil, nil, err
	}
	images, err := criclient.NewRemoteImageService(ctx, endpoint, callTimeout, nil, false)
	if err != nil {
		return nil, nil, errors.Join(err, runtime.Close(ctx))
	}
	return runtime, images, nil
}

func (r *Runtime) close() {
	ctx := context.Background()
	if err := errors.Join(r.RuntimeService.Close(ctx), r.ImageManagerService.Close(ctx)); err != nil {
		klog.V(2).InfoS("Closing the connection with the container runtime", "err", err)
	}
}

// Ready is closed when the methods work.
func (r *Runtime) Ready() <-chan struct{} { return r.ready }

// Figure is one short figure for people.
func (r *Runtime) Figure() string {
	select {
	case <-r.ready:
		return fmt.Sprintf("%s at %s, %d pods in the network", r.name, r.cfg.Endpoint, r.cni.Pods())
	default:
		return "waiting for " + r.cfg.Endpoint
	}
}

// SetNodeIPs follows the node's addresses. To be called when Ready is closed.
func (r *Runtime) SetNodeIPs(addrs []netip.Addr) error { return r.network.SetNodeIPs(addrs) }

// Close has nothing to do: Run closes the connections.
func (r *Runtime) Close(context.Context) error { return nil }

func endpointPath(dir string) string { return filepath.Join(dir, "endpoint") }

// Endpoint is where the pods of a data directory run, whose part for CNI dir is; empty: in no other runtime than the embedded one.
func Endpoint(dir string) (string, error) {
	raw, err := os.ReadFile(endpointPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read where pods run: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}
