package echo

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"golang.org/x/net/ipv4"
)

// servePackets answers datagrams until the socket is closed. Each answer leaves from the address that was
// asked, which a node with several addresses would not choose by itself.
func (s *Server) servePackets(conn *ipv4.PacketConn) error {
	buf := make([]byte, 64<<10)
	for {
		n, control, peer, err := conn.ReadFrom(buf)
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue // an earlier answer found nobody
		}
		if err != nil {
			return err
		}
		answer := s.answer(buf[:n], peer)
		var from *ipv4.ControlMessage
		if control != nil && !control.Dst.IsMulticast() && !control.Dst.Equal(net.IPv4bcast) {
			from = &ipv4.ControlMessage{Src: control.Dst}
		}
		if _, err := conn.WriteTo(answer, from, peer); err != nil {
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
