package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// One thread on one processor plays both ends of an exchange, the client in its namespace and the server in the pod's:
// nobody has to be woken, everything is where it is needed when it is asked for, and what is left is what the path
// between the two costs. How fast it is with processes that wait for each other is row (b).

// ends are the pod's sockets. They are not polled by the runtime.
type ends struct{ tcp, udp int }

// question and answer are as long as those of DNS often are.
const question, answer = 40, 90

// openEnds makes the pod's sockets; call it in the pod's namespace.
func openEnds() (e ends, err error) {
	e.tcp, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return e, err
	}
	e.udp, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(e.tcp)
		return e, err
	}
	second := unix.NsecToTimeval(int64(time.Second))
	err = errors.Join(
		unix.SetsockoptTimeval(e.tcp, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second), // bounds accept
		unix.Bind(e.tcp, &unix.SockaddrInet4{Port: portExchange}), unix.Listen(e.tcp, 64),
		unix.SetsockoptTimeval(e.udp, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second),
		unix.SetsockoptInt(e.udp, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		unix.Bind(e.udp, &unix.SockaddrInet4{Port: portDNS}))
	if err != nil {
		e.close()
	}
	return e, err
}

func (e ends) close() {
	unix.Close(e.tcp)
	unix.Close(e.udp)
}

// alone keeps the calling thread, which must be locked, on the last processor, before whatever else wants it.
func alone() error {
	var all, last unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) {
			last.Zero()
			last.Set(cpu)
		}
	}
	return errors.Join(unix.SchedSetaffinity(0, &last), unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20))
}

// again repeats a system call that a signal of the runtime has interrupted.
func again[T any](call func() (T, error)) (T, error) {
	for {
		got, err := call()
		if !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
}

// open makes a connection to one of the pod's endpoints, from an address of the client's own if from is given.
func (e ends) open(to netip.AddrPort, from *unix.SockaddrInet4) (client, server int, took time.Duration, err error) {
	client, took, err = dialFrom(to, from, time.Second)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("connecting to %s: %w", to, err)
	}
	server, err = again(func() (int, error) {
		fd, _, err := unix.Accept4(e.tcp, unix.SOCK_CLOEXEC) // with the client's address, as servers want it
		return fd, err
	})
	if err != nil {
		unix.Close(client)
		return 0, 0, 0, fmt.Errorf("accepting what was dialled at %s: %w", to, err)
	}
	return client, server, took, nil
}

// transfer writes to one end and reads all of it at the other.
func transfer(from, to int, message, buffer []byte) error {
	if _, err := again(func() (int, error) { return unix.Write(from, message) }); err != nil {
		return err
	}
	for left := len(message); left > 0; {
		n, err := again(func() (int, error) { return unix.Read(to, buffer) })
		if err != nil || n <= 0 {
			return errors.Join(errors.New("the other end is silent"), err)
		}
		left -= n
	}
	return nil
}

// connecting is the median time of connect(2), in microseconds.
func (e ends) connecting(to netip.AddrPort, n int) (float64, error) {
	all := make([]time.Duration, n)
	for i := range all {
		client, server, took, err := e.open(to, nil)
		if err != nil {
			return 0, err
		}
		unix.Close(client)
		unix.Close(server)
		all[i] = took
	}
	slices.Sort(all)
	return float64(all[n/2].Nanoseconds()) / 1000, nil
}

// requesting is how many connections with a question and an answer fit into a second.
func (e ends) requesting(to netip.AddrPort, period time.Duration, from func(n int) *unix.SockaddrInet4) (float64, error) {
	message, buffer := make([]byte, answer), make([]byte, answer)
	return perSecond(period, func(n int) error {
		client, server, _, err := e.open(to, from(n))
		if err != nil {
			return err
		}
		err = errors.Join(transfer(client, server, message[:question], buffer), transfer(server, client, message, buffer))
		unix.Close(client) // first: it resets the connection, and nobody keeps the port
		unix.Close(server)
		return err
	})
}

