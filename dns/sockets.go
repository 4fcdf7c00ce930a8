package dns

import (
	"bytes"
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

const (
	maxConns     = 256              // TCP connections at once
	maxPipelined = 16               // questions of one connection that wait
	idleTimeout  = 10 * time.Second // between questions on a TCP connection, RFC 7766 section 6.2.3
	maxReplyUDP  = 4096             // room for a reply before it is cut to what the asker takes
	udpBuffer    = 4 << 20          // octets that the kernel may queue per socket
)

// maxTurn is when a worker steps aside by itself. After 10 ms the runtime would make it, again and again: that it has
// waited in the kernel meanwhile does not count.
const maxTurn = 4 * time.Millisecond

// sockets are what a Server listens on: per address one TCP socket and one UDP socket per worker.
type sockets struct {
	udp  []*udpSocket
	tcp  []*net.TCPListener
	http net.Listener // nil: none
	once sync.Once
}

// udpSocket is a socket in blocking mode.
type udpSocket struct {
	fd   int
	addr string
}

// close wakes everybody who uses the sockets; release may follow when they are done. When it returns nobody is
// listening.
func (s *sockets) close() { s.once.Do(s.shut) }

func (s *sockets) shut() {
	for _, u := range s.udp {
		_ = unix.Shutdown(u.fd, unix.SHUT_RD) // not connected, it says, and wakes the reader
	}
	for _, l := range s.tcp {
		_ = l.Close()
	}
	if s.http != nil {
		_ = s.http.Close()
	}
}

func (s *sockets) release() {
	for _, u := range s.udp {
		_ = unix.Close(u.fd)
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
			s.abandon()
			return nil, listenError(at, "tcp", err)
		}
		s.tcp = append(s.tcp, listener.(*net.TCPListener))
		for range udpWorkers() {
			conn, err := shared.ListenPacket(ctx, "udp", at)
			if err != nil {
				s.abandon()
				return nil, listenError(at, "udp", err)
			}
			udp, err := blocking(conn.(*net.UDPConn))
			if err != nil {
				s.abandon()
				return nil, fmt.Errorf("listening on %s/udp: %w", at, err)
			}
			s.udp = append(s.udp, udp)
		}
	}
	return s, nil
}

// udpWorkers is how many share the datagrams of an address. One processor is left over: as long as one is idle, the
// runtime lets a goroutine that waits in the kernel keep its own, and its monitor sleeps.
func udpWorkers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

func (s *sockets) abandon() {
	s.close()
	s.release()
}

