package ingress

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// publication says which routing table is in force.
type publication struct {
	number int
	at     time.Time
}

// publish puts a table into force on all listeners. One caller at a time.
func (s *server) publish(t *Table[Bound]) {
	for _, l := range s.listeners() {
		l.table.Store(t)
	}
	last, _ := s.tables()
	s.published.Store(&publication{last + 1, time.Now()})
}

// tables is how many were put into force, and when the last one was.
func (s *server) tables() (int, time.Time) {
	if p := s.published.Load(); p != nil {
		return p.number, p.at
	}
	return 0, time.Time{}
}

// bound is what all listeners serve, each route once, sorted by host, then in the order that paths are tried.
func (s *server) bound() []*Bound {
	var all []*Bound
	seen := map[*Bound]bool{}
	for _, l := range s.listeners() {
		for _, b := range l.table.Load().All() {
			if !seen[b] {
				seen[b] = true
				all = append(all, b)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Bound) int { return Precedence(a.Route, b.Route) })
	return all
}

// certificate is one that is served for a host.
type certificate struct {
	Host    string
	Secret  types.NamespacedName
	Expires time.Time
	Serial  string
}
