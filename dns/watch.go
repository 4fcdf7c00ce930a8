package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"k8s.io/klog/v2"
)

// record counts a reply and logs it if its turn has come: every LogEvery-th question of a worker.
func (s *Server) record(t *tally, w *scratch, reply []byte, tcp bool, began time.Time) {
	t.count(w, reply, tcp)
	if s.cfg.LogEvery == 0 || len(reply) < headerLen || s.turn.Add(1)%uint64(s.cfg.LogEvery) != 0 {
		return
	}
	s.logged.Add(1)
	klog.InfoS("DNS question", "client", w.from, "tcp", tcp, "name", textName(w.q.wire()), "type", dns.Type(w.q.qtype).String(),
		"rcode", codeLabel(min(replyCode(reply), countedCodes-1)), "zone", s.zoneNames()[w.a.zone], "octets", len(reply), "took", time.Since(began))
}

// newWorkerTally gives a worker its own counters.
func (s *Server) newWorkerTally() *tally {
	t := newTally(zoneFirst + len(s.zones))
	t.leaving = make([]leaving, len(t.zones))
	s.mu.Lock()
	s.workers = append(s.workers, t)
	s.mu.Unlock()
	return t
}

// tallies are the counters of all workers; there is at least one.
func (s *Server) tallies() []*tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*tally{s.slow}, s.workers...)
}

// Healthy asks every address of ours for the start of authority over UDP, as a client would, and says which does not
// answer.
func (s *Server) Healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	query := new(dns.Msg)
	query.SetQuestion(textName([]byte(s.zones[0].domain)), dns.TypeSOA)
	for _, addr := range s.listenOn() {
		u := &upstream{addr: netip.AddrPortFrom(addr, s.cfg.Port)}
		if _, err := u.exchange(ctx, "udp", query); err != nil {
			return fmt.Errorf("dns: %s does not answer: %w", u.addr, err)
		}
	}
	return nil
}

// Handler answers /health (the sockets answer) and /ready (every Service is known) with 200 or 503.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Healthy(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "OK")
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.ready:
			fmt.Fprintln(w, "OK")
		default:
			http.Error(w, "dns: the Services are not all known yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// serveHTTP serves Handler where the configuration wants it, until ctx ends.
func (s *Server) serveHTTP(ctx context.Context, listener net.Listener) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: idleTimeout}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", listener.Addr(), err)
	}
	return nil
}
