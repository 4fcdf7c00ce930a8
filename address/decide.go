package address

import (
	"cmp"
	"net/netip"
	"slices"
)

// Candidate is an address of the machine.
type Candidate struct {
	Prefix netip.Prefix
	Link   string
	Own    bool // the link is one of svcplane's
	Up     bool // the link is
	// Carrier: something is at the other end of the link.
	Carrier bool
	// Pending: not proven to be nobody else's yet, or found to be (RFC 4862 section 5.4).
	Pending bool
	// Deprecated is not for new connections any more (RFC 4862 section 5.5.4), Temporary hides who we are (RFC 8981).
	Deprecated, Temporary bool
	// Outward: the default route of its family leaves by the link; Source: packets that do carry this address.
	Outward, Source bool
}

// Addr is the address without its network.
func (c Candidate) Addr() netip.Addr { return c.Prefix.Addr() }

// usable says whether programs of the node can be reached at the address at all.
func (c Candidate) usable() bool { return c.Up && !c.Pending && !c.Own }

// Choice is the node's address of one family.
type Choice struct {
	Addr netip.Addr
	Link string
	// Spare: the machine has none, so this is the one that never leaves the node.
	Spare bool
	// Stopgap: there was no default route to choose by. The node moves when there is one.
	Stopgap bool
}

// Wish is what is wanted of the node's addresses.
type Wish struct {
	Pinned []netip.Addr // asked for, at most one of a family
	Spares []netip.Addr // one of each family that the node is to have, in the order of preference
}

// pinned is what was asked for in the family of a.
func (w Wish) pinned(a netip.Addr) (netip.Addr, bool) {
	for _, p := range w.Pinned {
		if p.Is4() == a.Is4() {
			return p, true
		}
	}
	return netip.Addr{}, false
}

// Decide chooses the address of each family, in the order of wish.Spares. now is what was chosen before, nil at first.
func Decide(now []Choice, machine []Candidate, wish Wish) []Choice {
	var all []Choice
	for i, spare := range wish.Spares {
		var before Choice
		if i < len(now) {
			before = now[i]
		}
		all = append(all, decideOne(before, machine, wish, spare))
	}
	return all
}

func decideOne(before Choice, machine []Candidate, wish Wish, spare netip.Addr) Choice {
	usable := slices.DeleteFunc(slices.Clone(machine), func(c Candidate) bool { return !c.usable() || c.Addr().Is4() != spare.Is4() })
	at := func(a netip.Addr) int {
		return slices.IndexFunc(usable, func(c Candidate) bool { return c.Addr() == a })
	}
	if pinned, ok := wish.pinned(spare); ok {
		if i := at(pinned); i >= 0 {
			return Choice{Addr: pinned, Link: usable[i].Link}
		}
		return Choice{Addr: spare, Spare: true}
	}
	best := slices.MaxFunc(append(usable, Candidate{}), better)
	if i := at(before.Addr); i >= 0 && !before.Spare {
		have := usable[i]
		left := have.Deprecated && !best.Deprecated || before.Stopgap && best.Outward && !have.Outward
		if !left {
			return Choice{Addr: have.Addr(), Link: have.Link, Stopgap: before.Stopgap && !have.Outward}
		}
	}
	// an address on a link without carrier belongs to the bridge of another program, except at the first start, when a cable may be missing
	if best.Link == "" || !best.Carrier && before.Addr.IsValid() {
		return Choice{Addr: spare, Spare: true}
	}
	return Choice{Addr: best.Addr(), Link: best.Link, Stopgap: !best.Outward}
}

// better orders candidates, the worst first; none at all comes before any. Of equals the first of the list is the best.
func better(a, b Candidate) int {
	for _, good := range []func(Candidate) bool{
		func(c Candidate) bool { return c.Link != "" },
		func(c Candidate) bool { return !c.Deprecated },
		func(c Candidate) bool { return c.Carrier },
		func(c Candidate) bool { return c.Outward },
		func(c Candidate) bool { return !c.Temporary },
		func(c Candidate) bool { return c.Source },
	} {
		if order := cmp.Compare(digit(good(a)), digit(good(b))); order != 0 {
			return order
		}
	}
	return 0
}

func digit(b bool) int {
	if b {
		return 1
	}
	return 0
}
