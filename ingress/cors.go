package ingress

import (
	"net/http"
	"strconv"
	"strings"
)

// preflight answers for the endpoint (Fetch standard, section 3.2.2); false when r is no preflight request.
func (c *CORS) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Origin") == "" || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h := w.Header()
	c.allow(h, r.Header.Get("Origin"))
	if h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Allow-Methods", c.Methods)
		h.Set("Access-Control-Allow-Headers", c.Headers)
		h.Set("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allow sets what lets a page of origin read an answer, and removes what the endpoint said about it: two
// Access-Control-Allow-Origin are none.
func (c *CORS) allow(h headers, origin string) {
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers"} {
		h.Del(name)
	}
	h.Add("Vary", "Origin")
	value := c.match(origin)
	if value == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", value)
	if c.Credentials && value != "*" {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if c.ExposeHeaders != "" {
		h.Set("Access-Control-Expose-Headers", c.ExposeHeaders)
	}
}

// match is the value of Access-Control-Allow-Origin; empty when origin may not read. "*" never goes with
// credentials: that would let every page on the web act as its visitors.
func (c *CORS) match(origin string) string {
	if origin == "" {
		return ""
	}
	lower := strings.ToLower(origin)
	for _, o := range c.Origins {
		if o == "*" {
			return "*"
		}
		if o == lower {
			return origin
		}
		scheme, suffix, wild := strings.Cut(o, "*.")
		rest, ok := strings.CutPrefix(lower, scheme)
		if !wild || !ok {
			continue
		}
		if label, ok := strings.CutSuffix(rest, "."+suffix); ok && label != "" && !strings.ContainsAny(label, "/@:?#") {
			return origin
		}
	}
	return ""
}
