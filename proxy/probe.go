package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ProbeAddress is dialled to see whether a Dataplane is in the path. It is the IPv4 dummy address, which no
// machine has and no router forwards (RFC 7600).
var ProbeAddress = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 0, 8}), 1)

// probeTimeout is long for a connection that does not leave the machine.
const probeTimeout = 3 * time.Second

// Probe listens on an address of this machine, has there put into force a Frontend that leads from ProbeAddress
// to it, connects, and has away take the Frontend out again.
func Probe(ctx context.Context, at netip.Addr, there, away func(Frontend) error) error {
	door, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		return fmt.Errorf("listening for a probe: %w", err)
	}
	defer door.Close()
	f := Frontend{PortName: "probe", Endpoints: []Endpoint{{AddrPort: netip.MustParseAddrPort(door.Addr().String())}}}
	f.Service.Namespace, f.Service.Name = "svcplane", "probe"
	f.Address, f.Scope = Address{AddrPort: ProbeAddress, Protocol: corev1.ProtocolTCP}, Everywhere
	if err := there(f); err != nil {
		return errors.Join(fmt.Errorf("serving a probe address: %w", err), away(f))
	}
	dialErr := dialProbe(ctx)
	if err := away(f); err != nil {
		return fmt.Errorf("removing a probe address: %w", err)
	}
	return dialErr
}

// dialProbe connects, and looks whether the peer has the name that was dialled.
func dialProbe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", ProbeAddress.String())
	if err != nil {
		return fmt.Errorf("dialling a probe address: %w", err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != ProbeAddress.String() {
		return fmt.Errorf("dialling a probe address: the peer's name is %s and should be %s", got, ProbeAddress)
	}
	return nil
}
