package serve

import (
	"net/url"
	"strings"
	"time"

	"svcplane/ingress/http1"
	"svcplane/ingress/route"
)

// fastRequest is a request on a way without net/http, ready to be sent: its route is found, its policy was applied to its
// head. The group of its route was entered.
type fastRequest struct {
	call
	http1.Target
}

// judged is what a policy sees of a request and says about it. It is kept beside the request: a policy's steps are
// functions, and what those are given would be allocated each time.
type judged struct {
	view     headView
	request  route.Request
	decision route.Decision
}

// fastpath finds the route of a request and does what its policy wants done with a request that is passed on. false
// when it is not for this way: whatever is answered by ourselves, or wants something rare, net/http's way does from the
// beginning. sni is the name that the connection was opened for; empty: none.
func (s *Server) fastpath(l *listener, h *http1.RequestHead, sni string, who *http1.Forwarded, j *judged) (o fastRequest, ok bool) {
	target := http1.Text(h.Target)
	if i := strings.IndexByte(target, '?'); i >= 0 {
		o.query, target = target[i+1:], target[:i]
		o.Query, o.HasQuery = o.query, true
	}
	path, err := route.CleanPath(target)
	if err != nil {
		return o, false
	}
	host := route.Host(http1.Text(h.Host))
	if sni != "" && s.certs.Load().Misdirected(sni, host) {
		return o, false
	}
	j.view = headView{head: h, query: o.query}
	r, err := l.table.Load().Choose(host, path, &j.view, AsStrict)
	if err != nil || r == nil || len(r.canaries) > 0 || r.over != nil || j.view.blind {
		return o, false
	}
	o.began, o.client, o.proto, o.chain = time.Now(), who.Client, who.Proto, who.Chain
	o.route, o.path, o.Path, o.Host = r, path.Sent, path.Sent, http1.Text(h.Host)
	if r.guard != nil && !o.apply(s, h, path, j) {
		return o, false
	}
	g := r.group()
	if !g.Plain() || !g.Requests.Enter() { // it was removed just now: a table without it is there already
		return o, false
	}
	o.group = g
	return o, true
}

// apply does to a request what the policy of its route wants; false when it is not simply passed on.
func (o *fastRequest) apply(s *Server, h *http1.RequestHead, path route.Path, j *judged) bool {
	plan := o.route.guard.Plan
	if !plan.Fast {
		return false
	}
	j.request = route.Request{View: &j.view, Client: o.client, Scheme: o.proto, Host: o.Host, Path: path, RawQuery: o.query, Length: int64(h.Length),
		HTTPSPort: s.httpsPort(), Place: o.route.Path}
	d := &j.decision
	if route.Decide(&j.request, nil, plan, d); d.Answer != nil || j.view.blind {
		return false
	}
	o.decision, o.attempt.Choice, o.Path, o.Host = d, d.Choice, d.Send.Sent, d.Host
	if len(plan.RequestHeaders) == 0 {
		return true
	}
	plan.EditRequest(h, d)
	return h.N < len(h.Fields) // full: one may be missing
}

// headView lets a policy look at a head.
type headView struct {
	head  *http1.RequestHead
	query string
	blind bool // it was asked for what the head does not keep
}

func (v *headView) Method() string { return http1.Text(v.head.Method) }

func (v *headView) Header(name string) string {
	if value := v.head.Get(name); value != nil {
		return http1.Text(value)
	}
	v.blind = v.blind || http1.Hides(name)
	return ""
}

func (v *headView) Cookie(name string) string { return v.head.Cookie(name) }

func (v *headView) Query(name string) string {
	values, _ := url.ParseQuery(v.query) // as net/http has it: what cannot be parsed is not there
	return values.Get(name)
}
