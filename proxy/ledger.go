package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// request is what one Service asks for.
type request struct {
	frontends []Frontend
	serving   []netip.AddrPort // endpoints that established flows may go on using, terminating ones too
	resting   []netip.AddrPort // the others: they are there, and take nothing new
	triggered time.Time        // when the endpoints changed last; zero: not known
	refused   []Refusal        // what it asks for besides and nobody gets
	created   time.Time        // when the Service was; zero: not known
	written   map[Address]Kind // those of its Addresses that nobody gave it
}

// build decides what Services ask for on a node; one that is gone, which is nil, asks for nothing.
func build(services map[catalog.Key]*catalog.Service, node Node) map[catalog.Key]request {
	batch := make(map[catalog.Key]request, len(services))
	for key, svc := range services {
		if svc != nil {
			batch[key] = requestOf(svc, node)
		} else {
			batch[key] = request{}
		}
	}
	return batch
}

// requestOf is what a Service asks for on a node.
func requestOf(svc *catalog.Service, node Node) request {
	return request{
		frontends: Build(svc, node), serving: endpointsOf(svc, true), resting: endpointsOf(svc, false), triggered: svc.Triggered,
		refused: Refusals(svc, node), created: svc.Created, written: written(svc, node),
	}
}

// ledger holds what every Service asks for and which Service gets an Address that several ask for: the one that the API gave it
// to; else the oldest; else the first by namespace and name. The result does not depend on the order of changes.
type ledger struct {
	requests map[catalog.Key]request
	owners   map[Address][]catalog.Key // sorted; the first one has it
	// endpoints is the sum over the requests
	endpoints int
}

func newLedger() *ledger {
	return &ledger{requests: map[catalog.Key]request{}, owners: map[Address][]catalog.Key{}}
}

// plan is a step from one state of the ledger to the next.
type plan struct {
	Change
	undo func() // for when the kernel refused
	// contested are the Services that ask for an Address for which others ask, or did before.
	contested []catalog.Key
	// strands says that flows may hold on to what was before; strandsUDP, that some of them are UDP.
	strands, strandsUDP bool
}

// plan puts new requests in place of those of the same keys; an empty request removes its Service.
func (l *ledger) plan(batch map[catalog.Key]request) plan {
	before := make(map[catalog.Key]request, len(batch))
	touched := map[Address]bool{}
	for key, c := range batch {
		before[key] = l.requests[key]
		for _, f := range slices.Concat(before[key].frontends, c.frontends) {
			touched[f.Address] = true
		}
	}
	old, rivals := l.winning(touched), l.rivals(touched)
	l.replace(batch)
	next := difference(old, l.winning(touched))
	next.contested = append(rivals, l.rivals(touched)...)
	next.undo = func() { l.replace(before) }
	return next
}

func difference(old, wanted map[ID]Frontend) plan {
	var next plan
	for id := range old {
		if _, stays := wanted[id]; !stays {
			next.Remove = append(next.Remove, id)
			next.strand(id)
		}
	}
	for id, f := range wanted {
		was, ok := old[id]
		if ok && was.Equal(f) {
			continue
		}
		next.Set = append(next.Set, f)
		gone := func(e Endpoint) bool { return !slices.Contains(f.Endpoints, e) }
		// without an entry before, a UDP client may have been talking to a closed port all the time
		if !ok || was.Verdict != f.Verdict || slices.ContainsFunc(was.Endpoints, gone) {
			next.strand(id)
		}
	}
	slices.SortFunc(next.Remove, ID.Compare)
	slices.SortFunc(next.Set, func(a, b Frontend) int { return a.ID.Compare(b.ID) })
	return next
}

func (n *plan) strand(id ID) {
	n.strands = true
	n.strandsUDP = n.strandsUDP || id.Protocol == corev1.ProtocolUDP
}

func (l *ledger) replace(batch map[catalog.Key]request) {
	for key, c := range batch {
		for _, addr := range l.requests[key].addresses() {
			l.disown(addr, key)
		}
		l.endpoints -= len(l.requests[key].serving)
		delete(l.requests, key)
		if len(c.frontends) == 0 {
			continue
		}
		l.requests[key] = c
		l.endpoints += len(c.serving)
		for _, addr := range c.addresses() {
			keys := l.owners[addr]
			at, _ := slices.BinarySearchFunc(keys, key, func(a, b catalog.Key) int { return l.compare(addr, a, b) })
			l.owners[addr] = slices.Insert(keys, at, key)
		}
	}
}

