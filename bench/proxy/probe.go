package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers in a pod's namespace: a letter on the two ports that Services lead to, a stream on the third.
func serve(pod place) (closeAll func(), err error) {
	var listeners []net.Listener
	closeAll = func() {
		for _, l := range listeners {
			l.Close()
		}
	}
	for port, answer := range map[int]func(net.Conn){portOld: letter("o"), portNew: letter("n"), portStream: stream} {
		err := pod.do(func() error {
			l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
			if err == nil {
				listeners = append(listeners, l)
				go accept(l, answer)
			}
			return err
		})
		if err != nil {
			closeAll()
			return nil, err
		}
	}
	return closeAll, nil
}

func accept(l net.Listener, answer func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go answer(conn)
		}
	}
}

func letter(text string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		_, _ = conn.Write([]byte(text))
		_, _ = conn.Read(make([]byte, 1)) // until the client is done
	}
}

func stream(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 128<<10)
	for {
		if _, err := conn.Write(buffer); err != nil {
			return
		}
	}
}

// dial connects with bare system calls and returns the socket and how long connect(2) took.
func dial(to netip.AddrPort, patience time.Duration) (fd int, took time.Duration, err error) {
	return dialFrom(to, nil, patience)
}

// dialFrom does it from an address of the client's choice, if it has one.
func dialFrom(to netip.AddrPort, from *unix.SockaddrInet4, patience time.Duration) (fd int, took time.Duration, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	limit := unix.NsecToTimeval(int64(patience))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit), // bounds connect
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		// a reset at the end: neither side keeps the port
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	if err == nil && from != nil {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), unix.Bind(fd, from))
	}
	if err == nil {
		began := time.Now()
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		if errors.Is(err, unix.EINTR) { // by the runtime's own signals; the kernel goes on
			err = finish(fd, patience)
		}
		took = time.Since(began)
	}
	if err != nil {
		unix.Close(fd)
		return 0, 0, err
	}
	return fd, took, nil
}

// finish waits for a connect that was interrupted.
func finish(fd int, patience time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		switch n, err := unix.Poll(fds, int(patience.Milliseconds())); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		default:
			code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			return err
		}
	}
}

// ask returns the letter that a Service answers with, 0 when it does not.
func ask(to netip.AddrPort) byte {
	fd, _, err := dial(to, 200*time.Millisecond)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var b [1]byte
	for {
		n, err := unix.Read(fd, b[:])
		if n == 1 && err == nil {
			return b[0]
		}
		if !errors.Is(err, unix.EINTR) {
			return 0
		}
	}
}

// await asks until the letter comes.
func await(ctx context.Context, to netip.AddrPort, want byte, deadline time.Time) error {
	for ask(to) != want {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not answer with %q in time", to, want)
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

// connects returns how long each of n connects took.
func connects(client place, to netip.AddrPort, n int) (all []time.Duration, err error) {
	return all, client.do(func() error {
		for range n {
			fd, took, err := dial(to, time.Second)
			if err != nil {
				return fmt.Errorf("connecting to %s: %w", to, err)
			}
			_, _ = unix.Read(fd, make([]byte, 1)) // see rate
			unix.Close(fd)
			all = append(all, took)
		}
		return nil
	})
}

// rate is how many connections per second several clients make.
func rate(client place, to netip.AddrPort, period time.Duration) (float64, error) {
	const clients = 4
	var count atomic.Int64
	ready, begin, done := make(chan struct{}), make(chan struct{}), make(chan error)
	var began time.Time
	for range clients {
		go func() {
			done <- client.do(func() error {
				ready <- struct{}{}
				<-begin
				for time.Since(began) < period {
					// the answer is waited for, so that the queue of the listener does not overflow
					if ask(to) != 0 {
						count.Add(1)
					}
				}
				return nil
			})
		}()
	}
	var errs []error
	left := clients
	for range clients {
		select {
		case <-ready:
		case err := <-done:
			errs, left = append(errs, err), left-1
		}
	}
	began = time.Now()
	close(begin)
	for range left {
		errs = append(errs, <-done)
	}
	return float64(count.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

// throughput is the Gbit/s of one connection.
func throughput(client place, to netip.AddrPort, period time.Duration) (gbits float64, err error) {
	return gbits, client.do(func() error {
		fd, _, err := dial(to, time.Second)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		buffer := make([]byte, 256<<10)
		total, began := 0, time.Now()
		for time.Since(began) < period {
			n, err := unix.Read(fd, buffer)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n == 0 {
				return fmt.Errorf("the stream of %s ended: %w", to, err)
			}
			total += n
		}
		gbits = float64(total) * 8 / 1e9 / time.Since(began).Seconds()
		return nil
	})
}

// quantile of samples, which it sorts; 0.5 is the median.
func quantile[T time.Duration | float64](samples []T, q float64) T {
	if len(samples) == 0 {
		return 0
	}
	slices.Sort(samples)
	return samples[min(len(samples)-1, int(q*float64(len(samples))))]
}