// blocking takes a socket away from the runtime's poller. (UDPConn.File would not: what it returns is with the poller
// again, which then wakes a thread for every datagram that nobody waits for there.)
func blocking(conn *net.UDPConn) (*udpSocket, error) {
	defer conn.Close()
	_ = conn.SetReadBuffer(udpBuffer) // the kernel's limit (net.core.rmem_max) may keep it smaller
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	own, failed := -1, error(nil)
	if err := raw.Control(func(fd uintptr) { own, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	if err := unix.SetNonblock(own, false); err != nil {
		_ = unix.Close(own)
		return nil, err
	}
	return &udpSocket{fd: own, addr: conn.LocalAddr().String()}, nil
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
func (s *Server) serveUDP(ctx context.Context, socket *udpSocket) error {
	var waiters sync.WaitGroup
	defer waiters.Wait()
	b, w, t := newBatch(socket), new(scratch), s.newWorkerTally()
	var turn time.Time
	for {
		if time.Since(turn) > maxTurn {
			runtime.Gosched()
			turn = time.Now()
		}
		err := s.serveBatch(ctx, b, w, t, &waiters)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("serving %s: %w", socket.addr, err)
		}
	}
}

// serveBatch waits for questions and answers them; waiters answer those that have to wait. It allocates nothing for
// the others.
func (s *Server) serveBatch(ctx context.Context, b *batch, w *scratch, t *tally, waiters *sync.WaitGroup) error {
	n, err := b.read()
	if err != nil || ctx.Err() != nil {
		return err
	}
	began := time.Now()
	for i := range n {
		from := b.asker(i)
		w.from = from.Addr()
		reply, later := s.respond(b.replies[i][:0], b.request(i), w, false)
		if later {
			msg := bytes.Clone(b.request(i))
			waiters.Go(func() { b.socket.send(s.wait(ctx, msg, from.Addr(), false), from) })
			continue
		}
		b.reply(i, reply)
		s.record(t, w, reply, false, began)
	}
	b.flush()
	t.left(time.Since(began))
	return nil
}

// send tries once: an asker that is gone or a full queue is no reason to do anything else.
func (u *udpSocket) send(reply []byte, to netip.AddrPort) {
	if len(reply) == 0 {
		return
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: v4(to.Addr())}
	if to.Addr().Is6() {
		zone, _ := strconv.Atoi(to.Addr().Zone()) // of a link-local asker, put there by asker
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16(), ZoneId: uint32(zone)}
	}
	_ = unix.Sendto(u.fd, reply, unix.MSG_DONTWAIT, sa)
}

func v4(addr netip.Addr) (b [4]byte) {
	if addr.Is4() {
		b = addr.As4()
	}
	return b
}

// serveTCP answers on the connections of one listener until it is closed. For one over the limit, which all listeners share,
// the one that has been silent longest goes; if all are busy, it waits.
func (s *Server) serveTCP(ctx context.Context, listener *net.TCPListener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			pause(ctx, 50*time.Millisecond) // out of descriptors or memory: it passes
			continue
		}
		if !s.takePlace(ctx) {
			conn.Close()
			return nil
		}
		conns.Go(func() {
			defer func() { <-s.conns }()
			s.serveConn(ctx, conn)
		})
	}
}

// takePlace takes a token of conns; false when ctx ends first.
func (s *Server) takePlace(ctx context.Context) bool {
	for ctx.Err() == nil {
		select {
		case s.conns <- struct{}{}:
			return true
		default:
			s.unasking.makeRoom()
		}
		select {
		case s.conns <- struct{}{}:
			return true
		case <-time.After(10 * time.Millisecond): // all were busy, or had come just now
		case <-ctx.Done():
		}
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// serveConn answers the questions of one connection until it is idle or closed. What has to wait holds up nobody: answers
// come in the order in which they are known (RFC 7766 section 6.2.1.1), also to one who has closed his half.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var waiters sync.WaitGroup
	defer waiters.Wait()
	free := make(chan struct{}, maxPipelined)
	from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	w := &scratch{from: from.Addr().Unmap()}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleTimeout))
		var waits *list.Element // nil: it is we who owe an answer
		if len(free) == 0 {
			waits = s.unasking.begin(conn)
		}
		msg, err := readFramed(conn)
		if s.unasking.end(waits); err != nil {
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
		if !later {
			s.record(s.slow, w, reply, true, began)
			s.slow.zones[w.a.zone].latency[fromMemory].observe(time.Since(began), 1)
			if len(reply) == 0 || writeFramed(conn, reply) != nil {
				return // not a question: nothing good will follow
			}
			continue
		}
		answer := func() {
			if writeFramed(conn, s.wait(ctx, msg, w.from, true)) != nil {
				_ = conn.Close()
			}
		}
		if len(msg) > maxRequest { // nobody's: it shall not take 16 times its memory
			answer()
			continue
		}
		free <- struct{}{}
		waiters.Go(func() { defer func() { <-free }(); answer() })
	}
}

// writeFramed sends one message over TCP. Several may call it at once: a connection takes one write after the other.
func writeFramed(conn net.Conn, msg []byte) error {
	_ = conn.SetWriteDeadline(time.Now().Add(idleTimeout))
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...))
	return err
}
