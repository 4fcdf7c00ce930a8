package ingress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/ingress/route"
)

// translator is an Ingress that is being read.
type translator struct {
	*route.Translation
	policy *route.Policy // nil: nothing special
	regex  bool          // paths are regular expressions
}

// Kind is that of the objects which Translate reads.
const Kind = "Ingress"

// ObjectOf names an Ingress.
func ObjectOf(ing *networkingv1.Ingress) route.Object {
	return route.Object{Kind: Kind, NamespacedName: types.NamespacedName{Namespace: ing.Namespace, Name: ing.Name}}
}

// Translate reads an Ingress. What it cannot serve becomes a problem; the rest becomes routes. It looks at nothing but the
// Ingress: whether Services and Secrets exist is found out later, so that they may come and go without translating again.
func Translate(ing *networkingv1.Ingress) *route.Translation {
	t := &route.Translation{}
	t.Origin = route.Origin{Object: ObjectOf(ing), Created: ing.CreationTimestamp.Time}
	c := &translator{Translation: t}
	c.policy, t.Problems = readAnnotations(ing)
	if c.policy != nil && c.policy.ClosedHost != "" {
		t.Closes = &route.Policy{Closed: []string{fmt.Sprintf("%s %s closes its hosts: %s", Kind, t.NamespacedName, c.policy.ClosedHost)}}
	}
	c.regex = capturesPaths(ing, c.policy)
	for _, rule := range ing.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, p := range rule.HTTP.Paths {
			c.addPath(strings.ToLower(rule.Host), p)
		}
	}
	if d := ing.Spec.DefaultBackend; d != nil {
		if group, ok := c.group(*d, "spec.defaultBackend"); ok {
			c.addDefaults(ing.Spec.Rules, group)
		}
	}
	for _, t := range ing.Spec.TLS {
		if t.SecretName == "" {
			continue // TLS with the default certificate
		}
		ref := route.CertificateRef{Secret: types.NamespacedName{Namespace: ing.Namespace, Name: t.SecretName}}
		for _, h := range t.Hosts {
			ref.Hosts = append(ref.Hosts, strings.ToLower(h))
		}
		c.TLS = append(c.TLS, ref)
	}
	return t
}

func (c *translator) addPath(host string, p networkingv1.HTTPIngressPath) {
	where := fmt.Sprintf("path %q of host %q", p.Path, host)
	group, ok := c.group(p.Backend, where)
	if !ok {
		return
	}
	text := p.Path
	if text == "" {
		text = "/" // only ImplementationSpecific may leave it out
	}
	if c.regex {
		plain, ok := plainPath(text)
		if !ok {
			c.problem("PathUnsupported", "%s is not served: of regular expressions only a path followed by (/|$)(.*), /?(.*) or (.*) is possible; correct the path", where)
			return
		}
		text = plain
	} else if route.IsPattern(text) {
		c.problem("PathLiteral", "%s is taken letter by letter, it is no pattern: Prefix %q takes everything below it; a regular expression needs the annotation use-regex",
			where, beforePattern(text))
	}
	clean, err := route.CleanPath(text)
	if err != nil {
		c.problem("PathInvalid", "%s is not served: %v; correct the path", where, err)
		return
	}
	kind := route.Prefix // ImplementationSpecific, too: the choice is ours
	if p.PathType != nil && *p.PathType == networkingv1.PathTypeExact {
		kind = route.Exact
	}
	c.add(&route.Route{Host: host, Path: clean.Match, Kind: kind}, group)
}

// beforePattern is the path up to its first part with a sign in it.
func beforePattern(path string) string {
	plain := path[:strings.IndexAny(path, route.PatternSigns)]
	return cmp.Or(strings.TrimSuffix(plain[:strings.LastIndexByte(plain, '/')+1], "/"), "/")
}

// addDefaults routes what no rule takes: for the hosts of this Ingress in any case, for all others if this is the
// oldest one to say so, where an Ingress without rules, which says nothing else, comes first.
func (c *translator) addDefaults(rules []networkingv1.IngressRule, group route.GroupKey) {
	var hosts []string
	for _, rule := range rules {
		if host := strings.ToLower(rule.Host); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
			c.add(&route.Route{Host: host, Kind: route.Default}, group)
		}
	}
	if !slices.Contains(hosts, "") {
		c.add(&route.Route{Kind: route.Default, Weak: len(rules) > 0}, group)
	}
}

// add completes a route that sends to a group.
func (c *translator) add(r *route.Route, group route.GroupKey) {
	r.Origin, r.Policy, r.Groups = c.Origin, c.policy, []route.WeightedGroup{{GroupKey: group, Weight: 1}}
	c.Routes = append(c.Routes, r)
}

// group names the endpoints of an IngressBackend, the API's word for what a path sends to.
func (c *translator) group(b networkingv1.IngressBackend, where string) (route.GroupKey, bool) {
	if b.Service == nil {
		c.problem("ResourceRefused", "%s is not served: it names a resource, and only a service is supported; set service instead", where)
		return route.GroupKey{}, false
	}
	key := route.GroupKey{
		Service: types.NamespacedName{Namespace: c.Namespace, Name: b.Service.Name},
		Port:    route.PortRef{Name: b.Service.Port.Name, Number: b.Service.Port.Number},
	}
	if c.policy != nil {
		key.Protocol = c.policy.Protocol
	}
	return key, true
}

func (c *translator) problem(reason, format string, args ...any) {
	c.Problems = append(c.Problems, route.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// capturesPaths says whether the paths of an Ingress are regular expressions: it says so or, as with ingress-nginx,
// its rewrite target refers to what they capture.
func capturesPaths(ing *networkingv1.Ingress, p *route.Policy) bool {
	for _, prefix := range []string{ownPrefix, nginxPrefix} {
		if ing.Annotations[prefix+"use-regex"] == "true" {
			return true
		}
	}
	return p != nil && p.Rewrite != nil && strings.Contains(p.Rewrite.To, "$")
}

// plainPath recognises the regular expressions that the users of nginx write to capture the rest of a path, and
// returns the prefix that matches the same; false for any other text that is no plain path.
func plainPath(text string) (string, bool) {
	for _, tail := range []string{"(/|$)(.*)", "/?(.*)", "/(.*)", "(.*)", "/.*", ".*"} {
		if p, ok := strings.CutSuffix(text, tail); ok {
			text = p
			break
		}
	}
	if text == "" {
		text = "/"
	}
	return text, !strings.ContainsAny(text, `^$()[]{}|*+?\`)
}

// NamesHost says whether an Ingress has rules for a host, and in which words.
func NamesHost(ing *networkingv1.Ingress, host string) (string, bool) {
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
