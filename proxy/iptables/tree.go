package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"svcplane/proxy"
)

// leafSize is how many Addresses a leaf holds at most. Rules met on the way cost about the same as rules in
// a leaf, and 16 ways with a leaf of 8 keep both short.
const leafSize = 8

// tree dispatches by Address: a path of half bytes, first those of the address, then one for the protocol,
// then four of the port. Its shape is a function of the Addresses in it. Nodes with a single way on make no
// chain.
type tree struct {
	table, root string
	head, tail  []string // rules at the beginning and the end of the root
	digits      int      // of an address: 8 or 32
	top         node
	dirty       map[string]bool // paths whose chain may have changed since take
}

func newTree(table, root string, head, tail []string, ipv6 bool) *tree {
	t := &tree{table: table, root: root, head: head, tail: tail, digits: 8, dirty: map[string]bool{}}
	if ipv6 {
		t.digits = 32
	}
	return t
}

// take returns the chains that may have changed, nil for one that there is no more, and forgets them.
func (t *tree) take() ruleset {
	changed := ruleset{}
	for at := range t.dirty {
		changed[chainID{t.table, t.name(at)}] = t.chain(at)
	}
	clear(t.dirty)
	return changed
}

type node struct {
	count  int
	kids   map[byte]*node    // nil in a leaf
	leaves map[string]leaves // by path; nil elsewhere
}

type leaves []string

const hexDigits = "0123456789abcdef"

var protocolDigits = map[corev1.Protocol]byte{corev1.ProtocolTCP: '0', corev1.ProtocolUDP: '1', corev1.ProtocolSCTP: '2'}

// path spells an Address in hexadecimal digits.
func path(a proxy.Address) string {
	var b strings.Builder
	for _, octet := range a.Addr().AsSlice() {
		b.WriteByte(hexDigits[octet>>4])
		b.WriteByte(hexDigits[octet&15])
	}
	b.WriteByte(protocolDigits[a.Protocol])
	fmt.Fprintf(&b, "%04x", a.Port())
	return b.String()
}

// put sets the rules of an Address; none remove it.
func (t *tree) put(addr proxy.Address, rules []string) {
	p := path(addr)
	mark := func(at string) { t.dirty[at] = true }
	if len(rules) == 0 {
		if t.has(p) {
			t.remove(p, mark)
		}
		return
	}
	fresh := !t.has(p)
	n := &t.top
	for depth := 0; ; depth++ {
		mark(p[:depth])
		if fresh {
			n.count++
		}
		if n.kids == nil {
			if n.leaves == nil {
				n.leaves = map[string]leaves{}
			}
			n.leaves[p] = rules
			n.split(p[:depth], mark)
			return
		}
		kid := n.kids[p[depth]]
		if kid == nil {
			kid = &node{}
			n.kids[p[depth]] = kid
		}
		n = kid
	}
}

func (t *tree) has(p string) bool {
	n := &t.top
	for depth := 0; n.kids != nil; depth++ {
		if n = n.kids[p[depth]]; n == nil {
			return false
		}
	}
	_, ok := n.leaves[p]
	return ok
}

// split deals the leaves of a node that has become too large out to new ones.
func (n *node) split(at string, mark func(string)) {
	mark(at)
	if len(n.leaves) <= leafSize {
		return
	}
	n.kids = map[byte]*node{}
	for p, rules := range n.leaves {
		kid := n.kids[p[len(at)]]
		if kid == nil {
			kid = &node{leaves: map[string]leaves{}}
			n.kids[p[len(at)]] = kid
		}
		kid.leaves[p] = rules
		kid.count++
	}
	n.leaves = nil
	for digit, kid := range n.kids {
		kid.split(at+string(digit), mark)
	}
}

