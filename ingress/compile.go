package ingress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Problem is what keeps a part of an object from being served: the reason and message of an Event on it.
type Problem struct {
	Reason  string // CamelCase
	Message string // what, where, how to mend
}

// compiled is one Ingress, understood. It depends on nothing but the Ingress: whether Services and Secrets exist
// is looked up later, so that they may come and go without compiling again.
type compiled struct {
	Origin
	routes   []routeSpec
	policy   *Policy // nil: nothing special
	tls      []tlsRef
	problems []Problem
	regex    bool // paths are regular expressions
}

// routeSpec is a Route whose Group is still a name.
type routeSpec struct {
	host  string
	path  string
	kind  PathKind
	group GroupKey
	weak  bool
}

// tlsRef is a certificate for hosts; without hosts it is for the names in the certificate.
type tlsRef struct {
	hosts  []string
	secret types.NamespacedName
}

// compile reads an Ingress. What it cannot serve becomes a problem; the rest is compiled.
func compile(ing *networkingv1.Ingress) *compiled {
	c := &compiled{Origin: Origin{
		Kind:           "Ingress",
		NamespacedName: types.NamespacedName{Namespace: ing.Namespace, Name: ing.Name},
		Created:        ing.CreationTimestamp.Time,
	}}
	c.policy, c.problems = readAnnotations(ing)
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
		ref := tlsRef{secret: types.NamespacedName{Namespace: ing.Namespace, Name: t.SecretName}}
		for _, h := range t.Hosts {
			ref.hosts = append(ref.hosts, strings.ToLower(h))
		}
		c.tls = append(c.tls, ref)
	}
	return c
}

func (c *compiled) addPath(host string, p networkingv1.HTTPIngressPath) {
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
	} else if isPattern(text) {
		c.problem("PathLiteral", "%s is taken letter by letter, it is no pattern: Prefix %q takes everything below it; a regular expression needs the annotation use-regex",
			where, beforePattern(text))
	}
	clean, err := cleanURLPath(text)
	if err != nil {
		c.problem("PathInvalid", "%s is not served: %v; correct the path", where, err)
		return
	}
	kind := Prefix // ImplementationSpecific, too: the choice is ours
	if p.PathType != nil && *p.PathType == networkingv1.PathTypeExact {
		kind = Exact
	}
	c.routes = append(c.routes, routeSpec{host: host, path: clean.match, kind: kind, group: group})
}

// patternSigns are what stands in the patterns of other controllers: the * of load balancers, regular expressions.
const patternSigns = "*(^$[|\\"

// isPattern says whether a path was most likely written for a controller that reads it as a pattern.
func isPattern(path string) bool { return strings.ContainsAny(path, patternSigns) }

// beforePattern is the path up to its first part with a sign in it.
func beforePattern(path string) string {
	plain := path[:strings.IndexAny(path, patternSigns)]
	return cmp.Or(strings.TrimSuffix(plain[:strings.LastIndexByte(plain, '/')+1], "/"), "/")
}

// addDefaults routes what no rule takes: for the hosts of this Ingress in any case, for all others if this is the
// oldest one to say so, where an Ingress without rules, which says nothing else, comes first.
func (c *compiled) addDefaults(rules []networkingv1.IngressRule, group GroupKey) {
	var hosts []string
	for _, rule := range rules {
		if host := strings.ToLower(rule.Host); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
			c.routes = append(c.routes, routeSpec{host: host, kind: Default, group: group})
		}
	}
	if !slices.Contains(hosts, "") {
		c.routes = append(c.routes, routeSpec{kind: Default, group: group, weak: len(rules) > 0})
	}
}

// group names the endpoints of an IngressBackend, the API's word for what a path sends to.
func (c *compiled) group(b networkingv1.IngressBackend, where string) (GroupKey, bool) {
	if b.Service == nil {
		c.problem("ResourceRefused", "%s is not served: it names a resource, and only a service is supported; set service instead", where)
		return GroupKey{}, false
	}
	key := GroupKey{
		Service: types.NamespacedName{Namespace: c.Namespace, Name: b.Service.Name},
		Port:    PortRef{Name: b.Service.Port.Name, Number: b.Service.Port.Number},
	}
	if c.policy != nil {
		key.Protocol = c.policy.Protocol
	}
	return key, true
}

func (c *compiled) problem(reason, format string, args ...any) {
	c.problems = append(c.problems, Problem{reason, fmt.Sprintf(format, args...)})
}

// text says what a lost route was about and who has it.
func (c conflict) text() Problem {
	what := fmt.Sprintf("%s path %q of host %q", c.lost.Kind, c.lost.Path, c.lost.Host)
	if c.lost.Kind == Default {
		what = fmt.Sprintf("the default of host %q", c.lost.Host)
	}
	if c.to == nil {
		return Problem{"CanaryWithoutRoute", fmt.Sprintf("%s is a canary of nothing: no other Ingress routes the same host, path and path type; create one or remove the annotation canary", what)}
	}
	if c.lost.Origin.NamespacedName == c.to.Origin.NamespacedName {
		return Problem{"RouteConflict", fmt.Sprintf("%s appears twice in this Ingress: the first one is used; remove the other", what)}
	}
	return Problem{"RouteConflict", fmt.Sprintf("%s is already taken by the older %s %s, which keeps it: change one of the two",
		what, c.to.Origin.Kind, c.to.Origin.NamespacedName)}
}
