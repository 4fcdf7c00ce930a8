package dns

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// entry is everything that the zone says about one Service. It is immutable; one without names stands for
// a Service that has no name at present. There are many of them: all names and records are one piece of memory without
// pointers,
//
//	packed:  offset of each name (4 octets each), names sorted by prefix
//	name:    length of the prefix (1), prefix, sets
//	set:     header (setHead octets: type, and of the records and the additional ones number and octets), records, additional
type entry struct {
	key       string    // the labels of the Service's name and namespace, see serviceKey
	triggered time.Time // what the endpoints were made for happened then; zero: not known
	headless  bool
	packed    []byte
}

const setHead = 2 + 4*4

// names is how many there are.
func (e *entry) names() int {
	if len(e.packed) == 0 {
		return 0
	}
	return int(binary.BigEndian.Uint32(e.packed)) / 4 // the first name is behind the offsets
}

// at gives the i-th name.
func (e *entry) at(i int) node {
	begin, end := int(binary.BigEndian.Uint32(e.packed[4*i:])), len(e.packed)
	if i+1 < e.names() {
		end = int(binary.BigEndian.Uint32(e.packed[4*i+4:]))
	}
	sets := begin + 1 + int(e.packed[begin])
	return node{prefix: e.packed[begin+1 : sets], sets: e.packed[sets:end]}
}

// find finds the name with the given labels in front of the Service's.
func (e *entry) find(prefix []byte) (n node, exists bool) {
	count := e.names()
	i := sort.Search(count, func(i int) bool { return bytes.Compare(e.at(i).prefix, prefix) >= 0 })
	if i == count {
		return node{}, false
	}
	n = e.at(i)
	return n, bytes.Equal(n.prefix, prefix)
}

// pointers visits the addresses that are to be called by a name of the Service: those of its own name, or of every
// endpoint's if it is headless (sections 2.3.3 and 2.4.3).
func (e *entry) pointers(visit func(addr netip.Addr, name int)) {
	for i := range e.names() {
		n := e.at(i)
		if (len(n.prefix) == 0) == e.headless {
			continue
		}
		n.each(func(s rrset) {
			if s.typ != dns.TypeA && s.typ != dns.TypeAAAA {
				return
			}
			for at := 0; at < len(s.data); {
				end := recordEnd(s.data, at)
				addr, _ := netip.AddrFromSlice(s.data[at+fixedLen : end])
				visit(addr, i)
				at = end
			}
		})
	}
}

// node is one name: the Service's own or one below it. One without sets is an empty non-terminal.
type node struct {
	prefix []byte // lower-case labels in front of the Service's name, wire form; "" is the Service itself
	sets   []byte
}

// first gives the first set, and the node without it.
func (n node) first() (s rrset, rest node) {
	head, data := n.sets[:setHead], n.sets[setHead:]
	field := func(i int) int { return int(binary.BigEndian.Uint32(head[2+4*i:])) }
	octets, extra := field(1), field(3)
	s = rrset{
		typ: binary.BigEndian.Uint16(head), n: field(0), data: data[:octets:octets],
		nExtra: field(2), extra: data[octets : octets+extra : octets+extra],
	}
	return s, node{n.prefix, data[octets+extra:]}
}

// each visits every set.
func (n node) each(visit func(rrset)) {
	for len(n.sets) > 0 {
		var s rrset
		s, n = n.first()
		visit(s)
	}
}

// set finds the records of a type; the set is empty when there are none.
func (n node) set(typ uint16) rrset {
	for len(n.sets) > 0 {
		var s rrset
		if s, n = n.first(); s.typ == typ {
			return s
		}
	}
	return rrset{}
}

// alias is the target in wire form if the name is an alias, which has nothing else.
func (n node) alias() []byte {
	if s := n.set(dns.TypeCNAME); s.n > 0 {
		return s.data[fixedLen:]
	}
	return nil
}

// rrset is the records of one type at one name, ready to be copied behind a question for that name: their
// owner is a pointer to the question.
type rrset struct {
	typ    uint16
	n      int // records in data
	data   []byte
	nExtra int
	extra  []byte // the addresses of SRV targets, for the additional section
}

// from gives the offset in data of record i. Addresses have all the same length; records of other types are few, or as
// long as names are.
func (s *rrset) from(i int) int {
	if s.typ == dns.TypeA || s.typ == dns.TypeAAAA {
		return i * (len(s.data) / s.n)
	}
	at := 0
	for range i {
		at = recordEnd(s.data, at)
	}
	return at
}

// recordEnd gives the offset behind the record of ours that begins at at.
func recordEnd(data []byte, at int) int {
	_, end, _ := skipRR(data, at)
	return end
}

// draft is names that are being put together, by prefix.
type draft map[string]*draftNode

// draftNode is one of them.
type draftNode struct{ sets []*rrset }

// at gives the name for labels, and makes it and every name between it and the Service (empty non-terminals).
func (d draft) at(labels ...string) *draftNode {
	for i := range labels {
		if p := strings.Join(labels[i:], ""); d[p] == nil {
			d[p] = &draftNode{}
		}
	}
	p := strings.Join(labels, "")
	if d[p] == nil {
		d[p] = &draftNode{}
	}
	return d[p]
}

// set gives the records of a type, to be added to.
func (n *draftNode) set(typ uint16) *rrset {
	for _, s := range n.sets {
		if s.typ == typ {
			return s
		}
	}
	n.sets = append(n.sets, &rrset{typ: typ})
	return n.sets[len(n.sets)-1]
}

// address adds one.
func (n *draftNode) address(addr netip.Addr, ttl uint32) {
	typ, rdata := rdataOf(addr)
	n.set(typ).add(pointer(headerLen), typ, ttl, rdata)
}

// rdataOf gives an address's record type and data.
func rdataOf(addr netip.Addr) (uint16, string) {
	if addr.Is4() {
		return dns.TypeA, string(addr.AsSlice())
	}
	return dns.TypeAAAA, string(addr.AsSlice())
}

// add appends one record.
func (s *rrset) add(owner string, typ uint16, ttl uint32, rdata string) {
	s.data = appendRR(s.data, owner, typ, ttl, rdata)
	s.n++
}

// addExtra appends the address of a target.
func (s *rrset) addExtra(owner string, addr netip.Addr, ttl uint32) {
	typ, rdata := rdataOf(addr)
	s.extra = appendRR(s.extra, owner, typ, ttl, rdata)
	s.nExtra++
}

// pack makes the form that an entry has.
func (d draft) pack() []byte {
	size := 0
	for prefix, n := range d {
		size += 4 + 1 + len(prefix)
		for _, s := range n.sets {
			size += setHead + len(s.data) + len(s.extra)
		}
	}
	packed := make([]byte, 4*len(d), size)
	for i, prefix := range slices.Sorted(maps.Keys(d)) {
		binary.BigEndian.PutUint32(packed[4*i:], uint32(len(packed)))
		packed = append(append(packed, byte(len(prefix))), prefix...)
		for _, s := range d[prefix].sets {
			packed = binary.BigEndian.AppendUint16(packed, s.typ)
			for _, v := range []int{s.n, len(s.data), s.nExtra, len(s.extra)} {
				packed = binary.BigEndian.AppendUint32(packed, uint32(v))
			}
			packed = append(append(packed, s.data...), s.extra...)
		}
	}
	return packed
}
