package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	parallel     = 4 // scrapes at once on all ports together: each renders everything
	readTimeout  = 10 * time.Second
	writeTimeout = time.Minute
	idleTimeout  = 5 * time.Minute // longer than any usual interval of scraping
)

// Config is what a Server needs.
type Config struct {
	Addresses []netip.AddrPort // at least one
	Gatherer  prometheus.Gatherer
	Mode      func() string // of the service proxy; nil: there is none
	// Listen opens an address; its error says how to mend.
	Listen func(netip.AddrPort) (net.Listener, error)
}

// Server is the ports.
type Server struct {
	cfg   Config
	ready chan struct{}
}

// New makes a Server; it opens nothing.
func New(cfg Config) *Server { return &Server{cfg: cfg, ready: make(chan struct{})} }

// Ready is closed once every port is open.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Figure names the ports for people: "0.0.0.0:10249, 127.0.0.1:9100".
func (s *Server) Figure() string {
	text := ""
	for _, at := range s.cfg.Addresses {
		if text != "" {
			text += ", "
		}
		text += at.String()
	}
	return text
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var all []net.Listener
	for _, at := range s.cfg.Addresses {
		l, err := s.cfg.Listen(at)
		if err != nil {
			for _, open := range all {
				_ = open.Close() // nothing was served
			}
			return err
		}
		all = append(all, l)
	}
	server := &http.Server{Handler: s.Handler(), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wg sync.WaitGroup
	for _, l := range all {
		wg.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				fail(fmt.Errorf("serving metrics at %s: %w", l.Addr(), err))
			}
		})
	}
	close(s.ready)
	<-ctx.Done()
	_ = server.Close() // a scrape that is cut off is made again
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Handler answers on the ports.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{
		// one collector that fails must not hide the others
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: parallel,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, "ok") })
	if s.cfg.Mode != nil {
		mux.HandleFunc("GET /proxyMode", func(w http.ResponseWriter, _ *http.Request) { text(w, s.cfg.Mode()) })
	}
	return mux
}

func text(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, body) // the client may be gone
}
