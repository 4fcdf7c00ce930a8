package ingress

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"svcplane/ingress/route"
	"svcplane/ingress/source/ingress/annotations"
)

// The prefixes of annotations that we honour: ours, and the one whose users need a home now that its controller is retired.
const (
	ownPrefix   = annotations.OwnPrefix
	nginxPrefix = annotations.NginxPrefix
)

// annotation is one that we honour. Each name is known under both prefixes unless own is set.
type annotation struct {
	own      bool // not under nginxPrefix: its meaning would differ, or it does not exist there
	protects bool // one that cannot be understood closes the route
	set      func(*draft, string) error
}

// draft is a Policy that is being put together: what several annotations say about one field meets here.
type draft struct {
	route.Policy
	nginx bool // the annotation at hand has nginxPrefix
	tls   bool // the object has TLS
	set   bool // something is wanted

	cors, canary, auth, cookie bool
	corsWants                  route.CORS
	canaryWants                route.Canary
	authWants                  route.Auth
	namespace                  string
	stickyWants                route.Sticky
	rps, rpm, burstFactor      int
	redirectCode               int
}

// readAnnotations makes the Policy of an Ingress, nil when it wants nothing special, and says what it could not
// understand or does not know.
func readAnnotations(ing *networkingv1.Ingress) (*route.Policy, []route.Problem) {
	d := &draft{tls: len(ing.Spec.TLS) > 0, namespace: ing.Namespace, burstFactor: 5,
		corsWants:   route.CORS{Origins: []string{"*"}, Methods: "GET, PUT, POST, DELETE, PATCH, OPTIONS", Headers: "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization", Credentials: true, MaxAge: 1728000},
		canaryWants: route.Canary{Total: 100}, authWants: route.Auth{Realm: "Authentication Required"},
		stickyWants: route.Sticky{Cookie: "INGRESSCOOKIE", Path: "/"}}
	var problems []route.Problem
	known := annotationTable()
	for _, key := range slices.Sorted(maps.Keys(ing.Annotations)) { // svcplane.io/ last: it has the last word
		name, nginx, ours := annotationName(key)
		a, honoured := known[name]
		if !ours || !honoured || nginx && a.own {
			problems = d.judge(key, ing.Annotations, problems)
			continue
		}
		d.nginx, d.set = nginx, true
		if err := a.set(d, strings.TrimSpace(ing.Annotations[key])); err != nil {
			effect := "it has no effect"
			if a.protects {
				d.Closed = append(d.Closed, fmt.Sprintf("annotation %s cannot be understood: %v", key, err))
				effect = "requests are answered 503 until it is corrected, because it protects the service"
			}
			problems = append(problems, route.Problem{Reason: "AnnotationInvalid", Message: fmt.Sprintf("annotation %s: %v; %s", key, err, effect)})
		}
	}
	if !d.set {
		return nil, problems
	}
	return d.finish(problems)
}

func annotationName(key string) (name string, nginx, ok bool) {
	if name, ok = strings.CutPrefix(key, ownPrefix); ok {
		return name, false, true
	}
	name, ok = strings.CutPrefix(key, nginxPrefix)
	return name, true, ok
}

// judge does what is left to do about an annotation that is not honoured: to serve without what it asks for is told,
// and one that restricts closes the routes.
func (d *draft) judge(key string, all map[string]string, problems []route.Problem) []route.Problem {
	j, known := annotations.Judge(key, all)
	if !known {
		return problems // it is no ingress controller's
	}
	for _, name := range j.Strip {
		if f := (route.HeaderField{Name: name}); !slices.Contains(d.RequestHeaders, f) {
			d.RequestHeaders, d.set = append(d.RequestHeaders, f), true
		}
	}
	switch {
	case j.Effect == annotations.HTTPSOnly:
		d.HTTPSRedirect, d.set = true, true
	case j.Effect == annotations.Restricts:
		why := fmt.Sprintf("annotation %s is not carried out and restricts access: %s", key, j.Why)
		d.Closed, d.set = append(d.Closed, why), true
		if j.HostWide {
			d.ClosedHost = why
		}
		return append(problems, route.Problem{Reason: "RouteClosed", Message: why + "; every request is answered 503 until it is removed (docs/annotations.md)"})
	case j.Effect == annotations.Harmless && strings.HasPrefix(key, ownPrefix):
		return append(problems, route.Problem{Reason: "AnnotationUnknown", Message: fmt.Sprintf("annotation %s has no effect: %s (docs/ingress.md lists those that have)", key, j.Why)})
	case j.Effect == annotations.Harmless:
		return append(problems, route.Problem{Reason: "AnnotationIgnored", Message: fmt.Sprintf("annotation %s is not carried out, and restricts nobody: %s (docs/annotations.md)", key, j.Why)})
	}
	return problems
}