// perSecond is how many fit into a second of those that take usual time: the slowest tenth is where somebody else had
// the processor.
func perSecond(period time.Duration, once func(n int) error) (float64, error) {
	laps := make([]time.Duration, 0, 1<<15)
	for began, last := time.Now(), time.Duration(0); last < period; {
		if err := once(len(laps)); err != nil {
			return 0, err
		}
		now := time.Since(began)
		laps = append(laps, now-last)
		last = now
	}
	slices.Sort(laps)
	usual := laps[:(9*len(laps)+9)/10]
	var sum time.Duration
	for _, lap := range usual {
		sum += lap
	}
	return float64(len(usual)) / sum.Seconds(), nil
}

// datagram is what the pod got, and how it answers from the very address that was asked.
type datagram struct {
	peer    unix.RawSockaddrInet4
	control [64]byte
	iov     unix.Iovec
	header  unix.Msghdr
	data    [512]byte
}

// answer receives a question and answers it.
func (d *datagram) answer(fd int) error {
	d.iov = unix.Iovec{Base: &d.data[0], Len: uint64(len(d.data))}
	d.header = unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&d.peer)), Namelen: uint32(unsafe.Sizeof(d.peer)), Iov: &d.iov, Iovlen: 1,
		Control: &d.control[0], Controllen: uint64(len(d.control)),
	}
	call := func(number uintptr) error {
		_, err := again(func() (struct{}, error) {
			if _, _, code := unix.Syscall(number, uintptr(fd), uintptr(unsafe.Pointer(&d.header)), 0); code != 0 {
				return struct{}{}, code
			}
			return struct{}{}, nil
		})
		return err
	}
	if err := call(unix.SYS_RECVMSG); err != nil {
		return fmt.Errorf("waiting for a question: %w", err)
	}
	d.iov.Len = answer
	// what the kernel has told of the packet says where the answer comes from; the link is found by routing
	info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&d.control[unix.CmsgLen(0)]))
	info.Ifindex = 0
	return call(unix.SYS_SENDMSG)
}

// asker is a connected UDP socket.
func asker(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	second := unix.NsecToTimeval(int64(time.Second))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second),
		unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}))
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

// ask sends a question, answers it and takes the answer.
func (e ends) ask(fd int, to netip.AddrPort, d *datagram, buffer []byte) error {
	if _, err := again(func() (int, error) { return unix.Write(fd, buffer[:question]) }); err != nil {
		return fmt.Errorf("asking %s: %w", to, err)
	}
	if err := d.answer(e.udp); err != nil {
		return err
	}
	if _, err := again(func() (int, error) { return unix.Read(fd, buffer) }); err != nil {
		return fmt.Errorf("waiting for the answer of %s: %w", to, err)
	}
	return nil
}

// resolving is exchanges per second with a new socket for each, as a resolver makes them.
func (e ends) resolving(to netip.AddrPort, period time.Duration) (float64, error) {
	d, buffer := new(datagram), make([]byte, 512)
	return perSecond(period, func(int) error {
		fd, err := asker(to)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return e.ask(fd, to, d, buffer)
	})
}

// conversing is exchanges per second over one connected socket.
func (e ends) conversing(to netip.AddrPort, period time.Duration) (float64, error) {
	fd, err := asker(to)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	d, buffer := new(datagram), make([]byte, 512)
	return perSecond(period, func(int) error { return e.ask(fd, to, d, buffer) })
}

// moving is the Gbit/s of one connection from the pod.
func (e ends) moving(to netip.AddrPort, period time.Duration) (float64, error) {
	client, server, _, err := e.open(to, nil)
	if err != nil {
		return 0, err
	}
	defer unix.Close(server)
	defer unix.Close(client)
	message, buffer := make([]byte, 32<<10), make([]byte, 32<<10)
	messages, err := perSecond(period, func(int) error { return transfer(server, client, message, buffer) })
	return messages * float64(len(message)) * 8 / 1e9, err
}
