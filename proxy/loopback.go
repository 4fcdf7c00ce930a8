package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// loopbacks serve NodePorts on 127.0.0.1 and ::1 in user space, on request. The kernel could translate loopback
// addresses only with route_localnet, which lets neighbours on the link reach what listens on loopback
// (CVE-2020-8558). What comes in goes out again to the node's own address, where the data plane balances it.
type loopbacks struct {
	open map[catalog.Key]map[Address]*relay
}

// datagramPause ends the relay of a UDP client that has been silent.
const datagramPause = time.Minute

// wanted lists what a Service is to have on loopback, and where it leads.
func (l *loopbacks) wanted(svc *catalog.Service, node Node) map[Address]netip.AddrPort {
	all := map[Address]netip.AddrPort{}
	if svc == nil || svc.ForeignProxy {
		return all
	}
	for _, port := range svc.Ports {
		if port.NodePort == 0 || port.Protocol == corev1.ProtocolSCTP {
			continue
		}
		for _, addr := range node.Addrs {
			loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
			if addr.Is6() {
				loopback = netip.IPv6Loopback()
			}
			at := Address{AddrPort: netip.AddrPortFrom(loopback, port.NodePort), Protocol: port.Protocol}
			if _, known := all[at]; !known {
				all[at] = netip.AddrPortFrom(addr, port.NodePort)
			}
		}
	}
	return all
}

// set opens and closes what differs; svc is nil when there is none any more.
func (l *loopbacks) set(key catalog.Key, svc *catalog.Service, node Node) error {
	wanted := l.wanted(svc, node)
	for at, r := range l.open[key] {
		if wanted[at] != r.to { // the node's address changes
			r.Close()
			delete(l.open[key], at)
		}
	}
	var problems []error
	for at, to := range wanted {
		if l.open[key][at] != nil {
			continue
		}
		opened, err := openRelay(at, to)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if l.open[key] == nil {
			l.open[key] = map[Address]*relay{}
		}
		l.open[key][at] = opened
	}
	if len(l.open[key]) == 0 {
		delete(l.open, key)
	}
	return errors.Join(problems...)
}

func (l *loopbacks) close() {
	for key, all := range l.open {
		for _, closer := range all {
			closer.Close()
		}
		delete(l.open, key)
	}
}

// relay carries connections, or datagrams, from one address to another until Close.
type relay struct {
	to   netip.AddrPort
	stop context.CancelFunc
	own  io.Closer
	wg   sync.WaitGroup
}

// Close ends the relay and everything that passes through it.
func (r *relay) Close() error {
	r.stop()
	err := r.own.Close()
	r.wg.Wait()
	return err
}

func openRelay(at Address, to netip.AddrPort) (*relay, error) {
	ctx, stop := context.WithCancel(context.Background())
	r := &relay{to: to, stop: stop}
	network := strings.ToLower(string(at.Protocol))
	if at.Protocol == corev1.ProtocolUDP {
		conn, err := net.ListenPacket(network, at.AddrPort.String())
		if err != nil {
			stop()
			return nil, fmt.Errorf("listening on %s: %w", at, err)
		}
		r.own = conn
		r.wg.Go(func() { r.datagrams(ctx, conn, to) })
		return r, nil
	}
	listener, err := net.Listen(network, at.AddrPort.String())
	if err != nil {
		stop()
		return nil, fmt.Errorf("listening on %s: %w", at, err)
	}
	r.own = listener
	r.wg.Go(func() { r.connections(ctx, listener, to) })
	return r, nil
}

func (r *relay) connections(ctx context.Context, listener net.Listener, to netip.AddrPort) {
	for {
		client, err := listener.Accept()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no file descriptors left
			continue
		}
		r.wg.Go(func() { carry(ctx, client, to) })
	}
}

// carry joins a client to a connection of its own, each direction until its end.
func carry(ctx context.Context, client net.Conn, to netip.AddrPort) {
	defer client.Close()
	server, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		if tcp, ok := client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset says more than an end
		}
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		wg.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // either side may go at any time
			if tcp, ok := way[1].(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
		})
	}
	wg.Wait()
}

// datagrams gives each client a socket of its own, so that its datagrams are one flow.
func (r *relay) datagrams(ctx context.Context, own net.PacketConn, to netip.AddrPort) {
	var mu sync.Mutex
	servers := map[string]net.Conn{}
	buffer := make([]byte, 64<<10)
	for {
		n, client, err := own.ReadFrom(buffer)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			continue
		}
		mu.Lock()
		server := servers[client.String()]
		if server == nil {
			if server, err = net.Dial("udp", to.String()); err != nil {
				mu.Unlock()
				continue
			}
			servers[client.String()] = server
			r.wg.Go(func() {
				stop := context.AfterFunc(ctx, func() { server.Close() })
				defer stop()
				answers(server, own, client)
				mu.Lock()
				delete(servers, client.String())
				mu.Unlock()
				server.Close()
			})
		}
		mu.Unlock()
		_, _ = server.Write(buffer[:n]) // UDP promises nothing
	}
}

func answers(server net.Conn, own net.PacketConn, client net.Addr) {
	buffer := make([]byte, 64<<10)
	for {
		if err := server.SetReadDeadline(time.Now().Add(datagramPause)); err != nil {
			return
		}
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		_, _ = own.WriteTo(buffer[:n], client)
	}
}
