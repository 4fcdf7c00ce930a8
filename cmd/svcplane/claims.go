package main

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

// claims are what this process takes of the machine before it changes anything: the data directory, the API's
// port, the tools of the data plane. The ports of other rooms are tried, so that a taken one stops the start
// and not a half of it.
type claims struct {
	data *dataLock
	// addresses are the node's
	addresses *address.Source
	api       net.Listener
	plane     *switchover.Switch // nil without the proxy
	only      *net.UnixListener  // says that the network namespace has a service proxy; nil without one
	held      []net.Listener     // the ingress's, of a run that ended a moment ago
}

func (c *claims) release() {
	if c.api != nil {
		c.api.Close()
	}
	for _, l := range c.held {
		l.Close()
	}
	if c.only != nil {
		c.only.Close()
	}
	c.data.release()
}

// kubeletPort is where the node serves logs and exec to the API server (Kubernetes: "Ports and Protocols").
const kubeletPort = 10250

// flagAPI moves the API.
const flagAPI = "api-address"

// dnsPort is RFC 1035's.
const dnsPort = 53

func claim(ctx context.Context, cfg *Config, host Host) (*claims, error) {
	lock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := cfg.sameNode(host); err != nil {
		lock.release()
		return nil, err
	}
	c := &claims{data: lock, addresses: address.New(address.Config{Wish: cfg.Addresses, Doors: cfg.doors()}, host.Machine)}
	if err := c.take(ctx, cfg); err != nil {
		c.release()
		lock.abandon()
		return nil, err
	}
	return c, nil
}

func (c *claims) take(ctx context.Context, cfg *Config) error {
	var err error
	if c.api, err = listen(flagAPI, cfg.API); err != nil {
		return err
	}
	if c.held, err = takeSockets(cfg); err != nil {
		return err
	}
	if err := tryPorts(cfg, c.held); err != nil {
		return err
	}
	if cfg.Enabled(partProxy) {
		if c.only, err = claimPlane(", or start this one in a namespace of its own (ip netns) or with --disable proxy"); err != nil {
			return err
		}
		c.plane, err = openPlane(ctx, cfg)
	}
	return err
}

// hasIPv6 says whether the kernel has IPv6 at all (it may be off by ipv6.disable=1).
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// doors are the addresses that flags name for listeners.
func (c *Config) doors() []address.Door {
	doors := []address.Door{{Flag: "api-address", At: c.API}}
	if c.Enabled(partIngress) {
		doors = append(doors, address.Door{Flag: "ingress-http", At: c.HTTP}, address.Door{Flag: "ingress-https", At: c.HTTPS})
	}
	if c.Enabled(partProxy) && c.Proxy.Health.IsValid() {
		doors = append(doors, address.Door{Flag: "proxy-health-address", At: c.Proxy.Health})
	}
	for _, at := range c.Metrics {
		doors = append(doors, address.Door{Flag: flagMetrics, At: at})
	}
	return doors
}

func tryPorts(cfg *Config, held []net.Listener) error {
	for _, own := range cfg.sockets() {
		if own.Protocol != corev1.ProtocolTCP || own.Flag == flagAPI || holds(held, own.At) {
			continue
		}
		l, err := listen(own.Flag, own.At)
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}

// listen opens a TCP port, also on an address that the machine does not have yet.
func listen(flag string, at netip.AddrPort) (net.Listener, error) {
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
		// a holder that was told has the sockets for a moment yet
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

// holderPatience is how long a holder may take to end.
const holderPatience = 5 * time.Second

func takenBy(at netip.AddrPort) string {
	owner, ok := loadbalancer.PortOwner(at.Addr(), loadbalancer.PortKey{Port: at.Port(), Protocol: corev1.ProtocolTCP})
	if !ok {
		return ""
	}
	return " by " + owner
}
