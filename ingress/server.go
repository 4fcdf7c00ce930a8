package ingress

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"svcplane/ingress/pace"
)

const (
	headerTimeout     = 10 * time.Second // for the whole head of a request
	clientIdleTimeout = 75 * time.Second
	maxHeaderBytes    = 32 << 10
	maxStreams        = 250 // per HTTP/2 connection
)

// server owns the sockets towards clients. Its tables are replaced while it serves.
type server struct {
	httpAddr, httpsAddr netip.AddrPort // a zero one is not served
	drainTimeout        time.Duration
	table               atomic.Pointer[Table]
	certs               atomic.Pointer[certTable]

	plain, secure net.Listener // nil: not served
	conns         *connSet
	fasts         *fastSet     // connections that we serve ourselves
	toHTTP        *handoff     // those that net/http serves
	hs            *http.Server // as of run

	inherited []net.Listener         // of an earlier run, until listen
	keep      func([]*os.File) error // nil: sockets are closed at the end

	trusted     []netip.Prefix // peers that may say who asked
	publicHTTPS uint16         // port for redirects; 0: that of httpsAddr
	bodies      pace.Limit     // how slow a request's body may come
	answers     pace.Limit     // how slow an answer may be taken
	log         *accessLog     // nil: none
	unrouted    routeStats     // requests that no route took
	published   atomic.Pointer[publication]
	slow        struct{ bodies, readers atomic.Uint64 }
}

func newServer(cfg Config) (*server, error) {
	fallback, err := selfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	s := &server{httpAddr: cfg.HTTP, httpsAddr: cfg.HTTPS, drainTimeout: cmp.Or(cfg.DrainTimeout, 10*time.Second),
		trusted: cfg.TrustedProxies, publicHTTPS: cfg.PublicHTTPS, inherited: slices.Clone(cfg.Inherited), keep: cfg.Keep}
	grace := cmp.Or(cfg.slowGrace, slowGrace)
	s.bodies = pace.Limit{Rate: cfg.MinRate, Grace: grace, Most: cmp.Or(cfg.bodyTimeout, bodyReadTimeout)}
	s.answers = pace.Limit{Rate: cfg.MinRate, Grace: grace, Most: cmp.Or(cfg.writeTimeout, writeTimeout)}
	s.conns = newConnSet(cmp.Or(cfg.MaxConnections, maxConnections), cfg.MaxPerClient, &s.answers)
	if cfg.AccessLog != nil {
		if s.log, err = newAccessLog(cfg.AccessLog, cmp.Or(cfg.AccessLogFormat, LogJSON), cmp.Or(cfg.AccessLogSample, 1)); err != nil {
			return nil, err
		}
	}
	s.fasts = newFastSet()
	s.hs = s.httpServer()
	s.toHTTP = newHandoff(net.TCPAddrFromAddrPort(cfg.HTTP))
	s.publish(&Table{})
	s.certs.Store(newCertTable(fallback))
	return s, nil
}

// listen takes the ports. Clients wait in the backlog until run.
func (s *server) listen() error {
	defer s.disinherit()
	for _, door := range []struct {
		at         *net.Listener
		what, flag string
		addr       netip.AddrPort
	}{{&s.plain, "HTTP", "--ingress-http", s.httpAddr}, {&s.secure, "HTTPS", "--ingress-https", s.httpsAddr}} {
		if *door.at != nil || !door.addr.IsValid() {
			continue
		}
		l := s.inherit(door.addr)
		if l == nil {
			var err error
			if l, err = listen(door.what, door.flag, door.addr); err != nil {
				return errors.Join(err, s.unlisten())
			}
		}
		*door.at = l
	}
	return nil
}

// addrs are where it listens; zero for what is not served.
func (s *server) addrs() (plain, secure netip.AddrPort) {
	if s.plain != nil {
		plain = s.plain.Addr().(*net.TCPAddr).AddrPort()
	}
	if s.secure != nil {
		secure = s.secure.Addr().(*net.TCPAddr).AddrPort()
	}
	return plain, secure
}

// unlisten gives the ports back.
func (s *server) unlisten() error {
	var errs []error
	for _, l := range []*net.Listener{&s.plain, &s.secure} {
		if *l != nil {
			errs = append(errs, (*l).Close())
			*l = nil
		}
	}
	return errors.Join(errs...)
}

// run serves until ctx ends, then lets the requests under way finish, within the drain timeout.
func (s *server) run(ctx context.Context) error {
	hs := s.hs
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := hs.Serve(s.toHTTP); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			failed <- fmt.Errorf("serving HTTP: %w", err)
		}
	})
	var fronts []*front
	for _, door := range []struct {
		net.Listener
		config *tls.Config
	}{{s.plain, nil}, {s.secure, s.tlsConfig()}} {
		if door.Listener != nil {
			f := newFront(door.Listener, s, door.config)
			fronts = append(fronts, f)
			wg.Go(f.run)
		}
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	if s.keep != nil && err == nil {
		if err := s.handOn(); err != nil {
			klog.ErrorS(err, "Connections are refused until the next start: the sockets could not be kept")
		}
	}
	s.drain(hs, fronts)
	wg.Wait()
	return err
}

// drain stops accepting, tells clients to go (Connection: close, GOAWAY), waits for what is under way and closes
// what is left: requests that last too long, and WebSockets, which never end by themselves.
func (s *server) drain(hs *http.Server, fronts []*front) {
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout)
	defer cancel()
	for _, f := range fronts {
		f.stop()
	}
	s.fasts.finish()
	grace, end := context.WithTimeout(ctx, drainGrace)
	defer end()
	for _, f := range fronts {
		f.settle(grace)
	}
	s.fasts.wait(grace)
	// Its only error is that time ran out; the rest is closed either way.
	_ = hs.Shutdown(ctx)
	s.fasts.wait(ctx)
	s.conns.closeAll()
	select {
	case <-s.conns.empty:
	case <-time.After(s.drainTimeout):
	}
}

func (s *server) httpServer() *http.Server {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       clientIdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         new(http.Protocols),
		ErrorLog:          quietLog,
		// "OPTIONS *" is answered by nobody here: it names no path that could be routed
		DisableGeneralOptionsHandler: true,
	}
	hs.Protocols.SetHTTP1(true)
	return hs
}

func (s *server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// small records at first would make two writes of most answers
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.certs.Load().choose(hello)
		},
	}
}
