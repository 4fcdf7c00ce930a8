package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// observePorts reports NodePorts that a process on this node has open: its clients from outside meet the Service
// instead of it. p.mu is held.
func (p *Proxy) observePorts(keys []catalog.Key) {
	for _, key := range keys {
		var taken []string
		for _, addr := range p.ledger.claims[key].addresses() {
			if slices.Contains(p.node.Addrs, addr.Addr()) && held(addr) {
				taken = append(taken, addr.String())
			}
		}
		message := ""
		if len(taken) > 0 {
			message = fmt.Sprintf("a process on node %s listens on %s, and connections from outside reach the service instead of it: stop it, or give the service another nodePort", p.node.Name, strings.Join(taken, ", "))
		}
		if w, known := p.notices[key]; known {
			w.set("NodePortInUse", message, 0)
		}
	}
}

// held says whether a socket has an address of this node: whether it is taken shows when one asks for it.
func held(addr Address) bool {
	reuse := func(_, _ string, raw syscall.RawConn) error {
		var inner error
		// connections of the past in TIME_WAIT are not a process
		err := raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(err, inner)
	}
	var err error
	switch addr.Protocol {
	case corev1.ProtocolTCP:
		lc := net.ListenConfig{Control: reuse}
		var l net.Listener
		if l, err = lc.Listen(context.Background(), "tcp", addr.AddrPort.String()); err == nil {
			l.Close()
		}
	case corev1.ProtocolUDP:
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", addr.AddrPort.String()); err == nil {
			c.Close()
		}
	}
	return errors.Is(err, unix.EADDRINUSE)
}
