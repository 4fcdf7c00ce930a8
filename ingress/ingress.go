package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
	"svcplane/ingress/route"
	"svcplane/ingress/serve"
)

// Config is what an Ingress needs.
type Config struct {
	Client  kubernetes.Interface
	Factory informers.SharedInformerFactory // New registers with it; the caller starts it
	Catalog *catalog.Catalog
	// HTTP and HTTPS are where to listen; a zero one is not served, port 0 takes any.
	HTTP, HTTPS netip.AddrPort
	// ClassNames are the classes that are ours, too, as long as no IngressClass of that name exists; DefaultClassNames if nil.
	ClassNames []string
	Controller string // spec.controller of our IngressClasses; "svcplane.io/ingress" if empty
	// NodeName restricts Services with internalTrafficPolicy Local to their endpoints here; empty: no restriction.
	NodeName  string
	Addresses []netip.Addr // written into status.loadBalancer of our Ingresses; see SetAddresses
	Recorder  record.EventRecorder
	// TrustedProxies are the networks of proxies in front of us: what they say about the client, in X-Forwarded-*
	// headers or by the PROXY protocol, is believed.
	TrustedProxies []netip.Prefix
	// MaxConnections bounds the connections of clients (16384 if zero), MaxPerClient those of one address (half of
	// it). More are answered 503 with Retry-After.
	MaxConnections, MaxPerClient int
	// MaxEndpointConnections bounds those to endpoints; zero: any number.
	MaxEndpointConnections int
	// PublicHTTPS is the port that redirects to https name; the one of HTTPS if zero.
	PublicHTTPS uint16
	// Inherited are listening sockets of an earlier run (Take); those for HTTP and HTTPS are used, the others closed.
	Inherited []net.Listener
	// Keep is given copies of the listening sockets when Run is told to end, before it stops accepting; nil: they
	// are closed. They are closed when Keep returns, so it passes them to a process that calls Hold.
	Keep func(sockets []*os.File) error
	// AccessLog receives a line per request in AccessLogFormat, for the share AccessLogSample (0 means all); nil: none.
	AccessLog       io.Writer
	AccessLogFormat serve.LogFormat
	AccessLogSample float64
	// DrainTimeout is how long requests under way may last after Run was told to end; 10 s if zero.
	DrainTimeout time.Duration

	// MinRate is how many octets a second a client must send of a body and take of an answer while we wait for it, on
	// average and after a grace; 0: any number but none.
	MinRate int

	bodyTimeout, writeTimeout, slowGrace time.Duration // the constants of these names if zero
}

func (c *Config) serve() serve.Config {
	return serve.Config{HTTP: c.HTTP, HTTPS: c.HTTPS, TrustedProxies: c.TrustedProxies, MaxConnections: c.MaxConnections, MaxPerClient: c.MaxPerClient,
		PublicHTTPS: c.PublicHTTPS, Inherited: c.Inherited, Keep: c.Keep, AccessLog: c.AccessLog, AccessLogFormat: c.AccessLogFormat,
		AccessLogSample: c.AccessLogSample, DrainTimeout: c.DrainTimeout, MinRate: c.MinRate,
		BodyTimeout: c.bodyTimeout, WriteTimeout: c.writeTimeout, SlowGrace: c.slowGrace}
}

// DefaultClassNames are ours, and those that manifests for the usual controllers name.
func DefaultClassNames() []string {
	return []string{"svcplane", "nginx", "traefik", "contour", "haproxy", "kong"}
}

// Ingress serves HTTP as the API's Ingress objects say.
type Ingress struct {
	server   *serve.Server
	assembly *assembly
	ready    chan struct{}
}

// New registers with the informers of cfg.Factory. Then the caller calls Listen, starts the factory and the
// catalog, and calls Run.
func New(cfg Config) (*Ingress, error) {
	if cfg.Client == nil || cfg.Factory == nil || cfg.Catalog == nil || cfg.Recorder == nil {
		return nil, errors.New("making the ingress: Client, Factory, Catalog and Recorder must be set")
	}
	if cfg.ClassNames == nil {
		cfg.ClassNames = DefaultClassNames()
	}
	cfg.Controller = cmp.Or(cfg.Controller, "svcplane.io/ingress")
	s, err := serve.New(cfg.serve())
	if err != nil {
		return nil, err
	}
	a, err := newAssembly(cfg, s)
	if err != nil {
		return nil, err
	}
	return &Ingress{server: s, assembly: a, ready: make(chan struct{})}, nil
}

// Listen takes the ports, so that a port that is taken is known before anything else starts. Connections wait
// until Run serves them. The error is one line: what, where, how to mend. Close gives the ports back if Run is
// never called.
func (i *Ingress) Listen() error { return i.server.Listen() }

// Close gives back the ports that Listen took. It is for a start that failed elsewhere; Run closes by itself.
func (i *Ingress) Close() error { return i.server.Unlisten() }

// Addrs are the addresses that Listen took; zero for one that is not served.
func (i *Ingress) Addrs() (http, https netip.AddrPort) { return i.server.Addrs() }

// Run serves until ctx ends, drains, and returns nil once everything it started has ended. It calls Listen if
// nobody did.
func (i *Ingress) Run(ctx context.Context) error {
	if err := i.Listen(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer i.assembly.end()
	if !i.assembly.start(ctx) {
		return i.server.Unlisten()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the wait: the rest ends when serving does
	wg.Go(func() { i.assembly.run(ctx) })
	wg.Go(func() { i.assembly.source.Run(ctx) })
	close(i.ready)
	return i.server.Run(ctx)
}

// SetAddresses follows the node's addresses: the statuses of our Ingresses get them.
func (i *Ingress) SetAddresses(addresses []netip.Addr) { i.assembly.source.SetAddresses(addresses) }

// Ready is closed once the routes that the API holds are served.
func (i *Ingress) Ready() <-chan struct{} { return i.ready }

// Figure is a short count for people: "3 routes, 2 certificates".
func (i *Ingress) Figure() string {
	a := i.assembly
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%d routes, %d certificates", a.routes.Count(), a.certs.count())
}

// RouteInfo is a route as people read it.
type RouteInfo struct {
	Host      string // "*" for every host
	Path      string
	Kind      route.PathKind
	When      string // what else a request has to be like
	Service   string // namespace/name:port
	Endpoints []netip.AddrPort
	Problem   string // why there are no endpoints; empty: none is ready, or all is well
	Origin    route.Origin
	Canaries  []string // services that may take requests of this route
	Closed    []string // why every request is answered 503; empty: it is not
}

// Routes is the live table, sorted by host, then in the order that paths are tried: Exact, the longest Prefix,
// the default.
func (i *Ingress) Routes() []RouteInfo {
	var all []RouteInfo
	for _, b := range i.server.Routes() {
		all = append(all, infoOf(b))
	}
	return all
}

func infoOf(b *serve.Route) RouteInfo {
	info := RouteInfo{Host: cmp.Or(b.Host, "*"), Path: b.Path, Kind: b.Kind, When: b.When.String(), Service: b.Target(), Origin: b.Origin}
	info.Endpoints, info.Problem = b.Endpoints()
	for _, c := range b.Canaries() {
		text := c.Target()
		if why := c.Closed(); len(why) > 0 {
			text += " (closed: " + why[0] + ")"
		}
		info.Canaries = append(info.Canaries, text)
	}
	info.Closed = b.Closed()
	return info
}

// Collector is for the registry that the process's metrics come from; never for the public listener.
func (i *Ingress) Collector() prometheus.Collector {
	return i.server.Collector(i.assembly.certificates)
}
