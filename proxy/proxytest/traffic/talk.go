package traffic

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// pace is the time between two messages of a conversation. Those of plain ones are closer, so that no moment in
	// which the machine did nothing goes by them.
	pace, plainPace = 250 * time.Millisecond, 20 * time.Millisecond
	// patience is when an answer is lost.
	patience = 20 * time.Second
)

// Report is how conversations went.
type Report struct {
	Begun  int           // those that had an answer
	Broken []string      // what became of those that did not go on to the end
	Worst  time.Duration // from a message to its answer, at most, through a Service
	Plain  time.Duration // the same without any Service
}

// Stalled says whether an answer took more than a second longer than any had to wait for
// the machine. An answer that the machine held up for two seconds is no stall of the Service's, and the plain
// conversations, which ask fifty times a second, have noticed.
func (r Report) Stalled() bool { return r.Worst > time.Second+r.Plain }

// Traffic is conversations that go on until End. It is safe for concurrent use.
type Traffic struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	all    []*conversation
	report Report
}

// New has no conversations yet.
func New() *Traffic {
	tr := &Traffic{}
	tr.ctx, tr.cancel = context.WithCancel(context.Background())
	return tr
}

// Now is how it went until now.
func (tr *Traffic) Now() Report {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.report
}

// End stops all and says how it went.
func (tr *Traffic) End() Report {
	tr.cancel()
	tr.wg.Wait()
	return tr.Now()
}

// Through begins a conversation over a socket that dialled the address of a Service.
func (tr *Traffic) Through(conn net.Conn, to netip.AddrPort) { tr.talk(conn, to, pace) }

// Plain begins one with somebody who calls Serve, without a Service.
func (tr *Traffic) Plain(conn net.Conn, to netip.AddrPort) { tr.talk(conn, to, plainPace) }

// Again returns a function that says whether every conversation was answered since, to what it asked since.
func (tr *Traffic) Again() func() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	want := make([]uint64, len(tr.all))
	for i, c := range tr.all {
		want[i] = c.heard + 2 // one may be under way
	}
	return func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for i, heard := range want {
			if tr.all[i].heard < heard {
				return false
			}
		}
		return true
	}
}

func (tr *Traffic) talk(conn net.Conn, to netip.AddrPort, pause time.Duration) {
	c := &conversation{conn: conn, to: to}
	tr.mu.Lock()
	tr.all = append(tr.all, c)
	tr.mu.Unlock()
	tr.wg.Go(func() {
		defer conn.Close()
		for n := uint64(1); tr.ctx.Err() == nil; n++ {
			began := time.Now()
			err := c.exchange(n)
			tr.note(c, n, time.Since(began), pause == plainPace, err)
			if err != nil {
				return
			}
			select {
			case <-tr.ctx.Done():
			case <-time.After(pause):
			}
		}
	})
}

func (tr *Traffic) note(c *conversation, n uint64, took time.Duration, plain bool, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	switch {
	case err != nil:
		tr.report.Broken = append(tr.report.Broken, fmt.Sprintf("%s from %s to %s, message %d: %v", c.conn.LocalAddr().Network(), c.conn.LocalAddr(), c.to, n, err))
		return
	case n == 1:
		tr.report.Begun++
	}
	c.heard = n
	if plain {
		tr.report.Plain = max(tr.report.Plain, took)
	} else {
		tr.report.Worst = max(tr.report.Worst, took)
	}
}

type conversation struct {
	conn  net.Conn
	to    netip.AddrPort
	first byte   // who answers
	heard uint64 // how many answers; Traffic.mu
}

// exchange asks and hears: the answer is to the question, from who answered first, and from the address that was dialled.
func (c *conversation) exchange(n uint64) error {
	question, answer := make([]byte, messageSize), make([]byte, 100)
	binary.BigEndian.PutUint64(question, n)
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.conn.Write(question); err != nil {
		return err
	}
	size, from, err := hear(c.conn, answer)
	if err != nil {
		return err
	}
	if from != c.to {
		return fmt.Errorf("it was answered by %s", from)
	}
	if size != messageSize || binary.BigEndian.Uint64(answer) != n {
		return fmt.Errorf("it has the answer %x", answer[:size])
	}
	letter := answer[messageSize-1]
	if c.first == 0 {
		c.first = letter
	}
	if letter != c.first {
		return fmt.Errorf("it was answered by %c and those before by %c", letter, c.first)
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
