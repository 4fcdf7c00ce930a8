package ingress

import (
	"math/rand/v2"
	"net/http"
)

// pick is the route that takes a request of r: one of its canaries or r itself.
func (r *Route) pick(req *http.Request) *Route {
	for _, c := range r.canaries {
		if c.guard.takes(req) {
			return c
		}
	}
	return r
}

// takes decides as ingress-nginx documents it: the header first, then the cookie, then the weight.
func (g *guard) takes(req *http.Request) bool {
	c := g.Canary
	if c.Header != "" {
		value := req.Header.Get(c.Header)
		switch {
		case c.HeaderValue != "":
			if value == c.HeaderValue {
				return true
			}
		case g.pattern != nil:
			if g.pattern.MatchString(value) {
				return true
			}
		case value == "always":
			return true
		case value == "never":
			return false
		}
	}
	if c.Cookie != "" {
		if cookie, err := req.Cookie(c.Cookie); err == nil {
			switch cookie.Value {
			case "always":
				return true
			case "never":
				return false
			}
		}
	}
	return c.Weight > 0 && rand.IntN(c.Total) < c.Weight
}
