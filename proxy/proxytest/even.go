package proxytest

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

const (
	// evenDraws tell a client that gets itself one time in nine, and not in three, from an even share.
	evenDraws = 600
	// evenOdds are those that chance fails one of the tests of evenness: all tests of a run together, less than one in a
	// million.
	evenOdds = 1e-9
)

// CheckEven fails when shares of the same size would come out as unevenly as these less than once in 1/evenOdds times.
func CheckEven(t testing.TB, what string, shares map[string]int, among int) {
	t.Helper()
	total, chi := 0, 0.0
	for _, n := range shares {
		total += n
	}
	want := float64(total) / float64(among)
	for _, n := range shares {
		chi += (float64(n) - want) * (float64(n) - want) / want
	}
	chi += want * float64(among-len(shares)) // of those who got nothing
	if p := chiSquaredTail(chi, among-1); p < evenOdds {
		t.Errorf("%s: shares of %v are not even (chi-squared %.1f with %d degrees of freedom: odds %.1g)", what, shares, chi, among-1, p)
	}
}

// chiSquaredTail is the chance that chi-squared with so many degrees of freedom is at least x.
func chiSquaredTail(x float64, freedom int) float64 {
	// integration by parts of the density gives it two degrees further down
	tail, step := math.Erfc(math.Sqrt(x/2)), math.Sqrt(2*x/math.Pi)*math.Exp(-x/2)
	at := 1
	if freedom%2 == 0 {
		tail, step, at = math.Exp(-x/2), x/2*math.Exp(-x/2), 2
	}
	for ; at < freedom; at += 2 {
		tail += step
		step *= x / float64(at+2)
	}
	return tail
}

// Even holds that each way to a Service leads to all of its endpoints evenly: at the socket, connected or not, and by
// packets, of clients that are endpoints themselves and of others. whole leaves no way out.
func Even(t *testing.T, lab *Lab, plane proxy.Dataplane, whole bool) {
	for _, ipv6 := range []bool{false, true} {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			s := newScene(lab, protocol, ipv6)
			must(t, plane.Resync(t.Context(), lab.Table(s.service("a", "b", "c"))))
			forgetFlows(t)
			ways := each(Probe{}, []string{"a"}, s.cluster())
			if whole {
				ways = append(ways, each(Probe{}, []string{"client", "node"}, s.cluster())...)
			}
			ways = append(ways, each(Probe{}, []string{"a"}, s.to(s.host("node"), nodePort))...)
			for _, way := range ways {
				what := fmt.Sprintf("%s -> %s", way.From, way.To)
				lab.even(t, what, func() (Outcome, error) { return lab.Hosts[way.From].Dial(way.To) })
				if protocol == corev1.ProtocolUDP {
					lab.even(t, what+", not connected", func() (Outcome, error) { return lab.Hosts[way.From].Ask(way.To, 1) })
				}
			}
		}
	}
}

func (l *Lab) even(t *testing.T, what string, dial func() (Outcome, error)) {
	shares := map[string]int{}
	for range evenDraws {
		got, err := dial()
		if err != nil || got.Name == "" {
			t.Errorf("%s: %s, %v", what, got, err)
			return
		}
		shares[got.Name]++
	}
	CheckEven(t, what, shares, 3)
}

// Ask sends so many datagrams from a socket that is not connected. All answers have to be the same; the last one is returned.
func (h *Host) Ask(to proxy.Address, datagrams int) (got Outcome, err error) {
	var socket net.PacketConn
	var socketErr error
	if err := h.Do(func() {
		socket, socketErr = net.ListenPacket("udp", netip.AddrPortFrom(h.family(to.Addr()), 0).String())
	}); err != nil || socketErr != nil {
		return got, errors.Join(err, socketErr)
	}
	defer socket.Close()
	for n := range datagrams {
		if _, err := socket.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(to.AddrPort)); err != nil {
			return outcomeOf(err)
		}
		if err := socket.SetReadDeadline(time.Now().Add(dropTimeout)); err != nil {
			return got, err
		}
		buffer := make([]byte, 2048)
		size, from, err := socket.ReadFrom(buffer)
		if err != nil {
			return outcomeOf(err)
		}
		if peer := netip.MustParseAddrPort(from.String()); peer != to.AddrPort {
			return got, fmt.Errorf("%s was asked, and %s answered", to, peer)
		}
		answer, err := parseAnswer(buffer[:size])
		if err != nil || n > 0 && answer.Name != got.Name {
			return got, errors.Join(err, fmt.Errorf("one socket met %s and then %s", got, answer))
		}
		got = answer
	}
	return got, nil
}

// family is the host's own address of the family of a.
func (h *Host) family(a netip.Addr) netip.Addr {
	if a.Is4() {
		return h.IPv4
	}
	return h.IPv6
}