// finish puts the parts together that need each other.
func (d *draft) finish(problems []route.Problem) (*route.Policy, []route.Problem) {
	p := &d.Policy
	if d.cors {
		p.CORS = &d.corsWants
	}
	if d.canary {
		p.Canary = &d.canaryWants
	}
	if d.cookie {
		p.Sticky = &d.stickyWants
	}
	if !d.auth && d.authWants.Secret.Name != "" {
		p.Closed = append(p.Closed, "auth-secret is set and auth-type is not")
		problems = append(problems, route.Problem{Reason: "AnnotationInvalid", Message: "auth-secret is set and auth-type is not: requests are answered 503; set auth-type to basic, or remove auth-secret"})
	}
	if d.auth {
		p.Auth = &d.authWants
		if d.authWants.Secret.Name == "" {
			p.Closed = append(p.Closed, "auth-type is set and auth-secret is not")
			problems = append(problems, route.Problem{Reason: "AnnotationInvalid", Message: "auth-type is set and auth-secret is not: requests are answered 503; name a Secret of this namespace with the key auth"})
		}
	}
	if p.Redirect != nil && d.redirectCode != 0 {
		p.Redirect.Code = d.redirectCode
	}
	switch {
	case d.rps > 0:
		p.Limits.PerSecond, p.Limits.Burst = float64(d.rps), d.rps*d.burstFactor
	case d.rpm > 0:
		p.Limits.PerSecond, p.Limits.Burst = float64(d.rpm)/60, d.rpm*d.burstFactor
	}
	return p, problems
}

// annotationTable is built on each use: a Policy is read when an Ingress changes, and a mutable global would be worse.
func annotationTable() map[string]annotation {
	all := map[string]annotation{}
	for _, part := range []map[string]annotation{
		redirectAnnotations(), upstreamAnnotations(), corsAnnotations(), guardAnnotations(), canaryAnnotations(), cookieAnnotations(), headerAnnotations(),
	} {
		maps.Copy(all, part)
	}
	return all
}

func parseBool(text string, to *bool) error {
	v, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q must be true or false", text)
	}
	*to = v
	return nil
}

func parseCount(text string, low, high int, to *int) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return fmt.Errorf("%q must be a number from %d to %d", text, low, high)
	}
	*to = n
	return nil
}

// parseSpan takes seconds as a bare number, which is nginx's way, or a duration like 1m30s.
func parseSpan(text string, to *time.Duration) error {
	d, err := time.ParseDuration(text)
	if seconds, e := strconv.Atoi(text); e == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d <= 0 || d > 24*time.Hour {
		return fmt.Errorf("%q must be seconds or a duration like 90s, at most 24h", text)
	}
	*to = d
	return nil
}

// parseSize takes nginx's form: bytes, or with k, m or g behind; 0 is no limit.
func parseSize(text string, to *int64) error {
	number, unit := text, int64(1)
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kmg", text[n-1]|0x20); i >= 0 {
			number, unit = text[:n-1], 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("%q must be a size in bytes, or with k, m or g behind, like 8m", text)
	}
	*to = n * unit
	return nil
}

func splitList(text string) []string {
	var all []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

var errNotOff = errors.New("only off is possible: nothing is ever buffered")

func mustBeOff(_ *draft, text string) error {
	if text != "off" {
		return errNotOff
	}
	return nil
}
