package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"svcplane/catalog"
)

// healthTimeout is how long a change may wait for the kernel until the proxy is called unhealthy: kube-proxy's
// twice the sync period of 30 s.
const healthTimeout = time.Minute

// health answers load balancers: /healthz and /livez for the node as kube-proxy does on port 10256, and for each
// Service with a healthCheckNodePort whether it has endpoints here (KEP-3836; upstream pkg/proxy/healthcheck).
type health struct {
	eligible func() bool                 // the node is to get new connections
	answered func(node bool, status int) // counts answers of /healthz (node) and /livez

	mu      sync.Mutex
	pending time.Time // the oldest change that the kernel has not taken; zero: none
	updated time.Time
	doors   map[catalog.Key]*door
}

// door is the health-check port of one Service.
type door struct {
	at     []netip.AddrPort
	server *http.Server
	local  int // ready endpoints on this node
}

func newHealth(eligible func() bool) *health {
	return &health{eligible: eligible, answered: func(bool, int) {}, doors: map[catalog.Key]*door{}}
}

// queued notes that there is a change; took, that the kernel has it.
func (h *health) queued(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending.IsZero() {
		h.pending = now
	}
}

func (h *health) took(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending, h.updated = time.Time{}, now
}

func (h *health) healthy(now time.Time) bool {
	return h.pending.IsZero() || now.Sub(h.pending) < healthTimeout
}

// healthJSON has the fields of kube-proxy's answer.
type healthJSON struct {
	LastUpdated  time.Time             `json:"lastUpdated"`
	CurrentTime  time.Time             `json:"currentTime"`
	NodeEligible *bool                 `json:"nodeEligible,omitempty"`
	Healthy      bool                  `json:"healthy"`
	Status       map[string]familyJSON `json:"status,omitempty"`
}

type familyJSON struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// answer is what /healthz says with node, and /livez without.
func (h *health) answer(now time.Time, node bool) (status int, body healthJSON) {
	h.mu.Lock()
	defer h.mu.Unlock()
	good := h.healthy(now)
	body = healthJSON{LastUpdated: h.updated, CurrentTime: now, Healthy: good}
	if !h.updated.IsZero() {
		body.Status = map[string]familyJSON{"IPv4": {LastUpdated: h.updated, Healthy: good}}
	}
	if node {
		eligible := h.eligible()
		body.NodeEligible, good = &eligible, good && eligible
	}
	if !good {
		return http.StatusServiceUnavailable, body
	}
	body.LastUpdated = now // the time of the last sync says nothing while nothing changes
	return http.StatusOK, body
}

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	for path, node := range map[string]bool{"/healthz": true, "/livez": false} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			status, body := h.answer(time.Now(), node)
			text, err := json.Marshal(body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			h.answered(node, status)
			writeHealth(w, status, text)
		})
	}
	return mux
}

func writeHealth(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may be gone
}

// serve answers on at until ctx ends.
func (h *health) serve(ctx context.Context, listener net.Listener) {
	server := &http.Server{Handler: h.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		klog.ErrorS(err, "the health port answers no more", "address", listener.Addr())
	}
}

// openHealthPort answers for the node until the function it returns is called.
func (p *Proxy) openHealthPort(ctx context.Context) (closePort func(), err error) {
	if !p.cfg.Health.IsValid() {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", p.cfg.Health.String())
	if err != nil {
		return nil, fmt.Errorf("opening the health port %s: %w", p.cfg.Health, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.health.serve(ctx, listener)
	}()
	return func() { cancel(); <-done }, nil
}

// set opens, moves or closes the port of a Service; at is empty when it is to have none. The error says that it
// could not be opened: another program has it.
func (h *health) set(key catalog.Key, at []netip.AddrPort, local int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.doors[key]
	if d != nil && !sameAddrs(d.at, at) {
		d.server.Close()
		delete(h.doors, key)
		d = nil
	}
	if d != nil {
		d.local = local
		return nil
	}
	if len(at) == 0 {
		return nil
	}
	d = &door{at: at, local: local, server: &http.Server{Handler: h.door(key), ReadHeaderTimeout: 10 * time.Second}}
	for _, a := range at {
		listener, err := net.Listen("tcp", a.String())
		if err != nil {
			d.server.Close()
			return fmt.Errorf("opening the health check port %s: %w", a, err)
		}
		go func() { _ = d.server.Serve(listener) }() // ends with ErrServerClosed
	}
	h.doors[key] = d
	return nil
}

func sameAddrs(a, b []netip.AddrPort) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// door answers for one Service, to the letter as kube-proxy does: load balancers parse it.
func (h *health) door(key catalog.Key) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		local, good := 0, h.healthy(time.Now())
		if d := h.doors[key]; d != nil {
			local = d.local
		}
		h.mu.Unlock()
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(local))
		status := http.StatusOK
		if local == 0 || !good {
			status = http.StatusServiceUnavailable
		}
		writeHealth(w, status, fmt.Appendf(nil,
			"{\n\t\"service\": {\n\t\t\"namespace\": %q,\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %v\n}",
			key.Namespace, key.Name, local, good))
	})
}

// close closes the ports of all Services.
func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, d := range h.doors {
		d.server.Close()
		delete(h.doors, key)
	}
}

// localReady counts the ready endpoints of a Service on a node, each address once.
func localReady(svc *catalog.Service, node string) int {
	seen := map[netip.Addr]bool{}
	for _, port := range svc.Ports {
		for _, e := range port.Endpoints {
			if e.Ready && e.Node == node && node != "" {
				seen[e.Addr()] = true
			}
		}
	}
	return len(seen)
}
