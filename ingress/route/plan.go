package route

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
)

// Request is what a policy looks at of a request.
type Request struct {
	View
	Client    netip.Addr // who asks, through trusted proxies
	Scheme    string     // "http" or "https", as the client sees it
	Host      string     // as it came
	Path      Path
	RawQuery  string // without "?"
	Length    int64  // octets of the body; -1: not known
	HTTPSPort uint16 // where https is served, for redirects
	Place     string // the path of the route that takes the request
}

// Decision is what becomes of a request.
type Decision struct {
	Answer *Answer // what the client is told; nil: the request is passed on, with what follows

	Send                 Path   // to the endpoint
	Host                 string // that the endpoint sees
	Choice               Choice // of the endpoint
	MaxBody              int64  // octets of a body whose length is not known; 0: any number
	WithoutAuthorization bool   // it was for us: the endpoint has no use for the password
	Origin               string // of the page that asks, for CORS
}

// Answer is what a client is told instead of an endpoint's answer.
type Answer struct {
	Code   int
	Fields []HeaderField
	Text   string // without a line break; empty: no body
}

// Plan is a Policy compiled: its steps in the order in which they are taken. It is immutable. A nil Plan has no steps.
type Plan struct {
	*Policy
	// Fast says that the ways without net/http can take all steps.
	Fast  bool
	steps []step
}

// step is one thing that a policy wants of requests.
type step struct {
	text string                    // for people; empty: it goes without saying
	fast bool                      // the ways without net/http can take it
	do   func(*Request, *Decision) // nil: it is done elsewhere, by what the Policy says
}

// FastHeaders is how many headers, of requests and of answers, a policy may set on the ways without net/http.
const FastHeaders = 8

// Decide says what becomes of a request under the plan of its route and, before it, that of another object (over); either
// may be nil. It looks at nothing but its arguments, so that every way that a request takes decides alike.
func Decide(r *Request, over, own *Plan, d *Decision) {
	*d = Decision{Send: r.Path, Host: r.Host}
	if over.admit(r, d); d.Answer != nil {
		return
	}
	if d.Send, d.Host, d.Choice = r.Path, r.Host, (Choice{}); own != nil {
		own.admit(r, d) // what over wants changed is meant for its own route
	}
}

// admit takes the steps until one answers.
func (p *Plan) admit(r *Request, d *Decision) {
	if p == nil {
		return
	}
	for i := range p.steps {
		if do := p.steps[i].do; do != nil {
			if do(r, d); d.Answer != nil {
				return
			}
		}
	}
}

// Compile makes the plan of a policy. login says whether a name and password are those of a user.
func Compile(p *Policy, login func(name, password string) bool) *Plan {
	plan := &Plan{Policy: p, Fast: true}
	for _, steps := range [][]step{p.admission(login), p.limits(), p.changes(), p.choices(), p.elsewhere()} {
		for _, s := range steps {
			plan.Fast = plan.Fast && s.fast
		}
		plan.steps = append(plan.steps, steps...)
	}
	return plan
}

// Texts say what the steps do.
func (p *Plan) Texts() []string {
	var all []string
	if p != nil {
		for _, s := range p.steps {
			if s.text != "" {
				all = append(all, s.text)
			}
		}
	}
	return all
}

// admission are the steps that may answer.
func (p *Policy) admission(login func(name, password string) bool) (steps []step) {
	for _, why := range p.Closed {
		steps = append(steps, step{"refuses everything with 503: " + why, true, answers(closedAnswer)})
	}
	if len(p.Allow) > 0 || len(p.Deny) > 0 {
		steps = append(steps, step{p.rangesText(), true, func(r *Request, d *Decision) {
			if !p.allows(r.Client) {
				d.Answer = strangerAnswer
			}
		}})
	}
	if p.HTTPSRedirect {
		steps = append(steps, step{"redirects http to https", true, func(r *Request, d *Decision) {
			if r.Scheme == "http" {
				d.Answer = redirection(r.httpsLocation(), http.StatusPermanentRedirect)
			}
		}})
	}
	if p.Redirect != nil {
		steps = append(steps, step{fmt.Sprintf("redirects to %s with %d", p.Redirect.To, p.Redirect.Code), true, answers(redirection(p.Redirect.To, p.Redirect.Code))})
	}
	if p.AppRoot != "" {
		root := redirection(p.AppRoot, http.StatusFound)
		steps = append(steps, step{"redirects / to " + p.AppRoot, true, func(r *Request, d *Decision) {
			if r.Path.Sent == "/" {
				d.Answer = root
			}
		}})
	}
	if p.CORS != nil {
		steps = append(steps, step{"answers CORS", true, func(r *Request, d *Decision) {
			d.Origin = r.Header("Origin")
			d.Answer = p.CORS.preflight(r, d.Origin)
		}})
	}
	if p.Auth != nil {
		asks := p.Auth.answer()
		steps = append(steps, step{fmt.Sprintf("asks for a name and password of Secret %s", p.Auth.Secret), false, func(r *Request, d *Decision) {
			if name, password, ok := basicAuth(r.Header("Authorization")); !ok || !login(name, password) {
				d.Answer = asks
			}
			d.WithoutAuthorization = true
		}})
	}
	return steps
}

