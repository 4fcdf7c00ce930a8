package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"svcplane/catalog"
)

// Config says what to serve and where. Zero values stand for what the comments say.
type Config struct {
	Catalog *catalog.Catalog
	// Domain is the cluster domain; Aliases are further domains under which every Service has its names too.
	Domain  string // cluster.local
	Aliases []string
	// Addrs are the cluster DNS addresses, at most one per family. What is not local to the node yet is made so.
	Addrs []netip.Addr
	Port  uint16 // 53
	// LinkName is the link that carries Addrs.
	LinkName string // sp-dns
	// Networks are the Service and pod ranges: reverse names in them are never forwarded.
	Networks []netip.Prefix
	// Pods verifies the names of pods; nil: every address has one (DNS specification section 2.6).
	Pods Pods
	// Upstreams resolve all other names; nil: those in ResolvConf, which is read again when it changes.
	Upstreams []netip.AddrPort
	// Stubs are the servers for the names in and below a domain, instead of Upstreams; the longest domain counts.
	Stubs      map[string][]netip.AddrPort
	ResolvConf string        // /etc/resolv.conf
	TTL        time.Duration // 5 s; whole seconds
	CacheSize  int           // octets for upstreams' answers; 8 MiB
}

const (
	defaultDomain     = "cluster.local"
	defaultLink       = "sp-dns"
	defaultResolvConf = "/etc/resolv.conf"
	defaultTTL        = 5 * time.Second
	defaultCache      = 8 << 20

	hold       = 5 * time.Second // how long a question may wait for the first sync
	maxWaiting = 1024            // questions that wait for an upstream or the first sync
)

// Server is the cluster's name server.
type Server struct {
	cfg     Config
	zones   []*zone // the first one's names are those that addresses map to
	reverse *reverse
	forward *forwarder
	stubs   []stub        // the longest domain first
	waiting chan struct{} // one token per question that waits
	queries atomic.Uint64
	holdFor time.Duration

	isSynced atomic.Bool
	synced   chan struct{} // closed when every Service of the first listing is in the zones
	ready    chan struct{}
}

// New checks cfg. Nothing is started and nothing is changed on the host.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if cfg.Catalog == nil {
		return nil, errors.New("dns: no catalog of services is given")
	}
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("dns: no address to serve on, give the cluster DNS address (--dns-ip)")
	}
	if cfg.TTL < 0 || cfg.TTL%time.Second != 0 {
		return nil, fmt.Errorf("dns: a TTL of %s cannot be expressed, give whole seconds", cfg.TTL)
	}
	s := &Server{
		cfg: cfg, holdFor: hold,
		forward: newForwarder(newCache(cfg.CacheSize), time.Now),
		waiting: make(chan struct{}, maxWaiting),
		synced:  make(chan struct{}), ready: make(chan struct{}),
	}
	ttl := uint32(cfg.TTL / time.Second)
	for _, domain := range append([]string{cfg.Domain}, cfg.Aliases...) {
		wire, err := wireName(domain)
		if err != nil || len(wire) < 2 {
			return nil, fmt.Errorf("dns: cluster domain %q is not a domain name (--cluster-domain): %w", domain, errors.Join(err, errDomain))
		}
		s.zones = append(s.zones, newZone(wire, cfg.Addrs, cfg.Pods, ttl))
	}
	s.reverse = newReverse(cfg.Networks, s.zones[0].domain, ttl)
	if err := s.makeStubs(); err != nil {
		return nil, err
	}
	return s, nil
}

var errDomain = errors.New("it needs at least one label, such as cluster.local")

func (c Config) withDefaults() Config {
	if c.Domain == "" {
		c.Domain = defaultDomain
	}
	if c.Port == 0 {
		c.Port = dnsPort
	}
	if c.LinkName == "" {
		c.LinkName = defaultLink
	}
	if c.ResolvConf == "" {
		c.ResolvConf = defaultResolvConf
	}
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultCache
	}
	c.Addrs = slices.Clone(c.Addrs)
	for i, addr := range c.Addrs {
		c.Addrs[i] = addr.Unmap()
	}
	return c
}

