package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

// answerPatience is how long an answer may be under way to a socket that asked before this data plane began to drain.
const answerPatience = 30 * time.Second

// Left counts connections in map flows, and UDP sockets whose peer's name the programs translate.
// A TCP socket has its endpoint's address and needs nothing any more.
func (d *Dataplane) Left(_ context.Context, _ proxy.Table) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return 0, nil
	}
	all, err := d.kernel.read(mapFlows)
	if err != nil {
		return 0, err
	}
	left := 0
	for key, value := range all {
		if t, ok := trackedOf(key, value); ok && !ended([]byte(value), []byte(all[t.back()]), t.protocol) {
			left++
		}
	}
	sockets, err := d.socketsLeft()
	return left + sockets, err
}

func (d *Dataplane) socketsLeft() (int, error) {
	peers, err := d.kernel.read(mapSocketRevnat)
	if err != nil {
		return 0, err
	}
	endpoints := map[uint64][]netip.AddrPort{}
	for key, value := range peers {
		if value[18] == unix.IPPROTO_UDP {
			cookie := native.Uint64([]byte(key))
			endpoints[cookie] = append(endpoints[cookie], getAddrPort([]byte(key)[8:]))
		}
	}
	if len(endpoints) == 0 {
		return 0, nil
	}
	answers := time.Since(d.draining) < d.patience
	left := 0
	err = d.eachSocket(unix.IPPROTO_UDP, func(s *netlink.Socket) error {
		asked := endpoints[cookieOfSocket(s)]
		if connected := s.ID.DestinationPort != 0; connected && slices.Contains(asked, remote(s)) || !connected && len(asked) > 0 && answers {
			left++
		}
		return nil
	})
	return left, err
}

func cookieOfSocket(s *netlink.Socket) uint64 {
	return uint64(s.ID.Cookie[0]) | uint64(s.ID.Cookie[1])<<32
}

func remote(s *netlink.Socket) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(s.ID.Destination)
	return netip.AddrPortFrom(addr.Unmap(), s.ID.DestinationPort)
}

// eachSocket calls f for the sockets of a protocol in this node's namespace and in all pods', each on a thread in its
// namespace.
func (d *Dataplane) eachSocket(protocol byte, f func(*netlink.Socket) error) error {
	paths, err := d.cfg.Namespaces()
	if err != nil {
		return fmt.Errorf("listing the network namespaces of pods: %w", err)
	}
	for _, path := range append(paths, "/proc/thread-self/ns/net") {
		if err := eachSocketIn(path, protocol, f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("going through the sockets of network namespace %s (needs CONFIG_INET_TCP_DIAG and CONFIG_INET_UDP_DIAG): %w", path, err)
		}
	}
	return nil
}

func eachSocketIn(path string, protocol byte, f func(*netlink.Socket) error) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if err = netns.Set(netns.NsHandle(file.Fd())); err != nil {
			return
		}
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			list := netlink.SocketDiagUDP
			if protocol == unix.IPPROTO_TCP {
				list = netlink.SocketDiagTCP
			}
			var all []*netlink.Socket
			if all, err = list(family); err != nil {
				return
			}
			for _, s := range all {
				if err = f(s); err != nil {
					return
				}
			}
		}
	}()
	<-done
	return err
}
