package route

import (
	"net/http"
	"strconv"
	"strings"
)

// Headers is what a policy changes of a head, however it is kept: as http.Header.
type Headers interface {
	Set(name, value string)
	Add(name, value string)
	Del(name string)
}

// preflight answers for the endpoint (Fetch standard, section 3.2.2); nil when r is no preflight request.
func (c *CORS) preflight(r *Request, origin string) *Answer {
	if r.Method() != http.MethodOptions || origin == "" || r.Header("Access-Control-Request-Method") == "" {
		return nil
	}
	a := &Answer{Code: http.StatusNoContent}
	h := http.Header{}
	c.allow(h, origin)
	if h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Allow-Methods", c.Methods)
		h.Set("Access-Control-Allow-Headers", c.Headers)
		h.Set("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
	}
	for name, values := range h {
		for _, v := range values {
			a.Fields = append(a.Fields, HeaderField{name, v})
		}
	}
	return a
}

// allow sets what lets a page of origin read an answer, and removes what the endpoint said about it: two
// Access-Control-Allow-Origin are none.
func (c *CORS) allow(h Headers, origin string) {
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
