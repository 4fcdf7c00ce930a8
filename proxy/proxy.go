package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"svcplane/catalog"
)

// Config is what a Proxy needs. Catalog, Dataplane and Recorder are required.
type Config struct {
	Catalog   *catalog.Catalog
	Dataplane Dataplane
	Node      Node
	// Recorder writes Events on Services that cannot be served as asked.
	Recorder record.EventRecorder
	// ComparePeriod is the time between two comparisons of the kernel with what is wanted; 30 s when zero.
	ComparePeriod time.Duration
	// Metrics may be shared with a registry; a Proxy makes its own when nil.
	Metrics *Metrics
	// Health is where /healthz and /livez are answered as kube-proxy does; nowhere when invalid.
	Health netip.AddrPort
	// LoopbackNodePorts serves NodePorts on 127.0.0.1 and ::1, too, in user space.
	LoopbackNodePorts bool
	// Nodes are the Node objects: of this node the zone and whether load balancers should send it new connections, of others
	// their addresses. When nil, Node.Zone counts, and they should.
	Nodes cache.SharedInformer
}

// Proxy keeps a kernel in step with the Services of a catalog.
type Proxy struct {
	cfg   Config
	ready chan struct{}

	services, endpoints atomic.Int64 // for Figure, which does not wait for the kernel
	ineligible          atomic.Bool
	home                atomic.Pointer[home]
	rehomed             chan struct{} // receives after home changed
	health              *health
	loopbacks           loopbacks // p.mu
	began               time.Time

	mu      sync.Mutex // held while the kernel is read or written, and for all below
	node    Node
	started bool // the kernel has taken all Services once
	current bool // and all of them for the present node
	ledger  *ledger
	version uint64          // counts the writes to the kernel
	gone    map[Address]int // Addresses removed of late, with the sweeps left until they are forgotten
	sweep   bool            // flows have to be compared before long
	failing map[catalog.Key]failure
	// triggered is the time of the newest change of endpoints that was put into force, by Service
	triggered map[catalog.Key]time.Time
	notices   notices
	rivals    map[catalog.Key]bool // may have lost an Address to another Service, or got it back
}

// failure is a Service that could not be programmed.
type failure struct {
	attempts int
	due      time.Time // when it is tried again
}

const (
	defaultComparePeriod = 30 * time.Second
	firstBackOff         = time.Second
	lastBackOff          = time.Minute
	startBackOff         = 5 * time.Second // the longest at the start, which everything waits for
	tickPeriod           = time.Second
	// sweepsOfGone: a packet that was under way while its Frontend went can make a flow after the first sweep.
	sweepsOfGone = 2
	// compareShare is how many times longer than a comparison the pause after it is at least.
	compareShare = 20
	// maxSyncs bounds the search for the Service that a kernel refuses.
	maxSyncs = 64
)

// New checks cfg; it starts nothing and touches no kernel.
func New(cfg Config) (*Proxy, error) {
	if cfg.Catalog == nil || cfg.Dataplane == nil || cfg.Recorder == nil {
		return nil, errors.New("making the proxy: it needs a catalog, a data plane and an event recorder")
	}
	if cfg.ComparePeriod == 0 {
		cfg.ComparePeriod = defaultComparePeriod
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	cfg.Metrics.kube.begin(cfg.Node, cfg.Catalog.Changes)
	p := &Proxy{
		cfg: cfg, ready: make(chan struct{}), rehomed: make(chan struct{}, 1), loopbacks: loopbacks{open: map[catalog.Key]map[Address]*relay{}}, node: cfg.Node, ledger: newLedger(), began: time.Now(),
		gone: map[Address]int{}, failing: map[catalog.Key]failure{}, triggered: map[catalog.Key]time.Time{}, notices: notices{}, rivals: map[catalog.Key]bool{},
	}
	p.health = newHealth(func() bool { return !p.ineligible.Load() })
	p.health.answered = cfg.Metrics.kube.answered
	return p, nil
}

// Ready is closed once the kernel holds every Service that the API held at the start.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Figure is a short count for people: "12 services, 48 endpoints".
func (p *Proxy) Figure() string {
	return fmt.Sprintf("%d services, %d endpoints", p.services.Load(), p.endpoints.Load())
}

// Table is what was last written to the kernel, without reading it.
func (p *Proxy) Table() Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ledger.table()
}

// Kernel is what the kernel has in force, read back from it.
func (p *Proxy) Kernel(ctx context.Context) (Table, error) {
	table, err := p.cfg.Dataplane.Dump(ctx)
	if err != nil {
		return Table{}, fmt.Errorf("reading the kernel's rules: %w", err)
	}
	return table, nil
}

// SetAddrs follows the node's addresses that NodePorts are served on.
func (p *Proxy) SetAddrs(ctx context.Context, addrs []netip.Addr) error {
	return p.setNode(ctx, func(node *Node) { node.Addrs = addrs })
}

// setNode rebuilds everything for a node whose addresses or zone changed, or those of others did. The CIDRs must stay.
func (p *Proxy) setNode(ctx context.Context, change func(*Node)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.node
	if change(&p.node); reflect.DeepEqual(before, p.node) && p.current {
		return nil
	}
	if !p.started {
		return nil // the start builds everything
	}
	p.current = false
	keys := append(p.cfg.Catalog.Keys(), p.ledger.keys()...)
	batch := p.prepare(keys)
	failed := p.apply(ctx, batch)
	for key, c := range batch {
		if failed[key] == nil {
			p.notices.accepted(key, append(p.ledger.lost(key), c.refused...))
		}
	}
	for key, err := range failed {
		return fmt.Errorf("moving %d services to the node's new addresses, first %s: %w", len(failed), key, err)
	}
	p.current = true
	return nil
}

// sweepFlows removes flows of the past; p.mu is held.
func (p *Proxy) sweepFlows(ctx context.Context) {
	gone := make(map[Address]bool, len(p.gone))
	for addr := range p.gone {
		gone[addr] = true
	}
	removed, err := endStaleFlows(ctx, p.cfg.Dataplane, staleFlows{ledger: p.ledger, gone: gone, node: p.node})
	p.cfg.Metrics.staleFlows.Add(float64(removed))
	if err != nil {
		if ctx.Err() == nil {
			klog.ErrorS(err, "connections to endpoints of the past may stay; it is tried again")
		}
		return
	}
	p.sweep = false
	for addr, left := range p.gone {
		if p.gone[addr]--; left <= 1 {
			delete(p.gone, addr)
		}
	}
}
