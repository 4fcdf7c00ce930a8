package serve

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"svcplane/ingress/listen"
	"svcplane/ingress/route"
)

const (
	limitShards     = 64
	maxClientsOfOne = 4096 // per shard; beyond it, idle clients are forgotten, then the shard starts anew
)

// limiter counts requests per client: a token bucket, kept as the one moment at which it would be full again
// (GCRA), and requests under way. It is safe for concurrent use.
type limiter struct {
	limits   route.Limits
	interval time.Duration // between two requests at the steady rate; 0: no rate limit
	seed     maphash.Seed
	shards   [limitShards]limitShard
}

type limitShard struct {
	mu      sync.Mutex
	clients map[netip.Addr]*clientCount
}

type clientCount struct {
	full   int64 // unix nanoseconds at which the bucket is full
	inside int
}

func newLimiter(l route.Limits) *limiter {
	lim := &limiter{limits: l, seed: maphash.MakeSeed()}
	if l.PerSecond > 0 {
		lim.interval = time.Duration(float64(time.Second) / l.PerSecond)
	}
	for i := range lim.shards {
		lim.shards[i].clients = map[netip.Addr]*clientCount{}
	}
	return lim
}

// enter counts a request in. wait is zero when it may go on, and leave must be called after it; else it is how
// long the client should wait. A nil limiter has no limits.
func (l *limiter) enter(client netip.Addr, now time.Time) (wait time.Duration) {
	if l == nil || route.Within(l.limits.ExemptFrom, client) {
		return 0
	}
	s := l.shard(listen.Subscriber(client))
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.client(listen.Subscriber(client), now)
	if l.limits.Concurrent > 0 && c.inside >= l.limits.Concurrent {
		return time.Second
	}
	if l.interval > 0 {
		start := max(c.full, now.UnixNano())
		spare := int64(l.interval) * int64(max(l.limits.Burst, 1)-1)
		if ahead := start - now.UnixNano(); ahead > spare {
			return time.Duration(ahead - spare)
		}
		c.full = start + int64(l.interval)
	}
	c.inside++
	return 0
}

func (l *limiter) leave(client netip.Addr) {
	if l == nil || route.Within(l.limits.ExemptFrom, client) {
		return
	}
	s := l.shard(listen.Subscriber(client))
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clients[listen.Subscriber(client)]; c != nil && c.inside > 0 {
		c.inside--
	}
}

func (l *limiter) shard(a netip.Addr) *limitShard {
	return &l.shards[maphash.Comparable(l.seed, a)%limitShards]
}

// client is called with mu held.
func (s *limitShard) client(a netip.Addr, now time.Time) *clientCount {
	if c := s.clients[a]; c != nil {
		return c
	}
	if len(s.clients) >= maxClientsOfOne {
		for k, c := range s.clients {
			if c.inside == 0 && c.full <= now.UnixNano() {
				delete(s.clients, k)
			}
		}
		if len(s.clients) >= maxClientsOfOne {
			clear(s.clients) // a flood from everywhere: bounded memory comes before exact counting
		}
	}
	c := &clientCount{}
	s.clients[a] = c
	return c
}
