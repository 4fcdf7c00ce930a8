package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"svcplane/ingress/listen"
	"svcplane/ingress/pace"
	"svcplane/ingress/route"
)

const (
	headerTimeout     = 10 * time.Second // for the whole head of a request
	clientIdleTimeout = 75 * time.Second
	maxHeaderBytes    = 32 << 10
	maxStreams        = 250 // per HTTP/2 connection
)

// Server owns the sockets towards clients. Its tables are replaced while it serves.
type Server struct {
	drainTimeout  time.Duration
	certs         atomic.Pointer[listen.CertTable]
	plain, secure listener
	conns         *listen.ConnSet
	own           *ownConns    // connections that we serve ourselves
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
	unrouted    RouteStats     // requests that no route took
	published   atomic.Pointer[publication]
	slow        struct{ bodies, readers atomic.Uint64 }
}

// Config is what a server needs. ingress.Config says more of each.
type Config struct {
	HTTP, HTTPS                  netip.AddrPort // a zero one is not served
	TrustedProxies               []netip.Prefix
	MaxConnections, MaxPerClient int
	PublicHTTPS                  uint16
	Inherited                    []net.Listener
	Keep                         func(sockets []*os.File) error
	AccessLog                    io.Writer // nil: none
	AccessLogFormat              LogFormat
	AccessLogSample              float64
	DrainTimeout                 time.Duration
	MinRate                      int
	// How long a client may do nothing within a body, or take nothing of an answer, and how long it may be slower than
	// MinRate at first; zero: the usual times.
	BodyTimeout, WriteTimeout, SlowGrace time.Duration
}

// New makes a server with an empty table and a certificate that it has signed itself.
func New(cfg Config) (*Server, error) {
	fallback, err := listen.SelfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	s := &Server{drainTimeout: cmp.Or(cfg.DrainTimeout, 10*time.Second),
		trusted: cfg.TrustedProxies, publicHTTPS: cfg.PublicHTTPS, inherited: slices.Clone(cfg.Inherited), keep: cfg.Keep}
	grace := cmp.Or(cfg.SlowGrace, listen.SlowGrace)
	s.bodies = pace.Limit{Rate: cfg.MinRate, Grace: grace, Most: cmp.Or(cfg.BodyTimeout, listen.BodyReadTimeout)}
	s.answers = pace.Limit{Rate: cfg.MinRate, Grace: grace, Most: cmp.Or(cfg.WriteTimeout, listen.WriteTimeout)}
	s.conns = listen.NewConnSet(cmp.Or(cfg.MaxConnections, listen.MaxConnections), cfg.MaxPerClient, &s.answers)
	if cfg.AccessLog != nil {
		if s.log, err = newAccessLog(cfg.AccessLog, cmp.Or(cfg.AccessLogFormat, LogJSON), cmp.Or(cfg.AccessLogSample, 1)); err != nil {
			return nil, err
		}
	}
	s.own = newOwnConns()
	s.hs, s.fallback = s.httpServer(), newFallback()
	s.toHTTP = newHandoff(net.TCPAddrFromAddrPort(cfg.HTTP))
	s.plain.what, s.plain.flag, s.plain.addr = "HTTP", "--ingress-http", cfg.HTTP
	s.secure.what, s.secure.flag, s.secure.addr, s.secure.tls = "HTTPS", "--ingress-https", cfg.HTTPS, s.tlsConfig()
	s.Publish(&route.Table[Route]{})
	s.certs.Store(listen.NewCertTable(fallback))
	return s, nil
}

// Listen takes the ports. Clients wait in the backlog until run.
func (s *Server) Listen() error {
	defer s.disinherit()
	for _, l := range s.listeners() {
		if l.socket != nil || !l.addr.IsValid() {
			continue
		}
		if l.socket = s.inherit(l.addr); l.socket == nil {
			var err error
			if l.socket, err = listen.Listen(l.what, l.flag, l.addr); err != nil {
				return errors.Join(err, s.Unlisten())
			}
		}
	}
	return nil
}

// Addrs are where it listens; zero for what is not served.
func (s *Server) Addrs() (plain, secure netip.AddrPort) {
	return s.plain.at(), s.secure.at()
}

// Unlisten gives the ports back.
func (s *Server) Unlisten() error {
	var errs []error
	for _, l := range s.listeners() {
		if l.socket != nil {
			errs = append(errs, l.socket.Close())
			l.socket = nil
		}
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, then lets the requests under way finish, within the drain timeout.
func (s *Server) Run(ctx context.Context) error {
	hs := s.hs
	var wg sync.WaitGroup
	if s.log != nil {
		logs, end := context.WithCancel(context.WithoutCancel(ctx))
		var written sync.WaitGroup
		written.Go(func() { s.log.run(logs) })
		defer written.Wait()
		defer end() // after the drain, whose requests are logged, too
	}
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := hs.Serve(s.toHTTP); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			failed <- fmt.Errorf("serving HTTP: %w", err)
		}
	})
	var fronts []*listen.Acceptor
	for _, l := range s.listeners() {
		if l.socket != nil {
			f := listen.NewAcceptor(s.frontConfig(l), l.socket)
			fronts = append(fronts, f)
			wg.Go(f.Run)
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
func (s *Server) drain(hs *http.Server, fronts []*listen.Acceptor) {
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout)
	defer cancel()
	for _, f := range fronts {
		f.Stop()
	}
	s.own.finish()
	grace, end := context.WithTimeout(ctx, drainGrace)
	defer end()
	for _, f := range fronts {
		f.Await(grace)
	}
	s.own.wait(grace)
	// Its only error is that time ran out; the rest is closed either way.
	_ = hs.Shutdown(ctx)
	s.own.wait(ctx)
	s.conns.CloseAll()
	select {
	case <-s.conns.Empty:
	case <-time.After(s.drainTimeout):
	}
}

// Table is what is served over https, or over http.
func (s *Server) Table(secure bool) *route.Table[Route] {
	if secure {
		return s.secure.table.Load()
	}
	return s.plain.table.Load()
}

// SetCertificates puts certificates into force.
func (s *Server) SetCertificates(t *listen.CertTable) { s.certs.Store(t) }

// DefaultCertificate is for names that nobody brought one for.
func (s *Server) DefaultCertificate() *tls.Certificate { return s.certs.Load().Fallback }

// listener is an address that clients come to, with what is served there.
type listener struct {
	what, flag string         // "HTTP", "--ingress-http"
	addr       netip.AddrPort // zero: not served
	tls        *tls.Config    // nil: plain
	socket     net.Listener   // nil: not open
	table      atomic.Pointer[route.Table[Route]]
}

// at is where it listens; zero if it does not.
func (l *listener) at() netip.AddrPort {
	if l.socket == nil {
		return netip.AddrPort{}
	}
	return l.socket.Addr().(*net.TCPAddr).AddrPort()
}

func (s *Server) listeners() []*listener { return []*listener{&s.plain, &s.secure} }

// AcceptorConfig is for the connections of a listener.
func (s *Server) frontConfig(l *listener) listen.AcceptorConfig {
	return listen.AcceptorConfig{TLS: l.tls, Trusted: s.trusted, Conns: s.conns, HeaderTimeout: headerTimeout, Log: quietLog,
		Serve: func(c *listen.Conn, secure *tls.Conn) {
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

func (s *Server) httpServer() *http.Server {
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

func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// small records at first would make two writes of most answers
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.certs.Load().Choose(hello)
		},
	}
}
