package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// The commands talk to a running server over a unix socket in the data directory: who may open that
// directory (0700) may ask.

func socketPath(dataDir string) string { return filepath.Join(dataDir, "svcplane.sock") }

// admin serves the socket; handlers are added by the wiring as rooms come up.
type admin struct {
	listener net.Listener
	mux      *http.ServeMux
}

func newAdmin(dataDir string) (*admin, error) {
	path := socketPath(dataDir)
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
	a := &admin{listener: l, mux: http.NewServeMux()}
	a.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	a.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	a.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(legacyregistry.DefaultGatherer, promhttp.HandlerOpts{}))
	return a, nil
}

func (a *admin) serve(ctx context.Context) {
	srv := &http.Server{Handler: a.mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.Serve(a.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		klog.ErrorS(err, "Serving the admin socket")
	}
}

// handle adds a handler whose value goes out as JSON, and whose error as a line of text; with 400 if it is of who asks.
func (a *admin) handle(pattern string, h func(*http.Request) (any, error)) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		value, err := h(r)
		if err != nil {
			code := http.StatusInternalServerError
			if errors.As(err, new(wrongCall)) {
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

// ask sends one request to the server of a data directory and decodes its JSON answer into to.
func ask(ctx context.Context, dataDir, method, path string, query url.Values, body io.Reader, to any) error {
	socket := socketPath(dataDir)
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://svcplane"+path+"?"+query.Encode(), body)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return notRunning(dataDir, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if resp.StatusCode == http.StatusNotFound {
			return fmt.Errorf("the running server does not have that part: it was started with --disable")
		}
		said := errors.New(strings.TrimSpace(string(text)))
		if resp.StatusCode == http.StatusBadRequest {
			return calledWrongly(said)
		}
		return said
	}
	return json.NewDecoder(resp.Body).Decode(to)
}

func notRunning(dataDir string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("no permission to open %s: run this as root", socketPath(dataDir))
	}
	var dial *net.OpError
	if errors.As(err, &dial) {
		return fmt.Errorf("no server runs on data directory %s: start it with `svcplane server`, or say --data-dir", dataDir)
	}
	return err
}
