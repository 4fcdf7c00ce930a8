package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

const (
	maxConns    = 256              // TCP connections at once
	idleTimeout = 10 * time.Second // between questions on a TCP connection, RFC 7766 section 6.2.3
	maxReplyUDP = 4096             // room for a reply before it is cut to what the asker takes
	udpBuffer   = 4 << 20          // octets that the kernel may queue per socket
)

// sockets are what a Server listens on: per address one TCP socket and one UDP socket per core.
type sockets struct {
	udp  []*net.UDPConn
	tcp  []*net.TCPListener
	http net.Listener // nil: none
}

func (s *sockets) close() {
	for _, c := range s.udp {
		_ = c.Close()
	}
	for _, l := range s.tcp {
		_ = l.Close()
	}
	if s.http != nil {
		_ = s.http.Close()
	}
}

// listen binds exactly the given addresses, so that answers leave from the one that was asked. TCP goes first:
// it cannot share the port, so a second server fails there.
func listen(ctx context.Context, addrs []netip.Addr, port uint16, http netip.AddrPort) (*sockets, error) {
	s := &sockets{}
	shared := net.ListenConfig{Control: reusePort}
	if http.IsValid() {
		var err error
		if s.http, err = new(net.ListenConfig).Listen(ctx, "tcp", http.String()); err != nil {
			return nil, fmt.Errorf("listening on %s for health checks, choose another --dns-http: %w", http, errors.Unwrap(errors.Unwrap(err)))
		}
	}
	for _, addr := range addrs {
		at := netip.AddrPortFrom(addr, port).String()
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
		if err != nil {
			s.close()
			return nil, listenError(at, "tcp", err)
		}
		s.tcp = append(s.tcp, listener.(*net.TCPListener))
		for range runtime.GOMAXPROCS(0) {
			conn, err := shared.ListenPacket(ctx, "udp", at)
			if err != nil {
				s.close()
				return nil, listenError(at, "udp", err)
			}
			udp := conn.(*net.UDPConn)
			_ = udp.SetReadBuffer(udpBuffer) // the kernel's limit (net.core.rmem_max) may keep it smaller
			s.udp = append(s.udp, udp)
		}
	}
	return s, nil
}

func reusePort(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, failed)
}

func listenError(at, network string, err error) error {
	remedy := "check the address"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "another name server holds the port, perhaps on all addresses: find it with `ss -lnp 'sport = :53'`, and stop it, bind it to its own address, or choose another --dns-ip"
	case errors.Is(err, syscall.EACCES):
		remedy = "run as root or with CAP_NET_BIND_SERVICE"
	}
	return fmt.Errorf("listening on %s/%s: %w; %s", at, network, errors.Unwrap(errors.Unwrap(err)), remedy)
}

// serveUDP answers on one socket until it is closed.
func (s *Server) serveUDP(ctx context.Context, conn *net.UDPConn) error {
	var waiters sync.WaitGroup
	defer waiters.Wait()
	b, err := newBatch(conn)
	if err != nil {
		return fmt.Errorf("serving %s: %w", conn.LocalAddr(), err)
	}
	w, t := new(scratch), s.newWorkerTally()
	for {
		n, err := b.read()
		began, answered := time.Now(), uint64(0)
		for i := range n {
			from := b.asker(i)
			w.from = from.Addr()
			reply, later := s.respond(b.replies[i][:0], b.request(i), w, false)
			if later {
				msg := bytes.Clone(b.request(i))
				waiters.Go(func() { send(conn, s.wait(ctx, msg, from.Addr(), false), from) })
				continue
			}
			b.reply(i, reply)
			s.record(t, w, reply, false, began)
			answered++
		}
		if err == nil {
			err = b.flush()
		}
		t.memory.observe(time.Since(began), answered) // all of a batch leave together
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default:
			return fmt.Errorf("serving %s: %w", conn.LocalAddr(), err)
		}
	}
}

// send tries once: an asker that is gone or a full queue is no reason to do anything else.
func send(conn *net.UDPConn, reply []byte, to netip.AddrPort) {
	if len(reply) > 0 {
		_, _ = conn.WriteToUDPAddrPort(reply, to)
	}
}

// serveTCP answers on the connections of one listener until it is closed; more than maxConns wait in its queue.
func (s *Server) serveTCP(ctx context.Context, listener *net.TCPListener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	free := make(chan struct{}, maxConns)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			<-free
			pause(ctx, 50*time.Millisecond) // out of descriptors or memory: it passes
			continue
		}
		conns.Go(func() {
			defer func() { <-free }()
			s.serveConn(ctx, conn)
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// serveConn answers the questions of one connection in their order, until it is idle or closed.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	w := &scratch{from: from.Addr().Unmap()}
	var length [2]byte
	for {
		_ = conn.SetDeadline(time.Now().Add(idleTimeout))
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, msg); err != nil {
			return
		}
		if done, err := s.transfer(conn, msg, w); err != nil {
			klog.V(2).InfoS("DNS zone not transferred", "reason", err)
			return
		} else if done {
			continue
		}
		began := time.Now()
		reply, later := s.respond(nil, msg, w, true)
		if later {
			reply = s.wait(ctx, msg, w.from, true)
		} else {
			s.record(s.slow, w, reply, true, began)
			s.slow.memory.observe(time.Since(began), 1)
		}
		if len(reply) == 0 {
			return // not a question: nothing good will follow
		}
		_ = conn.SetDeadline(time.Now().Add(idleTimeout))
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}
