package ingress

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"svcplane/ingress/http1"
	"svcplane/ingress/route"
	"svcplane/ingress/serve"
)

// Explanation says where a URL leads and why.
type Explanation struct {
	Host      string     // as it is matched
	Path      string     // as it is matched
	Route     *RouteInfo // nil: none takes it
	Policies  []string   // what is done before or instead of sending it
	Steps     []string   // the rules in the order of their precedence, each with what became of it
	NotServed []string   // Ingresses with rules for the host that are not served, each with the reason
}

// maxSteps bounds an explanation: a host may have thousands of rules.
const maxSteps = 200

// wireHost is a host as clients send it: a name of letters outside of ASCII is written with "xn--" there (RFC 5891).
func wireHost(host string) (string, error) {
	if ascii, err := idna.Lookup.ToASCII(host); err == nil && !http1.ValidHost([]byte(host)) {
		host = ascii
	}
	if !http1.ValidHost([]byte(host)) {
		return "", fmt.Errorf("it is refused with 400: %q is no host, or has a port that is none", host)
	}
	return host, nil
}

// Explain follows a URL, with or without scheme, through the live table.
func (i *Ingress) Explain(text string) (Explanation, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return Explanation{}, fmt.Errorf("url %q: %w", text, err)
	}
	escaped := route.EscapedPath(u)
	if escaped == "" {
		escaped = "/"
	}
	if u.Host, err = wireHost(u.Host); err != nil {
		return Explanation{}, fmt.Errorf("url %q: %w", text, err)
	}
	path, err := route.CleanPath(escaped)
	if err != nil {
		return Explanation{}, fmt.Errorf("url %q is refused with 400: %w", text, err)
	}
	host := route.Host(u.Host)
	table := i.server.Table(u.Scheme == "https")
	out := Explanation{Host: host, Path: path.Match}
	winner, err := table.Choose(host, path, urlView{u}, serve.AsStrict)
	if err != nil {
		return Explanation{}, fmt.Errorf("url %q is refused with 400: %w", text, err)
	}
	if winner != nil {
		info := infoOf(winner)
		out.Route = &info
		out.Policies = winner.Policies()
	}
	out.NotServed = i.assembly.source.NotServed(host, maxSteps)
	out.Steps = steps(table, host, path.Match, winner)
	return out, nil
}

// urlView is a GET of a URL without headers.
type urlView struct{ u *url.URL }

func (v urlView) Method() string           { return http.MethodGet }
func (v urlView) Header(string) string     { return "" }
func (v urlView) Cookie(string) string     { return "" }
func (v urlView) Query(name string) string { return v.u.Query().Get(name) }

func steps(t *route.Table[serve.Route], host, path string, winner *serve.Route) []string {
	var all []string
	for _, level := range t.Levels(host) {
		if len(level.All) == 0 {
			all = append(all, level.Name+": no rules")
			continue
		}
		routes := slices.SortedFunc(slices.Values(level.All), func(a, b *serve.Route) int { return route.Precedence(a.Route, b.Route) })
		for n, r := range routes {
			if n == maxSteps {
				all = append(all, fmt.Sprintf("%s: and %d more rules", level.Name, len(routes)-n))
				break
			}
			all = append(all, fmt.Sprintf("%s: %s of %s: %s", level.Name, ruleText(r.Route), r.Origin, verdict(r, path, winner)))
		}
	}
	return all
}

func ruleText(r *route.Route) string {
	text := string(r.Kind) + " " + r.Path
	if r.When != nil {
		text += " with " + r.When.String()
	}
	return text
}

// verdict says what became of a route for a path.
func verdict(b *serve.Route, path string, winner *serve.Route) string {
	switch {
	case b == winner && len(b.Closed()) > 0:
		return "takes it, and is closed"
	case b == winner:
		return "takes it, and sends it to " + b.Target()
	case b.Kind == route.Default:
		return "is for what no rule takes, and one does or a more specific host has a default"
	case !b.Covers(path):
		if route.IsPattern(b.Path) {
			return "is taken letter by letter, and is not the beginning of the path: it is no pattern"
		}
		if b.Kind == route.Exact {
			return "is not exactly the path"
		}
		return "the path is not below it"
	case winner != nil && winner.Host == b.Host:
		return fmt.Sprintf("would match, but %s comes first", ruleText(winner.Route))
	}
	return "would match, but a more specific host comes first"
}
