package proxy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"svcplane/catalog"
)

// observePorts reports NodePorts that a process on this node has open: its clients from outside meet the Service
// instead of it. p.mu is held.
func (p *Proxy) observePorts(keys []catalog.Key) {
	// few changes concern an address of the node
	sockets := sync.OnceValue(func() bound {
		all, err := socketsBound()
		if err != nil {
			klog.V(2).InfoS("Looking for programs on NodePorts", "err", err)
		}
		return all
	})
	for _, key := range keys {
		var taken []string
		for _, addr := range p.ledger.requests[key].addresses() {
			if slices.Contains(p.node.Addrs, addr.Addr()) && sockets().taken(addr) {
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

// bound are the addresses of listening TCP sockets and of all UDP sockets of this network namespace.
type bound map[Address]bool

// taken says whether one of them is at an address, or at its port on all of them.
func (b bound) taken(addr Address) bool {
	every := Address{AddrPort: netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port()), Protocol: addr.Protocol}
	if addr.Addr().Is4() {
		every.AddrPort = netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port())
	}
	return b[addr] || b[every]
}

// What linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h define.
const (
	sockDiagByFamily = 20
	diagHeader       = 72 // struct inet_diag_msg
	diagV6Only       = 11 // INET_DIAG_SKV6ONLY
	tcpListen        = 10
)

// socketsBound asks the kernel. Trying to bind would not do: a data plane may refuse the port to keep it.
func socketsBound() (bound, error) {
	all := bound{}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			number, states := byte(unix.IPPROTO_TCP), uint32(1<<tcpListen)
			if protocol == corev1.ProtocolUDP {
				number, states = unix.IPPROTO_UDP, ^uint32(0)
			}
			body := binary.NativeEndian.AppendUint32([]byte{family, number, 0, 0}, states)
			request := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
			request.AddRawData(append(body, make([]byte, 48)...)) // no socket in particular
			messages, err := request.Execute(unix.NETLINK_SOCK_DIAG, 0)
			if err != nil {
				return nil, fmt.Errorf("listing sockets (needs CONFIG_INET_DIAG): %w", err)
			}
			for _, m := range messages {
				all.add(m, protocol)
			}
		}
	}
	return all, nil
}

// add reads one struct inet_diag_msg. An IPv6 socket for all addresses takes IPv4, too, unless it says otherwise.
func (b bound) add(m []byte, protocol corev1.Protocol) {
	if len(m) < diagHeader {
		return
	}
	port, size := binary.BigEndian.Uint16(m[4:]), 16
	if m[0] == unix.AF_INET {
		size = 4
	}
	addr, _ := netip.AddrFromSlice(m[8 : 8+size])
	b[Address{AddrPort: netip.AddrPortFrom(addr.Unmap(), port), Protocol: protocol}] = true
	if addr != netip.IPv6Unspecified() {
		return
	}
	attrs, err := nl.ParseRouteAttr(m[diagHeader:])
	for _, attr := range attrs {
		if err == nil && attr.Attr.Type == diagV6Only && len(attr.Value) > 0 && attr.Value[0] == 1 {
			return
		}
	}
	b[Address{AddrPort: netip.AddrPortFrom(netip.IPv4Unspecified(), port), Protocol: protocol}] = true
}
