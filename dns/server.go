package dns

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
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
	Stubs map[string][]netip.AddrPort
	// ResolvConf is the node's own, for its servers and for the search domains that pods inherit.
	ResolvConf string        // /etc/resolv.conf
	TTL        time.Duration // 5 s; whole seconds
	CacheSize  int           // octets for upstreams' answers; 8 MiB
	// NoAutopath leaves the search path of pods to their resolvers. Otherwise see AutopathAnnotation.
	NoAutopath bool

	// LANDomain has names for LoadBalancer Services and Ingress hosts, which anybody may ask for; empty: none.
	LANDomain string
	// NodeAddrs are the node's addresses (see SetNodeAddrs): LANDomain is served on them, besides Addrs, an Ingress without
	// a status is reached at them, and who asks from them is on this node.
	NodeAddrs []netip.Addr
	Ingresses toolscache.SharedIndexInformer // not started yet; nil: no hosts

	// Clients may ask for every name, besides the node itself and Networks; nil: everybody may.
	Clients []netip.Prefix
	// ReplyLimit is how many octets a second a network of such clients (/24, /56) and of strangers gets over UDP.
	ReplyLimit int            // 64 KiB
	Transfer   []netip.Prefix // who may transfer the zone (AXFR); nil: nobody
	// MaxConns bounds TCP connections (256 if zero), MaxWaiting questions that wait for an upstream, each with a socket or
	// two, or for the first sync (1024).
	MaxConns, MaxWaiting int
	LogEvery             int            // every how many questions one is logged; 0: none
	HTTP                 netip.AddrPort // where /health and /ready are served; not valid: nowhere
}

const (
	defaultDomain     = "cluster.local"
	defaultLink       = "sp-dns"
	defaultResolvConf = "/etc/resolv.conf"
	defaultTTL        = 5 * time.Second
	defaultCache      = 8 << 20
	defaultLimit      = 64 << 10

	hold        = 5 * time.Second // how long a question may wait for the first sync
	rereadEvery = 2 * time.Second // the resolver configuration
	maxWaiting  = 1024
)

// Server is the cluster's name server.
type Server struct {
	cfg      Config
	zones    []*zone // the first one's names are those that addresses map to
	reverse  *reverse
	forward  *forwarder
	stubs    []stub                   // the longest domain first
	lan      *lanZone                 // nil: none
	limiter  *limiter                 // for clients that are not on this node
	suffixes atomic.Pointer[[]string] // the search path of pods, in wire form
	walks    walks
	waiting  chan struct{} // one token per question that waits
	conns    chan struct{} // one token per TCP connection
	unasking unasking      // those of them that ask nothing
	holdFor  time.Duration
	resolved string // where systemd-resolved says whom it asks

	programming      programming
	slow             *tally        // of everything but the UDP workers
	turn             atomic.Uint64 // counts questions for the log
	logged, rejected atomic.Uint64 // rejected: one too many to wait
	mu               sync.Mutex
	workers          []*tally

	nodeAddrs atomic.Pointer[[]netip.Addr]
	doors     doors // on them

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
		limiter: newLimiter(cfg.ReplyLimit), resolved: systemdResolved,
		walks:       walks{seed: maphash.MakeSeed()},
		conns:       make(chan struct{}, cfg.MaxConns),
		programming: programming{kinds: map[string]*programmed{}},
		waiting:     make(chan struct{}, cfg.MaxWaiting),
		synced:      make(chan struct{}), ready: make(chan struct{}),
	}
	s.nodeAddrs.Store(&cfg.NodeAddrs)
	ttl := uint32(cfg.TTL / time.Second)
	for _, domain := range append([]string{cfg.Domain}, cfg.Aliases...) {
		wire, err := wireName(domain)
		if err != nil || len(wire) < 2 {
			return nil, fmt.Errorf("dns: cluster domain %q is not a domain name (--cluster-domain): %w", domain, errors.Join(err, errDomain))
		}
		s.zones = append(s.zones, newZone(wire, cfg.Addrs, cfg.Pods, ttl))
	}
	s.reverse = newReverse(cfg.Networks, s.zones[0].domain, ttl)
	s.slow = newTally(zoneFirst + len(s.zones))
	s.setSuffixes(nil)
	if err := s.makeStubs(); err != nil {
		return nil, err
	}
	return s, s.makeLAN(ttl)
}

