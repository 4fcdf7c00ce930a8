package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// upstream is a server that we forward to, and how it did lately.
type upstream struct {
	addr netip.AddrPort

	mu     sync.Mutex
	rtt    time.Duration // smoothed; 0: not known
	failed bool          // the last exchange failed
	used   time.Time     // when the last exchange began
	deaf   int           // how many exchanges in a row had no answer at all
	mute   bool          // a probe was among them: it is not the name that was asked for
	ended  time.Time     // when the last of them ended

	codes   [countedCodes]atomic.Pointer[histogram] // how long answers took, by response code; nil: none came
	silent  atomic.Uint64                           // exchanges that failed: no answer, or the connection was refused
	unheard atomic.Uint64                           // probes among them
}

// standing orders upstreams: those that work first, among them the fastest.
func (u *upstream) standing() (failed bool, rtt time.Duration, used time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed, u.rtt, u.used
}

func (u *upstream) begin(now time.Time) {
	u.mu.Lock()
	u.used = now
	u.mu.Unlock()
}

// note records the end of an exchange; m is the answer, if one came.
func (u *upstream) note(now time.Time, took time.Duration, m *dns.Msg) {
	failed := m == nil || m.Rcode == dns.RcodeRefused
	if m == nil {
		u.silent.Add(1)
	} else {
		latency := &u.codes[min(m.Rcode, countedCodes-1)]
		if latency.Load() == nil {
			latency.CompareAndSwap(nil, new(histogram))
		}
		latency.Load().observe(took, 1)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed = failed
	if u.deaf++; m != nil {
		u.deaf, u.mute = 0, false
	}
	u.ended = now
	if u.rtt == 0 {
		u.rtt = took
	}
	u.rtt = (3*u.rtt + took) / 4
}

// unanswered records that a probe has ended without an answer.
func (u *upstream) unanswered() {
	u.unheard.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mute = true
}

// silentSince says how long ago it was found, at least twice in a row and at least once by a probe, that the upstream does
// not answer; ok is false if it does. Some servers drop questions for some names, which says nothing about other names.
func (u *upstream) silentSince(now time.Time) (ago time.Duration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Sub(u.ended), u.mute && u.deaf >= 2
}

// inDoubt says whether the last exchange had no answer.
func (u *upstream) inDoubt() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.deaf > 0
}

// late records that another had to be asked besides; its answer may still count.
func (u *upstream) late() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rtt = max(u.rtt, failover)
}

// ask puts one question to the upstream and returns the answer to that question only: over a connected socket
// with a port of its own, so other addresses are not heard; with a random id; the question compared.
// A truncated answer is asked for again over TCP; an upstream that dislikes EDNS is asked without.
func (u *upstream) ask(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	answer, err := u.exchange(ctx, "udp", query)
	if err == nil && answer.Rcode == dns.RcodeFormatError && query.IsEdns0() != nil {
		plain := query.Copy()
		plain.Extra = withoutOPT(plain.Extra)
		query = plain
		answer, err = u.exchange(ctx, "udp", query)
	}
	if err == nil && answer.Truncated {
		return u.exchange(ctx, "tcp", query)
	}
	return answer, err
}

func (u *upstream) exchange(ctx context.Context, network string, query *dns.Msg) (*dns.Msg, error) {
	query = query.Copy()
	query.Id = uint16(rand.Uint32())
	wire, err := query.Pack()
	if err != nil {
		return nil, fmt.Errorf("packing the question %s: %w", query.Question[0].Name, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, u.addr.String())
	if err != nil {
		return nil, fmt.Errorf("upstream %s over %s: %w", u.addr, network, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	read := readDatagram
	if network == "tcp" {
		wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
		read = readFramed
	}
	if _, err := conn.Write(wire); err != nil {
		return nil, fmt.Errorf("upstream %s over %s: %w", u.addr, network, err)
	}
	for {
		wire, err := read(conn)
		if err != nil {
			return nil, fmt.Errorf("upstream %s over %s: %w", u.addr, network, err)
		}
		answer := new(dns.Msg)
		if err := answer.Unpack(wire); err == nil && isAnswer(query, answer) {
			return answer, nil
		}
		if network == "tcp" {
			return nil, fmt.Errorf("upstream %s over tcp: %w", u.addr, errForeign)
		}
		// over UDP anybody may have sent it: go on listening for the real one
	}
}

var errForeign = errors.New("the answer is not for the question that was asked")

func readDatagram(conn net.Conn) ([]byte, error) {
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	return b[:n], err
}

func readFramed(conn net.Conn) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

// isAnswer compares what RFC 5452 section 3 says must match. The FORMERR of an old server may lack the question.
func isAnswer(query, answer *dns.Msg) bool {
	if !answer.Response || answer.Id != query.Id || answer.Opcode != query.Opcode {
		return false
	}
	if len(answer.Question) == 0 {
		return answer.Rcode == dns.RcodeFormatError || answer.Rcode == dns.RcodeNotImplemented
	}
	got, asked := answer.Question[0], query.Question[0]
	return len(answer.Question) == 1 && got.Qtype == asked.Qtype && got.Qclass == asked.Qclass &&
		dns.CanonicalName(got.Name) == dns.CanonicalName(asked.Name)
}
