package echo

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// datagrams is a UDP socket of one address family that knows which of its addresses was asked.
type datagrams interface {
	receive(buf []byte) (n int, asked net.IP, peer net.Addr, err error)
	send(answer []byte, from net.IP, peer net.Addr) error
	Close() error
}

// families are the networks to listen in: both, unless the kernel has IPv4 alone.
func families() []string {
	if probe, err := net.ListenPacket("udp6", "[::1]:0"); err == nil {
		probe.Close()
		return []string{"udp4", "udp6"}
	}
	return []string{"udp4"}
}

func listenDatagrams(ctx context.Context, network, address string) (datagrams, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if network == "udp4" {
		packets := ipv4.NewPacketConn(conn)
		if err = packets.SetControlMessage(ipv4.FlagDst, true); err == nil {
			return datagrams4{packets}, nil
		}
	} else {
		packets := ipv6.NewPacketConn(conn)
		if err = packets.SetControlMessage(ipv6.FlagDst, true); err == nil {
			return datagrams6{packets}, nil
		}
	}
	conn.Close()
	return nil, err
}

type datagrams4 struct{ *ipv4.PacketConn }

func (d datagrams4) receive(buf []byte) (int, net.IP, net.Addr, error) {
	n, control, peer, err := d.ReadFrom(buf)
	if control == nil {
		return n, nil, peer, err
	}
	return n, control.Dst, peer, err
}

func (d datagrams4) send(answer []byte, from net.IP, peer net.Addr) error {
	_, err := d.WriteTo(answer, &ipv4.ControlMessage{Src: from}, peer)
	return err
}

type datagrams6 struct{ *ipv6.PacketConn }

func (d datagrams6) receive(buf []byte) (int, net.IP, net.Addr, error) {
	n, control, peer, err := d.ReadFrom(buf)
	if control == nil {
		return n, nil, peer, err
	}
	return n, control.Dst, peer, err
}

func (d datagrams6) send(answer []byte, from net.IP, peer net.Addr) error {
	_, err := d.WriteTo(answer, &ipv6.ControlMessage{Src: from}, peer)
	return err
}

// servePackets answers datagrams until the socket is closed. Each answer leaves from the address that was
// asked, which a node with several addresses would not choose by itself.
func (s *Server) servePackets(conn datagrams) error {
	buf := make([]byte, 64<<10)
	for {
		n, asked, peer, err := conn.receive(buf)
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue // an earlier answer found nobody
		}
		if err != nil {
			return err
		}
		if asked.IsMulticast() || asked.Equal(net.IPv4bcast) {
			asked = nil
		}
		if err := conn.send(s.answer(buf[:n], peer), asked, peer); err != nil {
			s.logf("%s UDP %d bytes: error %v", peer, n, err)
			continue
		}
		s.logf("%s UDP %d bytes", peer, n)
	}
}

func (s *Server) answer(datagram []byte, peer net.Addr) []byte {
	switch strings.TrimSpace(string(datagram)) {
	case "hostname":
		return []byte(s.cfg.Pod + "\n")
	case "clientip":
		return []byte(peer.String() + "\n")
	}
	return datagram
}