func (s *Server) makeLAN(ttl uint32) error {
	if s.cfg.LANDomain == "" {
		return nil
	}
	wire, err := wireName(s.cfg.LANDomain)
	if err != nil || len(wire) < 2 {
		return fmt.Errorf("dns: LAN domain %q is not a domain name (--dns-lan-domain): %w", s.cfg.LANDomain, errors.Join(err, errDomain))
	}
	for _, z := range s.zones {
		if strings.HasSuffix(z.domain, wire) || strings.HasSuffix(wire, z.domain) {
			return fmt.Errorf("dns: LAN domain %s and cluster domain %s contain one another, choose another --dns-lan-domain", s.cfg.LANDomain, textName([]byte(z.domain)))
		}
	}
	s.lan = newLANZone(wire, s.cfg.NodeAddrs, ttl)
	if s.cfg.Ingresses == nil {
		return nil
	}
	return s.lan.followIngresses(s.cfg.Ingresses)
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
	if c.MaxConns == 0 {
		c.MaxConns = maxConns
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = maxWaiting
	}
	if c.ReplyLimit == 0 {
		c.ReplyLimit = defaultLimit
	}
	c.Addrs, c.NodeAddrs = unmapped(c.Addrs), unmapped(c.NodeAddrs)
	return c
}

func unmapped(addrs []netip.Addr) []netip.Addr {
	addrs = slices.Clone(addrs)
	for i, addr := range addrs {
		addrs[i] = addr.Unmap()
	}
	return addrs
}

// Ready is closed once the sockets are open and every Service is in the zone.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Figure is a short count for people: "31 names, 1204 queries".
func (s *Server) Figure() string {
	return fmt.Sprintf("%d names, %d queries", s.zones[0].names.Load(), s.queries())
}

// queries is how many questions were answered.
func (s *Server) queries() (n uint64) {
	for _, t := range s.tallies() {
		for i := range t.answers {
			n += t.answers[i].Load()
		}
	}
	return n
}

// Run makes the addresses local, answers on them until ctx ends, and returns nil then. The addresses stay
// (Cleanup removes them); with nobody listening on them clients are refused at once.
func (s *Server) Run(ctx context.Context) error {
	if err := ensureLink(s.cfg.LinkName, s.cfg.Addrs); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	sockets, err := listen(ctx, s.cfg.Addrs, s.cfg.Port, s.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stop := context.AfterFunc(ctx, sockets.close)
	defer stop()

	readUpstreams := s.upstreamReader()
	readUpstreams() // before the first question
	var workers sync.WaitGroup
	start := func(run func(context.Context) error) {
		workers.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				fail(err)
			}
		})
	}
	start(s.follow)
	start(func(ctx context.Context) error { return every(ctx, rereadEvery, readUpstreams) })
	start(s.forward.run)
	for _, stub := range s.stubs {
		start(stub.forward.run)
	}
	if sockets.http != nil {
		start(func(ctx context.Context) error { return s.serveHTTP(ctx, sockets.http) })
	}
	s.serveOn(sockets, start)
	if err := s.doors.begin(ctx, s); err != nil {
		fail(err)
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
	s.doors.shut()
	sockets.close()
	sockets.release()
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

// podsKnown waits until every pod, and every Ingress, is known; false if ctx ends before.
func (s *Server) podsKnown(ctx context.Context) bool {
	var needed []toolscache.InformerSynced
	if s.cfg.Pods != nil {
		needed = append(needed, s.cfg.Pods.HasSynced)
	}
	if s.lan != nil && s.cfg.Ingresses != nil {
		needed = append(needed, s.cfg.Ingresses.HasSynced)
	}
	return toolscache.WaitForCacheSync(ctx.Done(), needed...)
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
			old := z.put(key, e)
			if i > 0 {
				continue
			}
			s.reverse.put(old, e)
			if e != nil && e.names() > 0 && s.isSynced.Load() {
				s.programming.observe(svc, old, time.Now())
			}
		}
		if s.lan != nil {
			s.lan.putService(key, svc)
		}
		sub.Done(key)
	}
}

// upstreamReader gives what reads the resolver configuration and uses what has changed in it: its servers, unless others
// were given, and the search domains, which pods inherit.
func (s *Server) upstreamReader() (read func()) {
	if s.cfg.Upstreams != nil {
		s.forward.use(s.cfg.Upstreams)
	}
	var known resolvConf
	var failure string
	return func() {
		found, err := readResolvConf(s.cfg.ResolvConf, s.resolved, s.listenOn())
		switch {
		case err != nil && err.Error() != failure: // what was known so far stays in use
			failure = err.Error()
			if s.cfg.Upstreams == nil {
				klog.ErrorS(err, "DNS upstreams cannot be read")
			}
		case err == nil:
			failure = ""
			s.useResolvConf(known, found)
			known = found
		}
	}
}

// every calls do at an interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-ctx.Done():
			return nil
		}
	}
}
