package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/keymutex"

	"svcplane/node/runtime/podnet"
)

// Config is what a Server needs to know.
type Config struct {
	Dir        string // <data-dir>/cni: made if missing
	Executable string // this binary, which the plugin's file is a link to
	Network    *podnet.Network
}

// Server answers the plugins.
type Server struct {
	cfg   Config
	ready chan struct{}
	busy  keymutex.KeyMutex // by container

	mu   sync.Mutex
	pods map[string]*attachment // by container
}

// sweepEvery is how often links are looked at.
const sweepEvery = time.Minute

// New makes a Server; Run starts it.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, ready: make(chan struct{}), busy: keymutex.NewHashed(0), pods: map[string]*attachment{}}
}

// Ready is closed when plugins are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Pods is how many pods have a link.
func (s *Server) Pods() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pods)
}

// Run adopts the pods of an earlier run, and answers until ctx ends; pods keep their network.
func (s *Server) Run(ctx context.Context) error {
	listener, err := s.begin()
	if err != nil {
		return fmt.Errorf("serve the network of pods to the container runtime: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	defer listener.Close()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	parts.Go(func() { s.keepSweeping(ctx) })
	close(s.ready)
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept the container runtime's requests for the network of pods: %w", err)
		}
		parts.Go(func() { s.serve(conn) })
	}
}

func (s *Server) begin() (*net.UnixListener, error) {
	if err := os.MkdirAll(podsDir(s.cfg.Dir), 0o700); err != nil {
		return nil, fmt.Errorf("make its directory: %w", err)
	}
	if err := s.cfg.Network.Begin(); err != nil {
		return nil, err
	}
	if err := s.adopt(); err != nil {
		return nil, err
	}
	if err := s.cfg.Network.Settle(); err != nil {
		return nil, err
	}
	for _, a := range s.pods {
		if err := s.cfg.Network.Reroute(a.key()); err != nil {
			klog.ErrorS(err, "A pod's routes are not as they should be; they are made again when the node's address changes", "pod", a.Name)
		}
	}
	if err := writeFiles(s.cfg); err != nil {
		return nil, err
	}
	return listen(s.cfg.Dir)
}

func listen(dir string) (*net.UnixListener, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove an old socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socketPath(folder)})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, socketName), err)
	}
	listener.SetUnlinkOnClose(false) // by a path that has gone then
	return listener, nil
}

func (s *Server) serve(conn *net.UnixConn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	q, ns, err := hear(conn)
	if err != nil {
		klog.V(2).InfoS("A CNI plugin asked for nothing", "err", err)
		return
	}
	if ns != nil {
		defer ns.Close()
	}
	var a answer
	if a.Result, err = s.handle(q, ns); err != nil {
		klog.ErrorS(err, "The network of a pod", "command", q.Command, "container", q.ContainerID)
		a.Error = cniError(err)
	}
	if err := json.NewEncoder(conn).Encode(a); err != nil {
		klog.V(2).InfoS("A CNI plugin left without its answer", "err", err)
	}
}

// cniError gives an error a code of CNI.
func cniError(err error) *types.Error {
	var e *types.Error
	if errors.As(err, &e) {
		return e
	}
	var port *podnet.PortError
	if errors.As(err, &port) {
		return types.NewError(errPort, err.Error(), "")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}

func (s *Server) keepSweeping(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.sweep()
		}
	}
}

// sweep forgets pods whose links have gone with their namespaces.
func (s *Server) sweep() {
	for _, id := range s.ids() {
		s.busy.LockKey(id)
		if a := s.attached(id); a != nil && !a.hasLink() {
			klog.InfoS("The network namespace of a pod has gone; its address is free", "pod", a.Name, "addresses", a.addrs())
			if err := s.remove(a); err != nil {
				klog.ErrorS(err, "Freeing the address of a pod whose network namespace has gone", "pod", a.Name)
			}
		}
		if err := s.busy.UnlockKey(id); err != nil {
			klog.ErrorS(err, "Sweeping the network of pods")
		}
	}
}

func (s *Server) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for id := range s.pods {
		all = append(all, id)
	}
	return all
}

func (s *Server) attached(id string) *attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[id]
}
