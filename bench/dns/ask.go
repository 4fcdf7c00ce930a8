package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// asked is one question under way.
type asked struct {
	name string
	typ  uint16
	sent time.Time
}

// asker sends questions over one socket without waiting for answers, and hands each answer to check.
type asker struct {
	conn  *net.UDPConn
	check func(q asked, m *dns.Msg) error

	mu      sync.Mutex
	pending map[uint16]asked
	next    uint16
	took    []time.Duration
	wrong   []string
}

func newAsker(server netip.AddrPort, check func(asked, *dns.Msg) error) (*asker, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(4 << 20)
	a := &asker{conn: conn, check: check, pending: map[uint16]asked{}}
	go a.listen()
	return a, nil
}

func (a *asker) send(name string, typ uint16) error {
	q := new(dns.Msg)
	q.SetQuestion(name, typ)
	a.mu.Lock()
	a.next++
	q.Id = a.next
	if lost, ok := a.pending[q.Id]; ok {
		a.wrong = append(a.wrong, "no answer for "+lost.name)
	}
	wire, err := q.Pack()
	a.pending[q.Id] = asked{name, typ, time.Now()}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = a.conn.Write(wire)
	return err
}

func (a *asker) listen() {
	b := make([]byte, 65536)
	for {
		n, err := a.conn.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		now := time.Now()
		m := new(dns.Msg)
		if err != nil || m.Unpack(b[:n]) != nil {
			continue
		}
		a.mu.Lock()
		q, ok := a.pending[m.Id]
		delete(a.pending, m.Id)
		a.took = append(a.took, now.Sub(q.sent))
		a.mu.Unlock()
		if !ok {
			continue
		}
		if err := a.check(q, m); err != nil {
			a.mu.Lock()
			a.wrong = append(a.wrong, err.Error())
			a.mu.Unlock()
		}
	}
}

// settle waits for the last answers and counts those that never came.
func (a *asker) settle() {
	deadline := time.Now().Add(5 * time.Second)
	for {
		a.mu.Lock()
		n := len(a.pending)
		a.mu.Unlock()
		if n == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = a.conn.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, q := range a.pending {
		a.wrong = append(a.wrong, "no answer for "+q.name)
	}
}

// paced calls do rate times a second for a while; when it was held up it catches up.
func paced(ctx context.Context, rate int, seconds int, do func(i int) error) error {
	start := time.Now()
	for i := range rate * seconds {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

// probe asks at a rate and prints how long the answers took: p50, p99, the longest, in microseconds.
func probe(ctx context.Context, o options) error {
	lines, err := readQuestions(o.file)
	if err != nil {
		return err
	}
	a, err := newAsker(o.addr, func(q asked, m *dns.Msg) error {
		if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			return fmt.Errorf("%s: %s", q.name, dns.RcodeToString[m.Rcode])
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := paced(ctx, o.rate, o.seconds, func(i int) error { return a.send(lines[i%len(lines)].name, lines[i%len(lines)].typ) }); err != nil {
		return err
	}
	a.settle()
	if len(a.took) == 0 {
		return fmt.Errorf("%s answered none of %d questions", o.addr, o.rate*o.seconds)
	}
	slices.Sort(a.took)
	at := func(part float64) int64 {
		return a.took[min(int(part*float64(len(a.took))), len(a.took)-1)].Microseconds()
	}
	fmt.Printf("%d %d %d %d\n", at(0.5), at(0.99), at(1), len(a.wrong))
	return nil
}

func readQuestions(path string) ([]asked, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []asked
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, typ, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			return nil, fmt.Errorf("%s: %q is not a name and a type", path, lines.Text())
		}
		all = append(all, asked{name: dns.Fqdn(name), typ: dns.StringToType[typ]})
	}
	return all, nil
}
