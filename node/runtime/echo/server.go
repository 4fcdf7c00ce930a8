package echo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Port is one socket to serve.
type Port struct {
	Number   uint16 `json:"number"`
	Protocol string `json:"protocol"` // "TCP" or "UDP"
}

// Config describes one echo container.
type Config struct {
	Pod       string     // what /hostname answers
	Namespace string     // of the pod
	Node      string     // the node's name
	IP        netip.Addr // the pod's address
	Ports     []Port     // 8080/TCP if empty
	Log       io.Writer  // gets one Write per line, with its newline
}

// Server is one echo container.
type Server struct {
	cfg       Config
	unhealthy atomic.Bool
	busy      atomic.Int64 // requests under way
	guests    guests
	http      *http.Server
	listeners []*drainListener
	packets   []datagrams
	exit      chan int
	killed    atomic.Bool
	closing   context.Context // ends when Run begins to drain: what is upgraded or streams must go by itself
	close     context.CancelFunc
}

// New makes a server; Listen and then Run make it answer.
func New(cfg Config) *Server {
	if len(cfg.Ports) == 0 {
		cfg.Ports = []Port{{Number: 8080, Protocol: "TCP"}}
	}
	s := &Server{cfg: cfg, exit: make(chan int, 1)}
	s.closing, s.close = context.WithCancel(context.Background())
	s.http = s.newHTTP()
	return s
}

// Listen opens the sockets in the calling thread's network namespace, all or none.
func (s *Server) Listen(ctx context.Context) error {
	for _, port := range s.cfg.Ports {
		if err := s.listen(ctx, port); err != nil {
			s.closeSockets()
			return err
		}
	}
	return nil
}

func (s *Server) listen(ctx context.Context, port Port) error {
	address := fmt.Sprintf(":%d", port.Number)
	var config net.ListenConfig
	switch port.Protocol {
	case "TCP":
		listener, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return s.listenError(port, err)
		}
		s.listeners = append(s.listeners, newDrainListener(listener.(*net.TCPListener), &s.guests))
	case "UDP":
		for _, network := range families() {
			packets, err := listenDatagrams(ctx, network, address)
			if err != nil {
				return s.listenError(port, err)
			}
			s.packets = append(s.packets, packets)
		}
	default:
		return fmt.Errorf("listen on port %d/%s in pod %s/%s: svcplane/echo serves TCP and UDP only; remove the port or use another image",
			port.Number, port.Protocol, s.cfg.Namespace, s.cfg.Pod)
	}
	return nil
}

func (s *Server) listenError(port Port, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on port %d/%s in pod %s/%s: another container of the pod (or, with hostNetwork, of the node) has it; give one of them another containerPort: %w",
			port.Number, port.Protocol, s.cfg.Namespace, s.cfg.Pod, err)
	}
	return fmt.Errorf("listen on port %d/%s in pod %s/%s: %w", port.Number, port.Protocol, s.cfg.Namespace, s.cfg.Pod, err)
}

func (s *Server) closeSockets() {
	for _, g := range s.listeners {
		g.Close()
	}
	for _, p := range s.packets {
		p.Close()
	}
}

// Run serves until ctx ends (requests under way then have the time grace returns to finish) and returns the
// container's exit code: 0 after an orderly end, 137 if requests had to be cut off, the code that
// POST /exit asked for, 1 if a socket broke.
func (s *Server) Run(ctx context.Context, grace func() time.Duration) int {
	var served sync.WaitGroup
	broken := make(chan error, len(s.listeners)+len(s.packets))
	for _, g := range s.listeners {
		served.Go(func() {
			if err := s.http.Serve(g); !errors.Is(err, http.ErrServerClosed) {
				broken <- err
			}
		})
	}
	for _, p := range s.packets {
		served.Go(func() {
			if err := s.servePackets(p); !errors.Is(err, net.ErrClosed) {
				broken <- err
			}
		})
	}
	code := 0
	select {
	case <-ctx.Done():
		if !s.drain(grace()) {
			s.logf("stopping: %d requests are cut off", s.busy.Load())
			code = 137
		}
	case code = <-s.exit:
		s.drain(time.Second)
	case err := <-broken:
		s.logf("error %v", err)
		code = 1
	}
	s.close()
	s.http.Close()
	s.closeSockets()
	served.Wait()
	s.guests.telling.Wait()
	return code
}

// Kill cuts off what a Run that is draining still waits for.
func (s *Server) Kill() {
	s.killed.Store(true)
	s.http.Close()
}

// drain answers what enters connections that are open, then stops to accept and lets requests under way finish; false if they
// did not in time.
func (s *Server) drain(grace time.Duration) bool {
	s.guests.leaving.Store(true)
	s.close()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	s.guests.leave(ctx, max(grace/4, min(lameDuck, grace-closing)))
	for _, p := range s.packets {
		p.Close()
	}
	for _, g := range s.listeners {
		g.clear(ctx)
	}
	return s.http.Shutdown(ctx) == nil && !s.killed.Load()
}

func (s *Server) logf(format string, args ...any) {
	// A full disk must not stop the server from answering; there is nowhere else to say so.
	_, _ = fmt.Fprintf(s.cfg.Log, format+"\n", args...)
}
