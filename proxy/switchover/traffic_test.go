package switchover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/proxy/proxytest"
)

// echoPort is where pods answer messages: each with itself and the first letter of the pod's name.
const echoPort = 9000

// messageSize is a number and, in the answer, a letter.
const messageSize = 9

// pace is the time between two messages of a conversation.
const pace = 250 * time.Millisecond

// echo answers on TCP and UDP in a host until the test ends.
func echo(t testing.TB, h *proxytest.Host) {
	t.Helper()
	var l net.Listener
	var c net.PacketConn
	var err, err2 error
	must(t, h.Do(func() {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", echoPort))
		c, err2 = net.ListenPacket("udp", fmt.Sprintf(":%d", echoPort))
	}))
	must(t, errors.Join(err, err2))
	t.Cleanup(func() { l.Close(); c.Close() })
	roomy(t, c.(*net.UDPConn))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, messageSize)
				for {
					if n, err := conn.Read(b); err != nil || n != messageSize {
						return
					}
					b[messageSize-1] = h.Name[0]
					if _, err := conn.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			b[n-1] = h.Name[0]
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// roomy gives a socket that all clients ask room for all of them, whatever this machine's limit is.
func roomy(t testing.TB, c *net.UDPConn) {
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) }), err))
}

// traffic is conversations that go on until end.
type traffic struct {
	t      testing.TB
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	count  atomic.Int64
	worst  atomic.Int64 // ns from a message to its answer
	direct atomic.Int64 // the same, without any Service
}

func newTraffic(t testing.TB) *traffic {
	tr := &traffic{t: t}
	tr.ctx, tr.cancel = context.WithCancel(context.Background())
	return tr
}

// end stops all and says how long the longest answer took through a Service and without.
func (tr *traffic) end() (worst, direct time.Duration) {
	tr.cancel()
	tr.wg.Wait()
	return time.Duration(tr.worst.Load()), time.Duration(tr.direct.Load())
}

// talk opens a conversation from a host; plain ones dial an endpoint itself.
func (tr *traffic) talk(h *proxytest.Host, network, to string, plain bool) {
	tr.t.Helper()
	var conn net.Conn
	var err error
	must(tr.t, h.Do(func() { conn, err = net.DialTimeout(network, to, 20*time.Second) }))
	must(tr.t, err)
	longest := &tr.worst
	if plain {
		longest = &tr.direct
	}
	name := fmt.Sprintf("%s from %s %s to %s", network, h.Name, conn.LocalAddr(), to)
	tr.wg.Go(func() {
		defer conn.Close()
		if err := tr.converse(conn, netip.MustParseAddrPort(to), longest); err != nil {
			tr.t.Errorf("%s: %v", name, err)
		}
	})
}

// converse asks and hears until the end; every answer is to the question, from who answered first, and from the
// address that was dialled.
func (tr *traffic) converse(conn net.Conn, to netip.AddrPort, longest *atomic.Int64) error {
	first := byte(0)
	question, answer := make([]byte, messageSize), make([]byte, 100)
	for n := uint64(1); tr.ctx.Err() == nil; n++ {
		binary.BigEndian.PutUint64(question, n)
		began := time.Now()
		if err := conn.SetDeadline(began.Add(20 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(question); err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
		size, from, err := hear(conn, answer)
		if err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
		if from != to {
			return fmt.Errorf("message %d was answered by %s", n, from)
		}
		if size != messageSize || binary.BigEndian.Uint64(answer) != n {
			return fmt.Errorf("message %d has the answer %x", n, answer[:size])
		}
		if first == 0 {
			first = answer[8]
			tr.count.Add(1)
		}
		if answer[8] != first {
			return fmt.Errorf("message %d was answered by pod %c and those before by %c", n, answer[8], first)
		}
		atMost(longest, int64(time.Since(began)))
		select {
		case <-tr.ctx.Done():
		case <-time.After(pace):
		}
	}
	return nil
}

// hear reads one answer and whom it says it is from.
func hear(conn net.Conn, answer []byte) (int, netip.AddrPort, error) {
	if udp, ok := conn.(*net.UDPConn); ok {
		n, from, err := udp.ReadFromUDPAddrPort(answer)
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	n, err := conn.Read(answer)
	return n, netip.MustParseAddrPort(conn.RemoteAddr().String()), err
}

func atMost(longest *atomic.Int64, value int64) {
	for was := longest.Load(); value > was && !longest.CompareAndSwap(was, value); was = longest.Load() {
	}
}

// open makes n conversations of a protocol by turns from a pod, from the node and from the LAN.
func (tr *traffic) open(r *rig, network string, n int) {
	tr.t.Helper()
	for i := range n {
		switch i % 3 {
		case 0:
			tr.talk(r.lab.Hosts["c"], network, "10.96.0.5:80", false)
		case 1:
			tr.talk(r.lab.Hosts["node"], network, "10.96.0.5:80", false)
		case 2:
			tr.talk(r.lab.Hosts["client"], network, "192.0.2.1:30080", false)
		}
	}
}

// TestConnectionsLive is 1,000 TCP connections and 200 UDP conversations from everywhere, begun between ten
// switches and a crash: each goes on with whom it began, from the address that it dialled.
func TestConnectionsLive(t *testing.T) {
	r := newRig(t, IPTables)
	echo(t, r.lab.Hosts["a"])
	echo(t, r.lab.Hosts["b"])
	r.serve(r.web(echoPort, "a", "b"))
	r.start()
	tr := newTraffic(t)
	defer tr.end()
	for _, from := range []string{"c", "node", "client"} {
		for _, network := range []string{"tcp4", "udp4"} {
			tr.talk(r.lab.Hosts[from], network, r.lab.Hosts["a"].IPv4.String()+fmt.Sprintf(":%d", echoPort), true)
		}
	}
	mode := IPTables
	for n := range 10 {
		tr.open(r, "tcp4", 100)
		tr.open(r, "udp4", 20)
		want := int64(120*(n+1) + 6)
		r.until("every conversation has begun", func() bool { return tr.count.Load() >= want || t.Failed() })
		mode = otherThan(mode)
		r.to(mode)
		if n == 4 {
			r.crash()
			r.start()
		}
		if got := r.Mode(); got != mode {
			t.Fatalf("%s serves, and should be %s", got, mode)
		}
	}
	time.Sleep(2 * pace) // everybody once more, with the last
	worst, direct := tr.end()
	t.Logf("%d conversations; the longest answer took %v, without a Service %v", tr.count.Load(), worst, direct)
	if worst > time.Second+direct {
		t.Errorf("an answer took %v, and without a Service at most %v", worst, direct)
	}
	must(t, r.quiet())
	r.settled(mode)
}