// Ready is closed once the sockets are open and every Service is in the zone.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Figure is a short count for people: "31 names, 1204 queries".
func (s *Server) Figure() string {
	return fmt.Sprintf("%d names, %d queries", s.zones[0].names.Load(), s.queries.Load())
}

// Run makes the addresses local, answers on them until ctx ends, and returns nil then. The addresses stay
// (Cleanup removes them); with nobody listening on them clients are refused at once.
func (s *Server) Run(ctx context.Context) error {
	if err := ensureLink(s.cfg.LinkName, s.cfg.Addrs); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	sockets, err := listen(ctx, s.cfg.Addrs, s.cfg.Port)
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stop := context.AfterFunc(ctx, sockets.close)
	defer stop()

	var workers sync.WaitGroup
	start := func(run func(context.Context) error) {
		workers.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				fail(err)
			}
		})
	}
	start(s.follow)
	start(s.followUpstreams)
	for _, conn := range sockets.udp {
		start(func(ctx context.Context) error { return s.serveUDP(ctx, conn) })
	}
	for _, listener := range sockets.tcp {
		start(func(ctx context.Context) error { return s.serveTCP(ctx, listener) })
	}
	start(func(ctx context.Context) error {
		select {
		case <-s.synced:
			close(s.ready)
		case <-ctx.Done():
		}
		return nil
	})
	<-ctx.Done()
	workers.Wait()
	s.forward.workers.Wait()
	for _, stub := range s.stubs {
		stub.forward.workers.Wait()
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("dns: %w", err)
	}
	return nil
}

// follow keeps the zones as the catalog is.
func (s *Server) follow(ctx context.Context) error {
	sub := s.cfg.Catalog.Subscribe()
	defer sub.Close()
	complete := s.cfg.Catalog.Ready()
	for {
		select {
		case <-sub.Dirty():
			s.apply(sub)
		case <-complete:
			s.apply(sub)
			if !s.podsKnown(ctx) {
				return nil
			}
			s.isSynced.Store(true)
			close(s.synced)
			complete = nil
		case <-ctx.Done():
			return nil
		}
	}
}

// podsKnown waits until every pod is known; false if ctx ends before.
func (s *Server) podsKnown(ctx context.Context) bool {
	return s.cfg.Pods == nil || toolscache.WaitForCacheSync(ctx.Done(), s.cfg.Pods.HasSynced)
}

// apply puts every Service that changed into the zones.
func (s *Server) apply(sub *catalog.Subscription) {
	for _, key := range sub.Take() {
		svc, ok := s.cfg.Catalog.Get(key)
		for i, z := range s.zones {
			var e *entry
			if ok {
				var err error
				if e, err = buildEntry(svc, z.domain, z.ttl); err != nil {
					klog.ErrorS(err, "Service has names that cannot be served", "service", key)
				}
			}
			if old := z.put(key, e); i == 0 {
				s.reverse.put(key, old, e)
			}
		}
		sub.Done(key)
	}
}

// followUpstreams reads the resolver configuration whenever it changes.
func (s *Server) followUpstreams(ctx context.Context) error {
	if s.cfg.Upstreams != nil {
		s.forward.use(s.cfg.Upstreams)
		return nil
	}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	var known []netip.AddrPort
	var failure string
	for {
		found, err := upstreamsOf(s.cfg.ResolvConf, s.cfg.Addrs)
		switch {
		case err != nil && err.Error() != failure: // the servers known so far stay in use
			failure = err.Error()
			klog.ErrorS(err, "DNS upstreams cannot be read")
		case err == nil:
			failure = ""
			if !slices.Equal(found, known) {
				known = found
				s.forward.use(found)
				klog.InfoS("DNS upstreams", "servers", found, "from", s.cfg.ResolvConf)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
