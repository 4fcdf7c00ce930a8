package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

// serve answers on TCP and UDP with "NAME CLIENT-ADDRESS" until the test ends.
func (h *Host) serve(t testing.TB, at netip.AddrPort) {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	var err, err2 error
	must(t, h.Do(func() {
		listener, err = net.Listen("tcp", at.String())
		packets, err2 = net.ListenPacket("udp", at.String())
	}))
	must(t, errors.Join(err, err2))
	t.Cleanup(func() { listener.Close(); packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, h.answer(conn.RemoteAddr()))
			conn.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 2048)
		for {
			_, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(h.answer(from)), from)
		}
	}()
}

func (h *Host) answer(from net.Addr) string {
	peer := netip.MustParseAddrPort(from.String())
	return h.Name + " " + peer.Addr().Unmap().WithZone("").String()
}

// Outcome is what a client met.
type Outcome struct {
	Refused bool
	Dropped bool
	Denied  bool       // the kernel did not let it out of the host
	Name    string     // who answered
	Seen    netip.Addr // the address that it saw
}

func (o Outcome) String() string {
	switch {
	case o.Refused:
		return "refused"
	case o.Dropped:
		return "dropped"
	case o.Denied:
		return "not permitted"
	}
	return fmt.Sprintf("%s, who saw %s", o.Name, o.Seen)
}

const (
	// dropTimeout decides that nobody answers. Refusals and answers take less than a millisecond, on a busy machine
	// much longer; but what comes within it is the answer to the first packet: a SYN is repeated after 1 s (RFC 6298).
	dropTimeout = 900 * time.Millisecond
	// refuseTimeout is what a refusal may take: it comes from the kernel, and waits for nothing.
	refuseTimeout = 200 * time.Millisecond
)

// Dial connects once from the host and tells what came of it.
func (h *Host) Dial(to proxy.Address) (Outcome, error) {
	var conn net.Conn
	var dialErr error
	network := strings.ToLower(string(to.Protocol))
	err := h.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
		defer cancel()
		conn, dialErr = new(net.Dialer).DialContext(ctx, network, to.AddrPort.String())
	})
	if err != nil {
		return Outcome{}, err
	}
	if dialErr != nil {
		return outcomeOf(dialErr)
	}
	defer conn.Close()
	if to.Protocol == corev1.ProtocolUDP {
		// a datagram that a rule discards before it leaves the host is "not permitted"; whether it was refused
		// or dropped is what the socket reads next
		if _, err := conn.Write([]byte("hello")); err != nil && !errors.Is(err, syscall.EPERM) {
			return outcomeOf(err)
		}
	}
	return Receive(conn)
}

// Receive reads one answer.
func Receive(conn net.Conn) (Outcome, error) {
	if err := conn.SetReadDeadline(time.Now().Add(dropTimeout)); err != nil {
		return Outcome{}, err
	}
	buffer := make([]byte, 2048)
	n, err := conn.Read(buffer)
	if err != nil {
		return outcomeOf(err)
	}
	return parseAnswer(buffer[:n])
}

func parseAnswer(text []byte) (Outcome, error) {
	name, seen, _ := strings.Cut(string(text), " ")
	addr, err := netip.ParseAddr(seen)
	return Outcome{Name: name, Seen: addr}, err
}

func outcomeOf(err error) (Outcome, error) {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Outcome{Refused: true}, nil
	case errors.Is(err, syscall.EPERM):
		return Outcome{Denied: true}, nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return Outcome{Dropped: true}, nil
	}
	return Outcome{}, err
}