// limits are the steps that bound what a client may send. How often it may is counted where requests are served.
func (p *Policy) limits() (steps []step) {
	if p.Limits.PerSecond > 0 {
		steps = append(steps, step{text: fmt.Sprintf("at most %.3g requests per second of one client, bursts of %d", p.Limits.PerSecond, p.Limits.Burst)})
	}
	if p.Limits.Concurrent > 0 {
		steps = append(steps, step{text: fmt.Sprintf("at most %d requests of one client at a time", p.Limits.Concurrent)})
	}
	if p.MaxBody > 0 {
		steps = append(steps, step{fmt.Sprintf("request bodies up to %d bytes", p.MaxBody), true, func(r *Request, d *Decision) {
			if r.Length > p.MaxBody {
				d.Answer = TooLarge
			}
			if d.MaxBody == 0 || p.MaxBody < d.MaxBody {
				d.MaxBody = p.MaxBody
			}
		}})
	}
	return steps
}

// changes are the steps that change what an endpoint or a client sees.
func (p *Policy) changes() (steps []step) {
	if p.Rewrite != nil {
		steps = append(steps, step{"rewrites the path to " + p.Rewrite.To, true, func(r *Request, d *Decision) {
			next, err := p.Rewrite.apply(r.Place, r.Path)
			if err != nil {
				d.Answer = &Answer{Code: http.StatusBadRequest, Text: err.Error()}
				return
			}
			d.Send = next
		}})
	}
	if p.UpstreamHost != "" {
		steps = append(steps, step{"sends the host " + p.UpstreamHost, true, func(_ *Request, d *Decision) { d.Host = p.UpstreamHost }})
	}
	if n := len(p.RequestHeaders); n > 0 {
		steps = append(steps, step{text: "changes headers of requests", fast: n <= FastHeaders})
	}
	if n := len(p.ResponseHeaders); n > 0 {
		steps = append(steps, step{text: "changes headers of answers", fast: n <= FastHeaders})
	}
	return steps
}

// choices are the steps that decide about the endpoint.
func (p *Policy) choices() (steps []step) {
	if p.Balance != RoundRobin {
		steps = append(steps, step{fmt.Sprintf("balances by %s", p.Balance), true, func(_ *Request, d *Decision) { d.Choice.Balance = p.Balance }})
	}
	if p.Sticky != nil {
		steps = append(steps, step{"keeps a client with an endpoint by cookie", true, func(r *Request, d *Decision) {
			d.Choice.Pinned, _ = strconv.ParseUint(r.Cookie(p.Sticky.Cookie), 16, 64) // another's cookie pins nothing
		}})
	}
	if p.Hash != (HashSource{}) {
		steps = append(steps, step{fmt.Sprintf("spreads requests by %s %s", p.Hash.Of, p.Hash.Name), p.Hash.Of != HashQuery, func(r *Request, d *Decision) {
			d.Choice.Hashed, d.Choice.Hash = true, Hash(p.Hash.of(r))
		}})
	}
	return steps
}

// elsewhere are the steps that other parts take: those who send the request, or who chose the route.
func (p *Policy) elsewhere() (steps []step) {
	if p.ConnectTimeout > 0 {
		steps = append(steps, step{text: fmt.Sprintf("connects within %v", p.ConnectTimeout), fast: true})
	}
	if p.ReadTimeout > 0 {
		steps = append(steps, step{text: fmt.Sprintf("waits %v for an endpoint's answer", p.ReadTimeout)})
	}
	if p.SendTimeout > 0 {
		steps = append(steps, step{text: fmt.Sprintf("waits %v for an endpoint to take a request", p.SendTimeout)})
	}
	if p.Protocol != "" {
		steps = append(steps, step{text: fmt.Sprintf("speaks %s with endpoints", p.Protocol), fast: true})
	}
	if p.Canary != nil {
		steps = append(steps, step{})
	}
	return steps
}
