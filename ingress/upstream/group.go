package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"svcplane/catalog"
	"svcplane/ingress/route"
)

// Group is the set of endpoints behind one GroupKey. Routes point to it; its endpoints are replaced in place, so
// that a change of endpoints rebuilds no table. It is safe for concurrent use, except set.
type Group struct {
	Key   route.GroupKey
	state atomic.Pointer[groupState]
	next  atomic.Uint32 // round robin
	lines *connBudget   // of its endpoints; nil: each has its own

	Requests gate // those that matched a route to this group
}

// groupState is immutable.
type groupState struct {
	endpoints []*Endpoint
	problem   route.Problem // why there can be no endpoints at all; zero: the Service and the port exist
}

// MaxDials bounds how many endpoints one request tries; MaxResends how often a request that may have reached an
// endpoint is sent again.
const (
	MaxDials   = 5
	MaxResends = 1
	// restAfterFailure is how long an endpoint that refused a connection is passed over while others are up.
	restAfterFailure = 5 * time.Second
)

// ErrNoEndpoint says that a group has no endpoint that requests may go to.
var ErrNoEndpoint = errors.New("no ready endpoint")

func newGroup(key route.GroupKey) *Group {
	g := &Group{Key: key}
	g.state.Store(&groupState{})
	g.Requests.onEmpty = func() { g.set(nil, "", route.Problem{}) }
	return g
}

// shut takes no more requests and lets the endpoints go after those under way.
func (g *Group) shut() { g.Requests.shut() }

// Problem is why there can be no endpoints at all; zero: the Service and the port exist.
func (g *Group) Problem() route.Problem { return g.state.Load().problem }

// Endpoints are those that requests may go to now.
func (g *Group) Endpoints() []*Endpoint { return g.state.Load().endpoints }

// set replaces the endpoints, keeping those that stay with their connections, and returns the retired ones.
func (g *Group) set(want []catalog.Endpoint, p route.Protocol, problem route.Problem) []*Endpoint {
	old := g.state.Load()
	next := &groupState{problem: problem, endpoints: make([]*Endpoint, 0, len(want))}
	for _, w := range want {
		i := slices.IndexFunc(old.endpoints, func(e *Endpoint) bool { return e.Addr == w.AddrPort && e.protocol == p })
		if i >= 0 {
			next.endpoints = append(next.endpoints, old.endpoints[i])
		} else {
			e := newEndpoint(w.AddrPort, p)
			if g.lines != nil {
				e.lines = g.lines
			}
			next.endpoints = append(next.endpoints, e)
		}
	}
	g.state.Store(next)
	var gone []*Endpoint
	for _, e := range old.endpoints {
		if !slices.Contains(next.endpoints, e) {
			e.retire()
			gone = append(gone, e)
		}
	}
	return gone
}

// Pick enters an endpoint that was not tried, as how says. nil: none is left.
func (g *Group) Pick(how route.Choice, tried []*Endpoint) *Endpoint {
	for {
		endpoints := g.state.Load().endpoints
		e := choose(endpoints, how, g.next.Add(1), tried)
		if e == nil || e.Requests.Enter() {
			return e
		}
		// e was retired between the two loads: the state that replaced it is there already
	}
}

// Attempt is how a request is to be sent, and where it went.
type Attempt struct {
	Choice   route.Choice
	Policy   *route.Policy // its times; never nil
	Endpoint *Endpoint     // the last one that was tried
}

// RoundTrip sends req to an endpoint. It tries another one when the connection was refused, and once more when a
// request that is safe to repeat (RFC 9110 section 9.2.1, no body) got no answer. It returns ErrNoEndpoint or a
// *ClientError where the endpoint is not to blame.
func (g *Group) RoundTrip(req *http.Request, a *Attempt) (*http.Response, error) {
	body := trackBody(req)
	var tried []*Endpoint
	var last error
	for resends := 0; len(tried) < MaxDials; {
		e := g.Pick(a.Choice, tried)
		if e == nil {
			break
		}
		tried = append(tried, e)
		a.Endpoint = e
		resp, err := e.roundTrip(req, a.Policy, body)
		if err == nil {
			g.Report(e, Failing(resp.StatusCode))
			return resp, nil
		}
		last = err
		if cause := body.failure(); cause != nil {
			return nil, &ClientError{cause}
		}
		var unsent *DialError
		switch {
		case errors.Is(err, ErrTooManyConns):
			return nil, err
		case req.Context().Err() != nil:
			return nil, &ClientError{context.Cause(req.Context())}
		}
		g.Report(e, true)
		switch {
		case errors.As(err, &unsent) && !body.touched():
			e.Rest()
		case Repeatable(req) && resends < MaxResends && !IsTimeout(err):
			resends++
		default:
			return nil, err
		}
	}
	if last == nil {
		return nil, ErrNoEndpoint
	}
	return nil, last
}

// Failing says whether a code means that the endpoint, not the request, is in trouble.
func Failing(code int) bool {
	return code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout
}

// Repeatable says whether a request may be sent twice (RFC 9110 section 9.2.1, no body).
func Repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody {
		return false
	}
	return RepeatableMethod(req.Method)
}

// IsTimeout says whether an error comes from a time that was over.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Plain says whether the endpoints speak HTTP/1.1 without TLS, and there are any.
func (g *Group) Plain() bool {
	endpoints := g.state.Load().endpoints
	return len(endpoints) > 0 && endpoints[0].protocol == route.ProtocolHTTP1
}

// ClientError is a failure that the client caused: it went away, or its request body was broken.
type ClientError struct{ Cause error }

// Error is that of the cause.
func (e *ClientError) Error() string { return e.Cause.Error() }

// Unwrap gives the cause.
func (e *ClientError) Unwrap() error { return e.Cause }

// trackedBody knows whether a request body was touched, so that the request can be sent elsewhere when it was not.
// Close does nothing: the http.Server closes the real body after the handler.
type trackedBody struct {
	io.Reader
	read atomic.Bool
	err  atomic.Pointer[error]

	mu    sync.Mutex
	watch func(turn) // called when the turn changes, with mu held; nil: nothing
}

// turn says whom a request body waits for.
type turn int

const (
	clientsTurn   turn = iota // to send the next part
	endpointsTurn             // to take it
	bodySent                  // nobody any more
)

// trackBody puts a trackedBody in the place of req's body; nil when there is none.
func trackBody(req *http.Request) *trackedBody {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	b := &trackedBody{Reader: req.Body}
	req.Body = b
	return b
}

func (b *trackedBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	b.turns(clientsTurn)
	n, err := b.Reader.Read(p)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			b.err.Store(&err)
		}
		b.turns(bodySent)
		return n, err
	}
	b.turns(endpointsTurn)
	return n, nil
}

func (b *trackedBody) turns(t turn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch != nil {
		b.watch(t)
	}
}

// onTurn has f called from now on, and what was called before not any more; nil: nothing.
func (b *trackedBody) onTurn(f func(turn)) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watch = f
	}
}

func (b *trackedBody) Close() error { return nil }

func (b *trackedBody) touched() bool { return b != nil && b.read.Load() }

func (b *trackedBody) failure() error {
	if b == nil {
		return nil
	}
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

// RepeatableMethod: RFC 9110 section 9.2.1.
func RepeatableMethod(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}
