package ingress

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ordinary is a request on one of the fast paths, ready to be sent: its route is found, its policy was applied to its
// head. The group of its route was entered.
type ordinary struct {
	call
	send     string // path
	hasQuery bool
	host     string // that the endpoint sees
}

// ordinary finds the route of a request and does what its policy wants done with a request that is passed on. false
// when it is not: whatever is answered by ourselves, or wants something rare, net/http's way does from the beginning.
// sni is the name that the connection was opened for; empty: none.
func (s *server) ordinary(h *fastHead, sni string, who *fastCall) (o ordinary, ok bool) {
	target := text(h.target)
	if i := strings.IndexByte(target, '?'); i >= 0 {
		target, o.query, o.hasQuery = target[:i], target[i+1:], true
	}
	path, err := cleanURLPath(target)
	if err != nil {
		return o, false
	}
	host := normalHost(text(h.host))
	if sni != "" && s.certs.Load().misdirected(sni, host) {
		return o, false
	}
	r, err := s.table.Load().Choose(host, path)
	if err != nil || r == nil || len(r.canaries) > 0 || r.over != nil || !r.Group.plain() {
		return o, false
	}
	o.began, o.client, o.proto, o.chain = time.Now(), who.client, who.proto, who.chain
	o.route, o.path, o.send, o.host = r, path.sent, path.sent, text(h.host)
	if r.guard != nil && !o.apply(r.guard, h, path) {
		return o, false
	}
	return o, r.Group.requests.enter() // it was removed just now: a table without it is there already
}

const (
	maxFastHeaders = 8  // that a policy sets, on either side
	spareFields    = 16 // of an answer's head, for what a policy adds
)

// quick says whether the fast paths can do what a policy wants of the requests that are passed on.
func (p *Policy) quick() bool {
	switch p.Hash.Of {
	case "", HashURI, HashPath, HashHost, HashClient, HashHeader, HashCookie:
	default:
		return false
	}
	return p.ReadTimeout == 0 && p.SendTimeout == 0 && p.Redirect == nil && p.Auth == nil && p.Limits.PerSecond == 0 && p.Limits.Concurrent == 0 && p.Canary == nil &&
		len(p.Closed) == 0 && len(p.RequestHeaders) <= maxFastHeaders && len(p.ResponseHeaders) <= maxFastHeaders
}

// apply does to a request what the policy of its route wants; false when it is not simply passed on.
func (o *ordinary) apply(g *guard, h *fastHead, path cleanPath) bool {
	p := g.Policy
	method := text(h.method)
	if !g.quick || !p.allows(o.client) || p.HTTPSRedirect && o.proto == "http" || p.AppRoot != "" && o.path == "/" ||
		p.CORS != nil && method == http.MethodOptions || p.MaxBody > 0 && int64(h.length) > p.MaxBody {
		return false
	}
	if p.Rewrite != nil {
		next, err := p.Rewrite.apply(o.route.Path, path)
		if err != nil {
			return false
		}
		o.send = next.sent
	}
	if p.CORS != nil {
		o.origin = text(h.get("Origin"))
	}
	o.choice = p.prepareFast(h, &o.call)
	if p.UpstreamHost != "" {
		o.host = p.UpstreamHost
	}
	if len(p.RequestHeaders) == 0 {
		return true
	}
	setHeaders(h, p.RequestHeaders)
	return h.n < len(h.fields) // full: one may be missing
}

// prepareFast is prepare for the sources that quick knows.
func (p *Policy) prepareFast(h *fastHead, c *call) choice {
	how := choice{balance: p.Balance}
	if p.Sticky != nil {
		how.pinned, _ = strconv.ParseUint(h.cookie(p.Sticky.Cookie), 16, 64) // another's cookie pins nothing
	}
	if p.Hash != (HashSource{}) {
		how.hashed, how.hash = true, hashText(p.Hash.ofFast(h, c))
	}
	return how
}

func (s HashSource) ofFast(h *fastHead, c *call) string {
	switch s.Of {
	case HashURI:
		return c.path + "?" + c.query
	case HashPath:
		return c.path
	case HashHost:
		return normalHost(text(h.host))
	case HashHeader:
		return text(h.get(s.Name))
	case HashCookie:
		return h.cookie(s.Name)
	}
	return c.client.String()
}

// headers is what a policy changes of a head, however it is kept: as http.Header.
type headers interface {
	Set(name, value string)
	Add(name, value string)
	Del(name string)
}

// get is the first value of a field; nil: there is none.
func (h *fastHead) get(name string) []byte {
	for _, f := range h.fields[:h.n] {
		if sameName(f.name, name) {
			return f.value
		}
	}
	return nil
}

// cookie is the value of a cookie (RFC 6265 section 5.4); empty: there is none.
func (h *fastHead) cookie(name string) string {
	for _, f := range h.fields[:h.n] {
		if !isName(f.name, "cookie") {
			continue
		}
		for part := range strings.SplitSeq(text(f.value), ";") {
			if key, value, found := strings.Cut(strings.TrimSpace(part), "="); found && key == name {
				return strings.Trim(value, `"`)
			}
		}
	}
	return ""
}

func (h *fastHead) Del(name string) { h.n = without(h.fields[:h.n], name) }

// Add drops what does not fit: whoever calls it looks.
func (h *fastHead) Add(name, value string) {
	if h.n < len(h.fields) {
		h.fields[h.n] = field{textBytes(name), textBytes(value)}
		h.n++
	}
}

func (h *fastHead) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

func (h *answerHead) Del(name string) { h.n = without(h.fields[:h.n], name) }

// Add has spareFields to fill.
func (h *answerHead) Add(name, value string) {
	if h.n < len(h.fields) {
		h.fields[h.n] = field{textBytes(name), textBytes(value)}
		h.n++
	}
}

func (h *answerHead) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

// without removes a field from fields and returns how many are left.
func without(fields []field, name string) int {
	n := 0
	for _, f := range fields {
		if !sameName(f.name, name) {
			fields[n] = f
			n++
		}
	}
	return n
}

func sameName(b []byte, name string) bool {
	return len(b) == len(name) && strings.EqualFold(text(b), name)
}
