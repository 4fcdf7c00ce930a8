package ingress

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	networkingv1 "k8s.io/api/networking/v1"
)

// Explanation says where a URL leads and why.
type Explanation struct {
	Host      string     `json:"host"`                // as it is matched
	Path      string     `json:"path"`                // as it is matched
	Route     *RouteInfo `json:"route,omitempty"`     // nil: none takes it
	Policies  []string   `json:"policies,omitempty"`  // what is done before or instead of sending it
	Steps     []string   `json:"steps,omitempty"`     // the rules in the order of their precedence, each with what became of it
	NotServed []string   `json:"notServed,omitempty"` // Ingresses with rules for the host that are not served, each with the reason
}

// maxSteps bounds an explanation: a host may have thousands of rules.
const maxSteps = 200

// wireHost is a host as clients send it: a name of letters outside of ASCII is written with "xn--" there (RFC 5891).
func wireHost(host string) (string, error) {
	if ascii, err := idna.Lookup.ToASCII(host); err == nil && !validHost([]byte(host)) {
		host = ascii
	}
	if !validHost([]byte(host)) {
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
	escaped := escapedPath(u)
	if escaped == "" {
		escaped = "/"
	}
	if u.Host, err = wireHost(u.Host); err != nil {
		return Explanation{}, fmt.Errorf("url %q: %w", text, err)
	}
	path, err := cleanURLPath(escaped)
	if err != nil {
		return Explanation{}, fmt.Errorf("url %q is refused with 400: %w", text, err)
	}
	host := normalHost(u.Host)
	table := i.server.table.Load()
	out := Explanation{Host: host, Path: path.match}
	winner, err := table.Choose(host, path)
	if err != nil {
		return Explanation{}, fmt.Errorf("url %q is refused with 400: %w", text, err)
	}
	if winner != nil {
		info := infoOf(winner)
		out.Route = &info
		for _, g := range []*guard{winner.over, winner.guard} {
			if g != nil {
				out.Policies = append(out.Policies, g.describe()...)
			}
		}
	}
	out.NotServed = i.controller.notServed(host)
	out.Steps = table.steps(host, path.match, winner)
	return out, nil
}

// notServed lists the Ingresses that name a host and are not ours.
func (c *controller) notServed(host string) []string {
	var lines []string
	all, _ := c.ingresses.List(everything) // a lister of everything does not fail
	for _, ing := range all {
		owner, why := c.classes.judge(ing)
		if name, ok := namesHost(ing, host); ok && owner != ours {
			lines = append(lines, fmt.Sprintf("Ingress %s is for %s and is not served here: %s", nameOf(ing), name, why.Message))
		}
	}
	slices.Sort(lines)
	return lines[:min(len(lines), maxSteps)]
}

// namesHost says whether an Ingress has rules for a host, and in which words.
func namesHost(ing *networkingv1.Ingress, host string) (string, bool) {
	_, parent, _ := strings.Cut(host, ".")
	for _, rule := range ing.Spec.Rules {
		switch name := strings.ToLower(rule.Host); name {
		case "":
			return "every host", true
		case host, "*." + parent:
			return fmt.Sprintf("host %q", name), true
		}
	}
	return "every host", ing.Spec.DefaultBackend != nil && len(ing.Spec.Rules) == 0
}

func (t *Table) steps(host, path string, winner *Route) []string {
	var all []string
	for _, level := range []struct {
		rules *hostRules
		name  string
	}{
		{t.exact[host], fmt.Sprintf("host %q", host)},
		{t.wildcardOf(host), fmt.Sprintf("wildcard host for %q", host)},
		{t.any, "rules without a host"},
	} {
		if level.rules == nil {
			all = append(all, level.name+": no rules")
			continue
		}
		routes := slices.Clone(level.rules.routes)
		slices.SortFunc(routes, precedence)
		for n, r := range routes {
			if n == maxSteps {
				all = append(all, fmt.Sprintf("%s: and %d more rules", level.name, len(routes)-n))
				break
			}
			all = append(all, fmt.Sprintf("%s: %s %s of %s: %s", level.name, r.Kind, r.Path, r.Origin, r.verdict(path, winner)))
		}
	}
	return all
}

// verdict says what became of a route for a path.
func (r *Route) verdict(path string, winner *Route) string {
	switch {
	case r == winner && len(r.closed()) > 0:
		return "takes it, and is closed"
	case r == winner:
		return "takes it, and sends it to " + r.Group.Key.String()
	case r.Kind == Default:
		return "is for what no rule takes, and one does or a more specific host has a default"
	case !r.covers(path):
		if isPattern(r.Path) {
			return "is taken letter by letter, and is not the beginning of the path: it is no pattern"
		}
		if r.Kind == Exact {
			return "is not exactly the path"
		}
		return "the path is not below it"
	case winner != nil && winner.Host == r.Host:
		return fmt.Sprintf("would match, but %s %s comes first", winner.Kind, winner.Path)
	}
	return "would match, but a more specific host comes first"
}

// covers says whether a path is one that the route is for; Table.Match decides between several.
func (r *Route) covers(path string) bool {
	if r.Kind == Exact {
		return path == r.Path
	}
	prefix := strings.TrimSuffix(r.Path, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// describe lists what a policy does.
func (p *Policy) describe() []string {
	var all []string
	add := func(when bool, format string, args ...any) {
		if when {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	for _, why := range p.Closed {
		add(true, "refuses everything with 503: %s", why)
	}
	add(len(p.Allow) > 0, "only clients from %v", p.Allow)
	add(len(p.Deny) > 0, "no clients from %v", p.Deny)
	add(p.HTTPSRedirect, "redirects http to https")
	add(p.AppRoot != "", "redirects / to %s", p.AppRoot)
	if p.Redirect != nil {
		add(true, "redirects to %s with %d", p.Redirect.To, p.Redirect.Code)
	}
	if p.Auth != nil {
		add(true, "asks for a name and password of Secret %s", p.Auth.Secret)
	}
	add(p.Limits.PerSecond > 0, "at most %.3g requests per second of one client, bursts of %d", p.Limits.PerSecond, p.Limits.Burst)
	add(p.Limits.Concurrent > 0, "at most %d requests of one client at a time", p.Limits.Concurrent)
	add(p.MaxBody > 0, "request bodies up to %d bytes", p.MaxBody)
	if p.Rewrite != nil {
		add(true, "rewrites the path to %s", p.Rewrite.To)
	}
	add(p.CORS != nil, "answers CORS")
	add(p.Sticky != nil, "keeps a client with an endpoint by cookie")
	add(p.Hash != (HashSource{}), "spreads requests by %s %s", p.Hash.Of, p.Hash.Name)
	add(p.Balance != RoundRobin, "balances by %s", p.Balance)
	return all
}
