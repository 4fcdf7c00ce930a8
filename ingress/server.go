package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
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
}

func newServer(httpAddr, httpsAddr netip.AddrPort, drainTimeout time.Duration) (*server, error) {
	fallback, err := selfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	s := &server{httpAddr: httpAddr, httpsAddr: httpsAddr, drainTimeout: drainTimeout, conns: newConnSet()}
	s.table.Store(&Table{})
	s.certs.Store(newCertTable(fallback))
	return s, nil
}

// listen takes the ports. Clients wait in the backlog until run.
func (s *server) listen() error {
	var err error
	if s.plain == nil && s.httpAddr.IsValid() {
		if s.plain, err = listen("HTTP", "--ingress-http", s.httpAddr); err != nil {
			s.plain = nil
			return err
		}
	}
	if s.secure == nil && s.httpsAddr.IsValid() {
		if s.secure, err = listen("HTTPS", "--ingress-https", s.httpsAddr); err != nil {
			s.secure = nil
			return errors.Join(err, s.unlisten())
		}
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
	hs := s.httpServer()
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	serve := func(l net.Listener) {
		wg.Go(func() {
			if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("serving on %s: %w", l.Addr(), err)
			}
		})
	}
	if s.plain != nil {
		serve(&trackingListener{s.plain, s.conns})
	}
	if s.secure != nil {
		l := newTLSListener(s.secure, s.conns, s.tlsConfig())
		wg.Go(l.run)
		serve(l)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.drain(hs)
	wg.Wait()
	return err
}

// drain stops accepting, tells clients to go (Connection: close, GOAWAY), waits for what is under way and closes
// what is left: requests that last too long, and WebSockets, which never end by themselves.
func (s *server) drain(hs *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout)
	defer cancel()
	// Its only error is that time ran out; the rest is closed either way.
	_ = hs.Shutdown(ctx)
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
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: writeTimeout},
		ErrorLog:          quietLog,
		// "OPTIONS *" is answered by nobody here: it names no path that could be routed
		DisableGeneralOptionsHandler: true,
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetHTTP2(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	return hs
}

func (s *server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.certs.Load().choose(hello)
		},
	}
}

// ServeHTTP routes one request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		answer(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here")
		return
	}
	path, err := cleanURLPath(escapedPath(r.URL))
	if err == nil {
		err = setPath(r.URL, path)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	group := s.route(normalHost(r.Host), path.match)
	if group == nil {
		answer(w, http.StatusNotFound, "no ingress rule matches this host and path")
		return
	}
	defer group.requests.leave()
	if r.Header.Get("Upgrade") != "" {
		w = upgradeWriter{w}
	}
	group.proxy.ServeHTTP(w, r)
}

// route finds the group of a request and enters it; nil when no route matches.
func (s *server) route(host, path string) *Group {
	for {
		route := s.table.Load().Match(host, path)
		if route == nil {
			return nil
		}
		if route.Group.requests.enter() {
			return route.Group
		}
		// the route was removed between the two: a table without it is there already
	}
}
