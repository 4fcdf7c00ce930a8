package dns

import (
	"fmt"
	"slices"
)

// stub is a domain with servers of its own.
type stub struct {
	domain  string // wire form
	forward *forwarder
}

func (s *Server) makeStubs() error {
	for domain, servers := range s.cfg.Stubs {
		wire, err := wireName(domain)
		if err != nil {
			return fmt.Errorf("dns: stub domain %q is not a domain name: %w", domain, err)
		}
		if len(servers) == 0 {
			return fmt.Errorf("dns: stub domain %q has no server, give at least one address", domain)
		}
		f := newForwarder(s.forward.cache, s.forward.now)
		f.use(servers)
		s.stubs = append(s.stubs, stub{wire, f})
	}
	slices.SortFunc(s.stubs, func(a, b stub) int { return len(b.domain) - len(a.domain) })
	return nil
}

// forwarderFor finds who resolves a name that is not ours.
func (s *Server) forwarderFor(q *question) *forwarder {
	for _, stub := range s.stubs {
		if _, in := q.within(stub.domain); in {
			return stub.forward
		}
	}
	return s.forward
}
