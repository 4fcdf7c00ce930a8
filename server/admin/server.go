package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// SocketPath is the socket of the server of a data directory.
func SocketPath(dataDir string) string { return filepath.Join(dataDir, "svcplane.sock") }

// Server serves the socket. Handlers are added before Run.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
}

// Listen opens the socket in a data directory, in the place of one that an earlier server left there.
func Listen(dataDir string) (*Server, error) {
	path := SocketPath(dataDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the old admin socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("closing the admin socket to others: %w", err)
	}
	s := &Server{listener: l, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(legacyregistry.DefaultGatherer, promhttp.HandlerOpts{}))
	return s, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) {
	srv := &http.Server{Handler: s.mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(s.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		klog.ErrorS(err, "Serving the admin socket")
	}
}

// Mount adds a handler for all paths below prefix, which begins and ends with a slash and is taken off.
func (s *Server) Mount(prefix string, h http.Handler) {
	s.mux.Handle(prefix, http.StripPrefix(prefix[:len(prefix)-1], h))
}

// BadRequest is an error of who asked, not of the world.
type BadRequest struct{ error }

func (b BadRequest) Unwrap() error { return b.error }

// Blame marks an error as the asker's; nil stays nil.
func Blame(err error) error {
	if err == nil {
		return nil
	}
	return BadRequest{err}
}

// handle adds a handler whose value goes out as JSON, and whose error as a line of text; with 400 if it is a BadRequest.
func (s *Server) handle(pattern string, h func(*http.Request) (any, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		value, err := h(r)
		if err != nil {
			code := http.StatusInternalServerError
			if errors.As(err, new(BadRequest)) {
				code = http.StatusBadRequest
			}
			http.Error(w, err.Error(), code)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(value); err != nil {
			klog.V(2).InfoS("Answering on the admin socket", "err", err)
		}
	})
}
