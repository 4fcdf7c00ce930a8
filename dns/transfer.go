package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/miekg/dns"
)

// transferPart is how many records a message of a transfer has: none comes near what TCP can frame.
const transferPart = 100

// transfer answers a question for a whole cluster domain (RFC 5936) to those who may have it; IXFR gets the same (RFC
// 1995 section 4). done is false when msg is none or its asker may not: it is answered as any other.
func (s *Server) transfer(conn net.Conn, msg []byte, w *scratch) (done bool, err error) {
	if !containsAddr(s.cfg.Transfer, w.from) || w.q.parse(msg) != refused || !s.isSynced.Load() ||
		(w.q.qtype != dns.TypeAXFR && w.q.qtype != dns.TypeIXFR) {
		return false, nil
	}
	for i, z := range s.zones {
		if string(w.q.wire()) != z.domain {
			continue
		}
		if err := z.send(conn, &w.q); err != nil {
			return true, fmt.Errorf("transfer of %s to %s: %w", textName([]byte(z.domain)), conn.RemoteAddr(), err)
		}
		done := cellOf{zone: zoneFirst + i, transport: 1, typ: countedType(dns.TypeAXFR)}
		if w.from.Is6() {
			done.family = 1
		}
		s.slow.answers[done.index()].Add(1)
		return true, nil
	}
	return false, nil
}

// send writes the zone, its start of authority first and last. Services that change meanwhile are there as they were
// or as they are; the serial is that of the beginning, so whoever follows the zone asks again. The names of pods
// are made on demand and not in it.
func (z *zone) send(conn net.Conn, q *question) error {
	w := new(scratch)
	w.q.parse(questionFor(z.domain, dns.TypeSOA))
	z.answer(&w.q, &w.a)
	soa, err := unpackAnswer(appendAnswer(nil, questionFor(z.domain, dns.TypeSOA), &w.q, &w.a, maxMessage))
	if err != nil {
		return err
	}
	part := soa
	flush := func(least int) error {
		if len(part) < least {
			return nil
		}
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.id, Response: true, Authoritative: true}, Compress: true, Answer: part}
		m.Question = []dns.Question{{Name: textName(q.wire()), Qtype: q.qtype, Qclass: dns.ClassINET}}
		part = nil
		wire, err := m.Pack()
		if err != nil {
			return err
		}
		return writeFramed(conn, wire)
	}
	err = z.each(func(name string, n node) error {
		records, err := n.records(name)
		if err != nil {
			return fmt.Errorf("records of %s: %w", textName([]byte(name)), err)
		}
		part = append(part, records...)
		return flush(transferPart)
	})
	if err != nil {
		return err
	}
	part = append(part, soa...)
	return flush(1)
}

// each visits every name, in wire form.
func (z *zone) each(visit func(name string, n node) error) error {
	all := func(e *entry, behind string) error {
		for i := range e.names() {
			n := e.at(i)
			if err := visit(string(n.prefix)+behind, n); err != nil {
				return err
			}
		}
		return nil
	}
	if err := all(&z.fixed, z.domain); err != nil {
		return err
	}
	for i := range z.shards {
		s := &z.shards[i]
		s.RLock()
		entries := make(map[string]*entry, len(s.services))
		for key, e := range s.services {
			entries[key] = e
		}
		s.RUnlock()
		for key, e := range entries {
			if err := all(e, key+svcLabel+z.domain); err != nil {
				return err
			}
		}
	}
	return nil
}

// records gives the records of a name in the form of the library.
func (n node) records(name string) (all []dns.RR, err error) {
	n.each(func(s rrset) {
		msg := questionFor(name, s.typ)
		binary.BigEndian.PutUint16(msg[6:], uint16(s.n))
		records, bad := unpackAnswer(append(msg, s.data...))
		all, err = append(all, records...), errors.Join(err, bad)
	})
	return all, err
}

// questionFor is a message that asks for a name in wire form.
func questionFor(name string, typ uint16) []byte {
	msg := append([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
	msg = binary.BigEndian.AppendUint16(msg, typ)
	return binary.BigEndian.AppendUint16(msg, dns.ClassINET)
}

func unpackAnswer(msg []byte) ([]dns.RR, error) {
	var m dns.Msg
	if err := m.Unpack(msg); err != nil {
		return nil, err
	}
	return m.Answer, nil
}
