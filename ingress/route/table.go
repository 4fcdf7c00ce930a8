package route

import (
	"errors"
	"maps"
	"strings"
)

// Table finds what is kept for the host, path and further properties of a request. It is immutable and safe for concurrent
// use, and knows nothing of what it keeps. Precedence, after the Ingress specification
// (https://kubernetes.io/docs/concepts/services-networking/ingress/): exact host before wildcard host before no
// host; within a host Exact before the longest Prefix, and of one path the Condition that asks for more. A rule without a
// host "applies to all inbound HTTP traffic", so a host's own rules do not hide it. Defaults come when no rule matched, the
// most specific host first.
type Table[T any] struct {
	exact    map[string]*Rules[T] // by host
	wildcard map[string]*Rules[T] // by what follows "*."
	any      *Rules[T]            // nil: none
}

// Rules are what is kept for one host.
type Rules[T any] struct {
	root     node[T]
	fallback place[T]
	all      []*T // in the order of Add
}

// node is an element of the paths of one host.
type node[T any] struct {
	children   map[string]*node[T]
	exact      place[T] // ends here
	exactSlash place[T] // ends here with a slash
	prefix     place[T]
}

// place is what is kept for one path of one host.
type place[T any] struct {
	plain       *T // whatever else the request is like; nil: none
	conditional []conditional[T]
}

// conditional are tried before plain, in their order.
type conditional[T any] struct {
	when  *Condition
	value *T
}

// take is what of a place takes a request; nil: nothing.
func (p *place[T]) take(v View) *T {
	for i := range p.conditional {
		if p.conditional[i].when.Holds(v) {
			return p.conditional[i].value
		}
	}
	return p.plain
}

// Match finds what is kept for a request, nil if there is nothing. host is in the form of Host, path in that of
// Path.Match. It does not allocate; its cost is proportional to the length of path.
func (t *Table[T]) Match(host, path string, v View) *T {
	levels := t.levels(host)
	for _, h := range levels {
		if h != nil {
			if r := h.root.match(path, v); r != nil {
				return r
			}
		}
	}
	for _, h := range levels {
		if h != nil {
			if r := h.fallback.take(v); r != nil {
				return r
			}
		}
	}
	return nil
}

// levels are the rules that a host may fall under, the most specific first. A wildcard stands for exactly one label, so
// there is one candidate.
func (t *Table[T]) levels(host string) [3]*Rules[T] {
	levels := [3]*Rules[T]{t.exact[host], nil, t.any}
	if len(t.wildcard) > 0 {
		if label, suffix, found := strings.Cut(host, "."); found && label != "" {
			levels[1] = t.wildcard[suffix]
		}
	}
	return levels
}

func (n *node[T]) match(path string, v View) *T {
	best := n.prefix.take(v)
	for rest := path[1:]; rest != ""; {
		element, after, more := strings.Cut(rest, "/")
		if n = n.children[element]; n == nil {
			return best
		}
		if r := n.prefix.take(v); r != nil {
			best = r
		}
		if !more {
			return orElse(n.exact.take(v), best)
		}
		rest = after
	}
	return orElse(n.exactSlash.take(v), best)
}

func orElse[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// ErrPathInDoubt refuses a request that one server would take for another one's.
var ErrPathInDoubt = errors.New("the path can be read in several ways, and another one is restricted")

// Choose is Match for a path that an endpoint may read in another way. If what is kept for another reading restricts whom
// it lets pass, and what was found does not restrict as much (strict), the request is refused; a reading that no rule has is
// nobody's to protect.
func (t *Table[T]) Choose(host string, p Path, v View, strict func(found, other *T) bool) (*T, error) {
	r := t.Match(host, p.Match, v)
	if p.doubts == 0 || r == nil {
		return r, nil
	}
	for habits := range p.doubts + 1 {
		if habits&^p.doubts != 0 {
			continue
		}
		if other := t.Match(host, p.reading(habits), v); other != nil && !strict(r, other) {
			return nil, ErrPathInDoubt
		}
	}
	return r, nil
}

// Level is one of the hosts whose rules a request may fall under.
type Level[T any] struct {
	Name string // for people
	All  []*T   // nil: it has no rules
}

// Levels are those of a host, the most specific first.
func (t *Table[T]) Levels(host string) []Level[T] {
	names := [3]string{"host \"" + host + "\"", "wildcard host for \"" + host + "\"", "rules without a host"}
	var all []Level[T]
	for i, h := range t.levels(host) {
		l := Level[T]{Name: names[i]}
		if h != nil {
			l.All = h.all
		}
		all = append(all, l)
	}
	return all
}

// All is what the table keeps, in no order.
func (t *Table[T]) All() []*T {
	var all []*T
	for _, hosts := range []map[string]*Rules[T]{t.exact, t.wildcard} {
		for h := range maps.Values(hosts) {
			all = append(all, h.all...)
		}
	}
	if t.any != nil {
		all = append(all, t.any.all...)
	}
	return all
}

// With is a table with other rules for some hosts; nil removes a host. It costs a copy of the map of hosts.
func (t *Table[T]) With(hosts map[string]*Rules[T]) *Table[T] {
	next := &Table[T]{exact: maps.Clone(t.exact), wildcard: maps.Clone(t.wildcard), any: t.any}
	for host, rules := range hosts {
		next.put(host, rules)
	}
	return next
}

func (t *Table[T]) put(host string, rules *Rules[T]) {
	if host == "" {
		t.any = rules
		return
	}
	table := &t.exact
	if suffix, wild := strings.CutPrefix(host, "*."); wild {
		table, host = &t.wildcard, suffix
	}
	if rules == nil {
		delete(*table, host)
		return
	}
	if *table == nil {
		*table = map[string]*Rules[T]{}
	}
	(*table)[host] = rules
}

// Add keeps value where r is, after what is there already; only for rules that no table has yet. Of two without a
// condition, or with the same, the first is kept.
func (h *Rules[T]) Add(r *Route, value *T) {
	h.all = append(h.all, value)
	p := h.place(r)
	if r.When == nil {
		p.plain = orElse(p.plain, value)
		return
	}
	i := 0
	for i < len(p.conditional) && p.conditional[i].when.compare(r.When) >= 0 {
		i++
	}
	p.conditional = append(p.conditional[:i:i], append([]conditional[T]{{r.When, value}}, p.conditional[i:]...)...)
}

func (h *Rules[T]) place(r *Route) *place[T] {
	if r.Kind == Default {
		return &h.fallback
	}
	n := &h.root
	for element := range strings.SplitSeq(strings.Trim(r.Path, "/"), "/") {
		if element != "" {
			n = n.child(element)
		}
	}
	switch {
	case r.Kind == Prefix:
		return &n.prefix
	case strings.HasSuffix(r.Path, "/"):
		return &n.exactSlash
	}
	return &n.exact
}

func (n *node[T]) child(element string) *node[T] {
	if c := n.children[element]; c != nil {
		return c
	}
	if n.children == nil {
		n.children = map[string]*node[T]{}
	}
	c := &node[T]{}
	n.children[element] = c
	return c
}
