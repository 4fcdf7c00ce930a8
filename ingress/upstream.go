package ingress

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
)

// Group is the set of endpoints behind one GroupKey. Routes point to it; its endpoints are replaced in place, so
// that a change of endpoints rebuilds no table. It is safe for concurrent use, except set.
type Group struct {
	Key   GroupKey
	state atomic.Pointer[groupState]
	next  atomic.Uint32 // round robin
	lines *lines        // of its endpoints; nil: each has its own

	requests gate // those that matched a route to this group
}

// groupState is immutable.
type groupState struct {
	endpoints []*endpoint
	problem   Problem // why there can be no endpoints at all; zero: the Service and the port exist
}

// maxDials bounds how many endpoints one request tries; maxResends how often a request that may have reached an
// endpoint is sent again.
const (
	maxDials   = 5
	maxResends = 1
	// restAfterFailure is how long an endpoint that refused a connection is passed over while others are up.
	restAfterFailure = 5 * time.Second
)

var errNoEndpoint = errors.New("no ready endpoint")

func newGroup(key GroupKey) *Group {
	g := &Group{Key: key}
	g.state.Store(&groupState{})
	g.requests.onEmpty = func() { g.set(nil, "", Problem{}) }
	return g
}

// shut takes no more requests and lets the endpoints go after those under way.
func (g *Group) shut() { g.requests.shut() }

func (g *Group) problem() Problem { return g.state.Load().problem }

// set replaces the endpoints, keeping those that stay with their connections, and returns the retired ones.
func (g *Group) set(want []catalog.Endpoint, p Protocol, problem Problem) []*endpoint {
	old := g.state.Load()
	next := &groupState{problem: problem, endpoints: make([]*endpoint, 0, len(want))}
	for _, w := range want {
		i := slices.IndexFunc(old.endpoints, func(e *endpoint) bool { return e.addr == w.AddrPort && e.protocol == p })
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
	var gone []*endpoint
	for _, e := range old.endpoints {
		if !slices.Contains(next.endpoints, e) {
			e.retire()
			gone = append(gone, e)
		}
	}
	return gone
}

// pick enters an endpoint that was not tried, as how says. nil: none is left.
func (g *Group) pick(how Choice, tried []*endpoint) *endpoint {
	for {
		endpoints := g.state.Load().endpoints
		e := choose(endpoints, how, g.next.Add(1), tried)
		if e == nil || e.requests.enter() {
			return e
		}
		// e was retired between the two loads: the state that replaced it is there already
	}
}

// Attempt is how a request is to be sent, and where it went.
type Attempt struct {
	Choice   Choice
	Policy   *Policy   // its times; never nil
	Endpoint *endpoint // the last one that was tried
}

// RoundTrip sends req to an endpoint. It tries another one when the connection was refused, and once more when a
// request that is safe to repeat (RFC 9110 section 9.2.1, no body) got no answer. It returns errNoEndpoint or a
// *clientError where the endpoint is not to blame.
func (g *Group) RoundTrip(req *http.Request, a *Attempt) (*http.Response, error) {
	body := trackBody(req)
	var tried []*endpoint
	var last error
	for resends := 0; len(tried) < maxDials; {
		e := g.pick(a.Choice, tried)
		if e == nil {
			break
		}
		tried = append(tried, e)
		a.Endpoint = e
		resp, err := e.roundTrip(req, a.Policy, body)
		if err == nil {
			g.note(e, failing(resp.StatusCode))
			return resp, nil
		}
		last = err
		if cause := body.failure(); cause != nil {
			return nil, &clientError{cause}
		}
		var unsent *dialError
		switch {
		case errors.Is(err, errNoLine):
			return nil, err
		case req.Context().Err() != nil:
			return nil, &clientError{context.Cause(req.Context())}
		}
		g.note(e, true)
		switch {
		case errors.As(err, &unsent) && !body.touched():
			e.rest()
		case repeatable(req) && resends < maxResends && !isTimeout(err):
			resends++
		default:
			return nil, err
		}
	}
	if last == nil {
		return nil, errNoEndpoint
	}
	return nil, last
}

// failing says whether a code means that the endpoint, not the request, is in trouble.
func failing(code int) bool {
	return code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout
}

func repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody {
		return false
	}
	return repeatableMethod(req.Method)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// plain says whether the endpoints speak HTTP/1.1 without TLS, and there are any.
func (g *Group) plain() bool {
	endpoints := g.state.Load().endpoints
	return len(endpoints) > 0 && endpoints[0].protocol == ProtocolHTTP1
}

// clientError is a failure that the client caused: it went away, or its request body was broken.
type clientError struct{ error }

func (e *clientError) Unwrap() error { return e.error }

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
