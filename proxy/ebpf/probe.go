package ebpf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

// probeAddress is dialled to see whether the hooks are in the path. It is the IPv4 dummy address, which no
// machine has and no router forwards (RFC 7600).
var probeAddress = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 0, 8}), 1)

// probeTimeout is long for a connection that does not leave the machine.
const probeTimeout = 3 * time.Second

// Prove loads and attaches what is not there, and makes a real connection through an address that only the
// programs can translate. It is an error that says what is wrong when that fails. The Table stays as it is.
func (d *Dataplane) Prove(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(); err != nil {
		return err
	}
	if err := d.surround(); err != nil {
		return err
	}
	door, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for a probe: %w", err)
	}
	defer door.Close()
	f := proxy.Frontend{PortName: "probe", Endpoints: []proxy.Endpoint{{AddrPort: netip.MustParseAddrPort(door.Addr().String())}}}
	f.Address, f.Scope = proxy.Address{AddrPort: probeAddress, Protocol: corev1.ProtocolTCP}, proxy.Everywhere
	there := correction(newContents(), render(proxy.NewTable(f)))
	away := correction(render(proxy.NewTable(f)), newContents())
	if err := write(d.kernel, there); err != nil {
		return err
	}
	dialErr := dialProbe(ctx)
	if err := write(d.kernel, away); err != nil {
		d.model = nil
		return err
	}
	if dialErr != nil {
		return fmt.Errorf("dialling a probe address through eBPF: the programs are attached to cgroup %s, but not in the path of this process: %w", d.cfg.Cgroup, dialErr)
	}
	return nil
}

// dialProbe connects, and looks whether the peer has the name that was dialled.
func dialProbe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", probeAddress.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != probeAddress.String() {
		return fmt.Errorf("the peer's name is %s and should be %s", got, probeAddress)
	}
	return nil
}
