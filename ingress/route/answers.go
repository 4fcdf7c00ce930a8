package route

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The answers that are the same for everybody.
var (
	closedAnswer = &Answer{Code: http.StatusServiceUnavailable,
		Text: "this route is closed: it is to be protected in a way that is not possible here; its Ingress has an Event that says more"}
	strangerAnswer = &Answer{Code: http.StatusForbidden, Text: "this address is not allowed here"}
	// TooLarge is for a body that is larger than a policy allows.
	TooLarge = &Answer{Code: http.StatusRequestEntityTooLarge, Text: "the request body is larger than this route allows"}
)

func answers(a *Answer) func(*Request, *Decision) {
	return func(_ *Request, d *Decision) { d.Answer = a }
}

func redirection(to string, code int) *Answer {
	return &Answer{Code: code, Fields: []HeaderField{{"Location", to}}, Text: "see " + to}
}

// answer asks for a name and password (RFC 7617).
func (a *Auth) answer() *Answer {
	return &Answer{Code: http.StatusUnauthorized, Fields: []HeaderField{{"WWW-Authenticate", `Basic realm="` + a.Realm + `", charset="UTF-8"`}},
		Text: "a name and password are needed here"}
}

// basicAuth reads an Authorization header.
func basicAuth(value string) (name, password string, ok bool) {
	r := http.Request{Header: http.Header{"Authorization": {value}}}
	return r.BasicAuth()
}

// allows says whether the policy's ranges let a client in.
func (p *Policy) allows(client netip.Addr) bool {
	return !Within(p.Deny, client) && (len(p.Allow) == 0 || Within(p.Allow, client))
}

func (p *Policy) rangesText() string {
	switch {
	case len(p.Deny) == 0:
		return fmt.Sprintf("only clients from %v", p.Allow)
	case len(p.Allow) == 0:
		return fmt.Sprintf("no clients from %v", p.Deny)
	}
	return fmt.Sprintf("only clients from %v, and none from %v", p.Allow, p.Deny)
}

// Within says whether an address is in one of some ranges.
func Within(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// httpsLocation is the same URL by https.
func (r *Request) httpsLocation() string {
	to := "https://" + hostOnly(r.Host)
	if r.HTTPSPort != 0 && r.HTTPSPort != 443 {
		to += ":" + strconv.Itoa(int(r.HTTPSPort))
	}
	to += r.Path.Sent
	if r.RawQuery != "" {
		to += "?" + CleanQuery(r.RawQuery)
	}
	return to
}

// hostOnly is a Host header without its port, as it was written.
func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return hostport
}
