package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/address"
	"svcplane/controllers/loadbalancer"
	"svcplane/proxy/switchover"
)

// reservation is what this process takes of the machine before it changes anything: the data directory, the API's
// port, the tools of the data plane. The ports of other parts are tried, so that a taken one stops the start
// and not a half of it.
type reservation struct {
	data      *dataLock
	addresses *address.Source // the node's
	api       net.Listener
	planes    *switchover.Switch // nil without the proxy
	exclusive *net.UnixListener  // says that the network namespace has a service proxy; nil without one
	inherited []net.Listener     // the ingress's, of a run that ended a moment ago
}

func (r *reservation) release() {
	if r.api != nil {
		r.api.Close()
	}
	for _, l := range r.inherited {
		l.Close()
	}
	if r.exclusive != nil {
		r.exclusive.Close()
	}
	r.data.release()
}

// kubeletPort is where the node serves logs and exec to the API server (Kubernetes: "Ports and Protocols").
const kubeletPort = 10250

// dnsPort is RFC 1035's.
const dnsPort = 53

// reserve takes all of it, or nothing.
func reserve(ctx context.Context, cfg *Config, host Host) (*reservation, error) {
	lock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := cfg.sameNode(host); err != nil {
		lock.release()
		return nil, err
	}
	r := &reservation{data: lock, addresses: address.New(address.Config{Wish: cfg.Addresses, FlagAddresses: cfg.flagAddresses()}, host.Machine)}
	if err := r.take(ctx, cfg); err != nil {
		r.release()
		lock.abandon()
		return nil, err
	}
	return r, nil
}

func (r *reservation) take(ctx context.Context, cfg *Config) error {
	var err error
	if r.api, err = listenOn(flagAPI, cfg.API); err != nil {
		return err
	}
	if r.inherited, err = takeSockets(cfg); err != nil {
		return err
	}
	if err := tryPorts(cfg, r.inherited); err != nil {
		return err
	}
	if cfg.Enabled(PartProxy) {
		if r.exclusive, err = onlyProxy(", or start this one in a namespace of its own (ip netns) or with --disable proxy"); err != nil {
			return err
		}
		r.planes, err = openPlanes(ctx, cfg)
	}
	return err
}

// flagAddresses are the addresses that flags name for listeners.
func (c *Config) flagAddresses() []address.FlagAddress {
	all := []address.FlagAddress{{Flag: flagAPI, At: c.API}}
	if c.Enabled(PartIngress) {
		all = append(all, address.FlagAddress{Flag: "ingress-http", At: c.HTTP}, address.FlagAddress{Flag: "ingress-https", At: c.HTTPS})
	}
	if c.Enabled(PartProxy) && c.Proxy.Health.IsValid() {
		all = append(all, address.FlagAddress{Flag: "proxy-health-address", At: c.Proxy.Health})
	}
	for _, at := range c.Metrics {
		all = append(all, address.FlagAddress{Flag: flagMetrics, At: at})
	}
	return all
}

func tryPorts(cfg *Config, inherited []net.Listener) error {
	for _, own := range cfg.sockets() {
		if own.Protocol != corev1.ProtocolTCP || own.Flag == flagAPI || among(inherited, own.At) {
			continue
		}
		l, err := listenOn(own.Flag, own.At)
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}

// among says whether one of the listeners is at an address.
func among(listeners []net.Listener, at netip.AddrPort) bool {
	for _, l := range listeners {
		if have, err := netip.ParseAddrPort(l.Addr().String()); err == nil && have.Port() == at.Port() && sameAddr(have.Addr(), at.Addr()) {
			return true
		}
	}
	return false
}

// sameAddr: a socket for 0.0.0.0 calls itself ::, because it may be both.
func sameAddr(a, b netip.Addr) bool {
	return a.Unmap() == b.Unmap() || a.IsUnspecified() && b.IsUnspecified()
}

// listenOn opens a TCP port, also on an address that the machine does not have yet.
func listenOn(flag string, at netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var inner error
		err := rc.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(err, inner)
	}}
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp"
	}
	l, err := lc.Listen(context.Background(), network, at.String())
	if errors.Is(err, unix.EADDRINUSE) {
		freed, _ := freePort(at.Port())
		// a holder that was asked to give the sockets up has them for a moment yet
		for end := time.Now().Add(holderPatience); freed && errors.Is(err, unix.EADDRINUSE) && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
			l, err = lc.Listen(context.Background(), network, at.String())
		}
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("--%s %s: the port is taken%s: stop that or choose another address", flag, at, takenBy(at))
	}
	if err != nil {
		return nil, fmt.Errorf("--%s %s: %w", flag, at, err)
	}
	return l, nil
}

// holderPatience is how long the process that keeps the sockets of an ingress that has ended may take to end itself.
const holderPatience = 5 * time.Second

func takenBy(at netip.AddrPort) string {
	owner, ok := loadbalancer.PortOwner(at.Addr(), loadbalancer.PortKey{Port: at.Port(), Protocol: corev1.ProtocolTCP})
	if !ok {
		return ""
	}
	return " by " + owner
}

// hasIPv6 says whether the kernel has IPv6 at all (it may be off by ipv6.disable=1).
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}
