package serve

import (
	"net/http"
	"sync/atomic"
	"time"

	"svcplane/ingress/http1"
	"svcplane/ingress/upstream"
)

// exchanged is what is counted of a request beside its route: whoever serves it fills it in.
type exchanged struct {
	verb http1.Verb
	// octets of the request and of its answer, heads included, as HTTP/1.1 writes them
	asked, answered int64
}

// RouteStats count the answers of a route by code and method. They are safe for concurrent use; counting allocates once
// for each code and method.
type RouteStats struct {
	codes [6]atomic.Pointer[[100]atomic.Pointer[codeStats]] // by the first digit, then the rest
}

type codeStats [http1.OtherMethod + 1]atomic.Pointer[series]

// series counts the answers of a code to a method.
type series struct {
	took            upstream.Durations
	asked, answered sizes
	switched        atomic.Uint64                      // to another protocol: they last as long as both ends like
	own             atomic.Pointer[upstream.Durations] // of those in took that no endpoint gave; nil: all came from endpoints
}

// sizeBounds are the upper bounds of octets: ingress-nginx' for lengths, 10 to 100, and for sizes, 10 to 10⁷.
var sizeBounds = [...]float64{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 1e3, 1e4, 1e5, 1e6, 1e7}

// sizes is a histogram of octets.
type sizes struct {
	buckets [len(sizeBounds) + 1]atomic.Uint64
	sum     atomic.Int64
}

func (s *sizes) observe(n int64) {
	i := int(max(n-1, 0) / 10)
	if n > 100 {
		i = 10
		for most := int64(1000); n > most && i < len(sizeBounds); most *= 10 {
			i++
		}
	}
	s.buckets[i].Add(1)
	s.sum.Add(n)
}

// observe counts one answer; byEndpoint says that it came from one.
func (s *RouteStats) observe(code int, x *exchanged, took time.Duration, byEndpoint bool) {
	one := s.series(code, x.verb)
	if code == http.StatusSwitchingProtocols {
		one.switched.Add(1)
		return
	}
	one.asked.observe(x.asked)
	one.answered.observe(x.answered)
	if !byEndpoint {
		if one.own.Load() == nil {
			one.own.CompareAndSwap(nil, new(upstream.Durations))
		}
		one.own.Load().Observe(took)
	}
	one.took.Observe(took) // the last: who counts it finds the rest counted
}

func (s *RouteStats) series(code int, v http1.Verb) *series {
	class := code / 100
	if class < 1 || class >= len(s.codes) {
		class, code = 0, 0
	}
	rest := s.codes[class].Load()
	if rest == nil {
		s.codes[class].CompareAndSwap(nil, new([100]atomic.Pointer[codeStats]))
		rest = s.codes[class].Load()
	}
	verbs := rest[code%100].Load()
	if verbs == nil {
		rest[code%100].CompareAndSwap(nil, new(codeStats))
		verbs = rest[code%100].Load()
	}
	one := verbs[v].Load()
	if one == nil {
		verbs[v].CompareAndSwap(nil, new(series))
		one = verbs[v].Load()
	}
	return one
}

// each visits what was counted.
func (s *RouteStats) each(visit func(code int, v http1.Verb, one *series)) {
	for class := range s.codes {
		rest := s.codes[class].Load()
		if rest == nil {
			continue
		}
		for i := range rest {
			verbs := rest[i].Load()
			if verbs == nil {
				continue
			}
			for v := range verbs {
				if one := verbs[v].Load(); one != nil {
					visit(class*100+i, http1.Verb(v), one)
				}
			}
		}
	}
}

// headSize is how many octets HTTP/1.1 takes for fields and the line before them, which has line octets.
func headSize(line int, fields http.Header) int64 {
	n := line + len("\r\n\r\n")
	for name, values := range fields {
		for _, v := range values {
			n += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	return int64(n)
}
