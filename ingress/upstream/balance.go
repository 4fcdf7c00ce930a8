package upstream

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"svcplane/ingress/route"
)

// Passive ejection: an endpoint that failed ejectAfter requests in a row rests, longer each time it happens again,
// but never more than half of a group.
const (
	ejectAfter = 5
	ejectFor   = 10 * time.Second
	ejectMost  = 5 * time.Minute
)

// choose takes an endpoint that was not tried: the pinned one, the first by hash, one of two, or the next in turn.
// Endpoints that rest are used when there is nothing else. nil: none is left.
func choose(endpoints []*Endpoint, how route.Choice, turn uint32, tried []*Endpoint) *Endpoint {
	if how.Pinned != 0 {
		i := slices.IndexFunc(endpoints, func(e *Endpoint) bool { return e.ID == how.Pinned })
		if i >= 0 && !endpoints[i].resting() && !slices.Contains(tried, endpoints[i]) {
			return endpoints[i]
		}
	}
	switch {
	case how.Hashed:
		return byHash(endpoints, how.Hash, tried)
	case how.Balance == route.LeastRequests && len(endpoints) > 2 && len(tried) == 0:
		if e := lessBusy(endpoints); e != nil {
			return e
		}
	case how.Balance == route.LeastRequests && len(endpoints) == 2 && len(tried) == 0:
		a, b := endpoints[0], endpoints[1]
		if !a.resting() && !b.resting() && a.Requests.Inside.Load() != b.Requests.Inside.Load() {
			return fewer(a, b)
		}
	}
	return inTurn(endpoints, turn, tried)
}

func inTurn(endpoints []*Endpoint, turn uint32, tried []*Endpoint) *Endpoint {
	var resting *Endpoint
	n := len(endpoints)
	if n == 0 {
		return nil
	}
	i := int(turn % uint32(n))
	for range n {
		e := endpoints[i]
		if i++; i == n {
			i = 0
		}
		switch {
		case slices.Contains(tried, e):
		case !e.resting():
			return e
		case resting == nil:
			resting = e
		}
	}
	return resting
}

// lessBusy is the power of two choices; nil when one of the two rests.
func lessBusy(endpoints []*Endpoint) *Endpoint {
	i := rand.IntN(len(endpoints))
	j := rand.IntN(len(endpoints) - 1)
	if j >= i {
		j++
	}
	a, b := endpoints[i], endpoints[j]
	if a.resting() || b.resting() {
		return nil
	}
	return fewer(a, b)
}

func fewer(a, b *Endpoint) *Endpoint {
	if b.Requests.Inside.Load() < a.Requests.Inside.Load() {
		return b
	}
	return a
}

// byHash takes the endpoint with the highest score for the key (rendezvous hashing): when one comes or goes, only
// the keys that it takes or had move.
func byHash(endpoints []*Endpoint, hash uint64, tried []*Endpoint) *Endpoint {
	var best, resting *Endpoint
	var bestScore, restingScore uint64
	for _, e := range endpoints {
		score := route.Mix(hash ^ e.ID)
		switch {
		case slices.Contains(tried, e):
		case e.resting():
			if resting == nil || score > restingScore {
				resting, restingScore = e, score
			}
		case best == nil || score > bestScore:
			best, bestScore = e, score
		}
	}
	if best == nil {
		return resting
	}
	return best
}

// endpointID is the same in every process, so that cookies and hashes survive a restart.
func endpointID(addr netip.AddrPort) uint64 { return route.Hash("endpoint "+addr.String()) | 1 }

// Note tells the group how a request on e ended, so that one that only fails is passed over for a while.
func (g *Group) Report(e *Endpoint, failed bool) {
	if !failed {
		if e.failures.Load() != 0 {
			e.failures.Store(0)
		}
		return
	}
	if e.failures.Add(1) < ejectAfter {
		return
	}
	endpoints := g.state.Load().endpoints
	down := 1
	for _, other := range endpoints {
		if other != e && other.resting() {
			down++
		}
	}
	if down*2 > len(endpoints) {
		return
	}
	e.failures.Store(0)
	times := e.ejections.Add(1)
	e.restFor(min(ejectFor*time.Duration(times), ejectMost))
}