// compare says which of two Services comes first at an Address.
func (l *ledger) compare(addr Address, a, b catalog.Key) int {
	one, other := l.requests[a], l.requests[b]
	kind, wrote := one.written[addr]
	otherKind, otherWrote := other.written[addr]
	switch {
	case wrote != otherWrote && wrote:
		return 1
	case wrote != otherWrote:
		return -1
	}
	return cmp.Or(one.created.Compare(other.created), cmp.Compare(kind, otherKind), compareKeys(a, b))
}

// rivals are the Services that ask for an Address together.
func (l *ledger) rivals(touched map[Address]bool) []catalog.Key {
	var all []catalog.Key
	for addr := range touched {
		if keys := l.owners[addr]; len(keys) > 1 {
			all = append(all, keys...)
		}
	}
	return all
}

func (l *ledger) disown(addr Address, key catalog.Key) {
	keys := slices.DeleteFunc(slices.Clone(l.owners[addr]), func(k catalog.Key) bool { return k == key })
	if len(keys) == 0 {
		delete(l.owners, addr)
		return
	}
	l.owners[addr] = keys
}

// addresses lists each once: of a sorted request, two Frontends of one Address are neighbours.
func (c request) addresses() []Address {
	var all []Address
	for _, f := range c.frontends {
		if len(all) == 0 || all[len(all)-1] != f.Address {
			all = append(all, f.Address)
		}
	}
	return all
}

func (l *ledger) winning(touched map[Address]bool) map[ID]Frontend {
	won := map[ID]Frontend{}
	for addr := range touched {
		if keys := l.owners[addr]; len(keys) > 0 {
			for _, f := range l.requests[keys[0]].frontends {
				if f.Address == addr {
					won[f.ID] = f
				}
			}
		}
	}
	return won
}

// lost lists the Addresses that key asks for and another Service has.
func (l *ledger) lost(key catalog.Key) []Refusal {
	var all []Refusal
	c := l.requests[key]
	for _, addr := range c.addresses() {
		if winner := l.owners[addr][0]; winner != key {
			all = append(all, Refusal{Address: addr, Kind: c.written[addr], Why: takenBy(addr, winner)})
		}
	}
	return all
}

func takenBy(addr Address, winner catalog.Key) string {
	return fmt.Sprintf("port %d/%s of %s is taken by Service %s: use another port or address, or delete or change that Service",
		addr.Port(), addr.Protocol, addr.Addr(), winner)
}

// owner is the request that has an Address.
func (l *ledger) owner(addr Address) (request, bool) {
	keys := l.owners[addr]
	if len(keys) == 0 {
		return request{}, false
	}
	return l.requests[keys[0]], true
}

// origin is the Service and port that an Address is of.
func (l *ledger) origin(addr Address) (string, bool) {
	c, _ := l.owner(addr)
	for _, f := range c.frontends {
		if f.Address == addr {
			return f.Origin(), true
		}
	}
	return "", false
}

// table is what all of it amounts to.
func (l *ledger) table() Table { return NewTable(l.frontends()...) }

// frontends are those of the table, in no order.
func (l *ledger) frontends() []Frontend {
	var all []Frontend
	for key, c := range l.requests {
		for _, f := range c.frontends {
			if l.owners[f.Address][0] == key {
				all = append(all, f)
			}
		}
	}
	return all
}

// adopt takes over a Table that a kernel was found to hold.
func (l *ledger) adopt(found Table) {
	batch := map[catalog.Key]request{}
	for _, f := range found.Frontends {
		c := batch[f.Service]
		c.frontends = append(c.frontends, f)
		for _, e := range f.Endpoints {
			c.serving = append(c.serving, e.AddrPort)
		}
		batch[f.Service] = c
	}
	l.replace(batch)
}

// keys lists the Services that ask for something.
func (l *ledger) keys() []catalog.Key { return slices.Collect(maps.Keys(l.requests)) }

func compareKeys(a, b catalog.Key) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}
