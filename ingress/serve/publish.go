package serve

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"svcplane/ingress/route"
)

// publication says which routing table is in force.
type publication struct {
	number int
	at     time.Time
}

// Publish puts a table into force on all listeners. One caller at a time.
func (s *Server) Publish(t *route.Table[Route]) {
	for _, l := range s.listeners() {
		l.table.Store(t)
	}
	last, _ := s.tables()
	s.published.Store(&publication{last + 1, time.Now()})
}

// tables is how many were put into force, and when the last one was.
func (s *Server) tables() (int, time.Time) {
	if p := s.published.Load(); p != nil {
		return p.number, p.at
	}
	return 0, time.Time{}
}

// Routes is what all listeners serve, each route once, sorted by host, then in the order that paths are tried.
func (s *Server) Routes() []*Route {
	var all []*Route
	seen := map[*Route]bool{}
	for _, l := range s.listeners() {
		for _, b := range l.table.Load().All() {
			if !seen[b] {
				seen[b] = true
				all = append(all, b)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Route) int { return route.Precedence(a.Route, b.Route) })
	return all
}

// Certificate is one that is served for a host.
type Certificate struct {
	Host    string
	Secret  types.NamespacedName
	Expires time.Time
	Serial  string
}
