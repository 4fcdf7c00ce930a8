package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// doors are the sockets on the node's addresses, which change while the server runs.
type doors struct {
	mu    sync.Mutex
	open  func() error // nil: the server does not run
	at    []netip.Addr
	close func() // nil: none is open
}

// SetNodeAddrs follows the node's addresses.
func (s *Server) SetNodeAddrs(addrs []netip.Addr) error {
	addrs = unmapped(addrs)
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	s.nodeAddrs.Store(&addrs)
	if s.lan == nil {
		return nil
	}
	s.lan.move(addrs)
	if s.cfg.Ingresses != nil {
		s.lan.moveIngresses(s.cfg.Ingresses.GetStore())
	}
	if s.doors.open == nil {
		return nil
	}
	return s.doors.open()
}

// begin opens the doors of s, and has SetNodeAddrs move them, until shut.
func (d *doors) begin(ctx context.Context, s *Server) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = func() error { return d.reopen(ctx, s) }
	return d.open()
}

// reopen answers on the addresses that there are now instead of those before.
func (d *doors) reopen(ctx context.Context, s *Server) error {
	addrs := s.lanAddrs()
	if slices.Equal(addrs, d.at) {
		return nil
	}
	if d.at = nil; d.close != nil {
		d.close()
		d.close = nil
	}
	if len(addrs) == 0 {
		return nil
	}
	sockets, err := listen(ctx, addrs, s.cfg.Port, netip.AddrPort{})
	if err != nil {
		return fmt.Errorf("answering the LAN: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, sockets.close)
	var workers sync.WaitGroup
	s.serveOn(sockets, func(run func(context.Context) error) {
		workers.Go(func() { _ = run(ctx) }) // what ends it is the end of ctx
	})
	d.at = addrs
	d.close = func() {
		cancel()
		stop()
		sockets.close()
		workers.Wait()
		sockets.release()
	}
	return nil
}

func (d *doors) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open, d.at = nil, nil; d.close != nil {
		d.close()
		d.close = nil
	}
}

// serveOn has start run what answers on sockets.
func (s *Server) serveOn(sockets *sockets, start func(func(context.Context) error)) {
	for _, conn := range sockets.udp {
		start(func(ctx context.Context) error { return s.serveUDP(ctx, conn) })
	}
	for _, listener := range sockets.tcp {
		start(func(ctx context.Context) error { return s.serveTCP(ctx, listener) })
	}
}

// listenOn gives the cluster DNS addresses, and the node's if the LAN is served.
func (s *Server) listenOn() []netip.Addr { return slices.Concat(s.cfg.Addrs, s.lanAddrs()) }

// lanAddrs are the node's addresses that the LAN is served on.
func (s *Server) lanAddrs() (all []netip.Addr) {
	if s.lan == nil {
		return nil
	}
	for _, addr := range *s.nodeAddrs.Load() {
		if !slices.Contains(s.cfg.Addrs, addr) {
			all = append(all, addr)
		}
	}
	return all
}
