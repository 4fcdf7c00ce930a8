package route

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// View is what can be seen of a request, whatever way it came.
type View interface {
	Method() string
	Header(name string) string // the first value; empty: there is none. name is in canonical form
	Cookie(name string) string // RFC 6265 section 5.4; empty: there is none
	Query(name string) string  // the first value of a parameter; empty: there is none
}

// Condition is what a request has to be like beyond its host and path. All parts of it have to hold.
type Condition struct {
	Method  string // empty: any
	Headers []ValueMatch
	Query   []ValueMatch
}

// ValueMatch compares one value of a request.
type ValueMatch struct {
	Name    string         // of a header in canonical form, or of a query parameter
	Value   string         // that it has to have
	Pattern *regexp.Regexp // that it has to match instead; nil: none
}

func (m *ValueMatch) holds(value string) bool {
	if m.Pattern != nil {
		return m.Pattern.MatchString(value)
	}
	return value == m.Value
}

// Holds says whether a request is like that; nil is always so.
func (c *Condition) Holds(v View) bool {
	if c == nil {
		return true
	}
	if c.Method != "" && c.Method != v.Method() {
		return false
	}
	for i := range c.Headers {
		if !c.Headers[i].holds(v.Header(c.Headers[i].Name)) {
			return false
		}
	}
	for i := range c.Query {
		if !c.Query[i].holds(v.Query(c.Query[i].Name)) {
			return false
		}
	}
	return true
}

// compare is positive if c asks for more than d: a method, then more headers, then more query parameters, which is the
// order of precedence of the Gateway API (HTTPRouteRule.matches).
func (c *Condition) compare(d *Condition) int {
	if c == nil || d == nil {
		return cmp.Compare(btoi(c != nil), btoi(d != nil))
	}
	return cmp.Or(cmp.Compare(btoi(c.Method != ""), btoi(d.Method != "")), cmp.Compare(len(c.Headers), len(d.Headers)), cmp.Compare(len(c.Query), len(d.Query)))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// String says the condition for people; two that say the same are the same.
func (c *Condition) String() string {
	if c == nil {
		return ""
	}
	var all []string
	if c.Method != "" {
		all = append(all, "method "+c.Method)
	}
	for _, part := range []struct {
		what    string
		matches []ValueMatch
	}{{"header", c.Headers}, {"query parameter", c.Query}} {
		for _, m := range part.matches {
			if m.Pattern != nil {
				all = append(all, fmt.Sprintf("%s %s like %q", part.what, m.Name, m.Pattern))
			} else {
				all = append(all, fmt.Sprintf("%s %s %q", part.what, m.Name, m.Value))
			}
		}
	}
	return strings.Join(all, ", ")
}
