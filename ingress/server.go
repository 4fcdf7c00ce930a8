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
	drainTimeout  time.Duration
	certs         atomic.Pointer[certTable]
	plain, secure listener
	conns         *connSet
	fasts         *fastSet     // connections that we serve ourselves
	toHTTP        *handoff     // those that net/http serves
	hs            *http.Server // as of run
	fallback      http.Handler // sends what the other ways do not

	inherited []net.Listener         // of an earlier run, until listen
	keep      func([]*os.File) error // nil: sockets are closed at the end

	trusted     []netip.Prefix // peers that may say who asked
	publicHTTPS uint16         // port for redirects; 0: that of secure
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
	s := &server{drainTimeout: cmp.Or(cfg.DrainTimeout, 10*time.Second),
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
	s.hs, s.fallback = s.httpServer(), newFallback()
	s.toHTTP = newHandoff(net.TCPAddrFromAddrPort(cfg.HTTP))
	s.plain.what, s.plain.flag, s.plain.addr = "HTTP", "--ingress-http", cfg.HTTP
	s.secure.what, s.secure.flag, s.secure.addr, s.secure.tls = "HTTPS", "--ingress-https", cfg.HTTPS, s.tlsConfig()
	s.publish(&Table[Bound]{})
	s.certs.Store(newCertTable(fallback))
	return s, nil
}

// listen takes the ports. Clients wait in the backlog until run.
func (s *server) listen() error {
	defer s.disinherit()
	for _, l := range s.listeners() {
		if l.socket != nil || !l.addr.IsValid() {
			continue
		}
		if l.socket = s.inherit(l.addr); l.socket == nil {
			var err error
			if l.socket, err = listen(l.what, l.flag, l.addr); err != nil {
				return errors.Join(err, s.unlisten())
			}
		}
	}
	return nil
}

// addrs are where it listens; zero for what is not served.
func (s *server) addrs() (plain, secure netip.AddrPort) {
	return s.plain.at(), s.secure.at()
}

// unlisten gives the ports back.
func (s *server) unlisten() error {
	var errs []error
	for _, l := range s.listeners() {
		if l.socket != nil {
			errs = append(errs, l.socket.Close())
			l.socket = nil
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
	for _, l := range s.listeners() {
		if l.socket != nil {
			f := newFront(s.frontConfig(l), l.socket)
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
		f.await(grace)
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

// listener is an address that clients come to, with what is served there.
type listener struct {
	what, flag string         // "HTTP", "--ingress-http"
	addr       netip.AddrPort // zero: not served
	tls        *tls.Config    // nil: plain
	socket     net.Listener   // nil: not open
	table      atomic.Pointer[Table[Bound]]
}

// at is where it listens; zero if it does not.
func (l *listener) at() netip.AddrPort {
	if l.socket == nil {
		return netip.AddrPort{}
	}
	return l.socket.Addr().(*net.TCPAddr).AddrPort()
}

func (s *server) listeners() []*listener { return []*listener{&s.plain, &s.secure} }

// frontConfig is for the connections of a listener.
func (s *server) frontConfig(l *listener) frontConfig {
	return frontConfig{TLS: l.tls, Trusted: s.trusted, Conns: s.conns, HeaderTimeout: headerTimeout, Log: quietLog,
		Serve: func(c *conn, secure *tls.Conn) {
			if secure != nil && secure.ConnectionState().NegotiatedProtocol == "h2" {
				s.serveHTTP2(l, c, secure, nil)
			} else {
				s.serveConn(l, c, secure)
			}
		}}
}

type listenerKey struct{}

// listenerOf is where a request came in.
func listenerOf(ctx context.Context) *listener {
	l, _ := ctx.Value(listenerKey{}).(*listener)
	return l
}

func (s *server) httpServer() *http.Server {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       clientIdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         new(http.Protocols),
		ErrorLog:          quietLog,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, listenerKey{}, c.(interface{ cameBy() *listener }).cameBy())
		},
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