func (t *tree) remove(p string, mark func(string)) {
	n := &t.top
	for depth := 0; ; depth++ {
		mark(p[:depth])
		n.count--
		if n.kids != nil && n.count <= leafSize {
			n.merge(p[:depth], mark)
		}
		if n.kids == nil {
			delete(n.leaves, p)
			return
		}
		kid := n.kids[p[depth]]
		if kid.count == 1 {
			mark(p[:depth+1])
			delete(n.kids, p[depth])
			return
		}
		n = kid
	}
}

// merge gathers the leaves below a node that has become small.
func (n *node) merge(at string, mark func(string)) {
	n.leaves = map[string]leaves{}
	var gather func(from *node, at string)
	gather = func(from *node, at string) {
		mark(at)
		for p, rules := range from.leaves {
			n.leaves[p] = rules
		}
		for digit, kid := range from.kids {
			gather(kid, at+string(digit))
		}
	}
	for digit, kid := range n.kids {
		gather(kid, at+string(digit))
	}
	n.kids = nil
}

// name is the chain of the node at a path.
func (t *tree) name(at string) string {
	switch {
	case at == "":
		return t.root
	case len(at) < 16:
		return prefix + "T-" + at
	}
	return prefix + "T-" + hashed(at)
}

// all adds every chain to out.
func (t *tree) all(out ruleset) {
	var walk func(n *node, at string)
	walk = func(n *node, at string) {
		if t.makesChain(n, at) {
			out[chainID{t.table, t.name(at)}] = t.rules(n, at)
		}
		for digit, kid := range n.kids {
			walk(kid, at+string(digit))
		}
	}
	walk(&t.top, "")
}

// chain renders the chain of the node at a path, nil when there is none.
func (t *tree) chain(at string) []string {
	n := &t.top
	for depth := range len(at) {
		if n = n.kids[at[depth]]; n == nil {
			return nil
		}
	}
	if !t.makesChain(n, at) {
		return nil
	}
	return t.rules(n, at)
}

func (t *tree) makesChain(n *node, at string) bool {
	return at == "" || n.kids == nil || len(n.kids) > 1
}

func (t *tree) rules(n *node, at string) []string {
	rules := []string{}
	if at == "" {
		rules = append(rules, t.head...)
	}
	for _, p := range sortedKeys(n.leaves) {
		rules = append(rules, n.leaves[p]...)
	}
	for _, digit := range sortedKeys(n.kids) {
		kid, below := n.kids[digit], at+string(digit)
		for len(kid.kids) == 1 {
			for digit, only := range kid.kids {
				kid, below = only, below+string(digit)
			}
		}
		rules = append(rules, t.match(at, below)+" -j "+t.name(below))
	}
	if at == "" {
		rules = append(rules, t.tail...)
	}
	return rules
}

// match is for a packet that is known to be on the path at, whether it is on the longer path below.
func (t *tree) match(at, below string) string {
	var match []string
	if len(at) < t.digits {
		match = append(match, "-d "+addressPrefix(below[:min(len(below), t.digits)], t.digits))
	}
	if len(below) > t.digits {
		name := map[byte]string{'0': "tcp", '1': "udp", '2': "sctp"}[below[t.digits]]
		match = append(match, "-p "+name)
		if port := below[t.digits+1:]; port != "" {
			match = append(match, "-m "+name+" --dport "+portRange(port))
		}
	}
	return strings.Join(match, " ")
}

func addressPrefix(path string, digits int) string {
	octets := make([]byte, digits/2)
	for i := range path {
		octets[i/2] |= byte(strings.IndexByte(hexDigits, path[i])) << (4 * (1 - i%2))
	}
	addr, _ := netip.AddrFromSlice(octets)
	return netip.PrefixFrom(addr, 4*len(path)).String()
}

// portRange is the ports that begin with these digits of the four.
func portRange(path string) string {
	low, span := 0, 1<<(16-4*len(path))
	for i := range path {
		low |= strings.IndexByte(hexDigits, path[i]) << (12 - 4*i)
	}
	if span == 1 {
		return strconv.Itoa(low)
	}
	return fmt.Sprintf("%d:%d", low, low+span-1)
}

func sortedKeys[K interface{ ~string | ~byte }, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
