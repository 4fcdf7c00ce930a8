package annotations

import (
	"maps"
	"slices"
	"strings"
)

// Effect is what becomes of an annotation here.
type Effect int

const (
	// Honoured annotations are carried out.
	Honoured Effect = iota
	// Harmless annotations are not carried out, and nobody gets in by that.
	Harmless
	// HTTPSOnly annotations keep plain requests out, which are redirected to https instead.
	HTTPSOnly
	// Restricts is for annotations that keep somebody out and are not carried out.
	Restricts
)

// The prefixes of annotations that are carried out: ours, and the one of ingress-nginx.
const (
	OwnPrefix   = "svcplane.io/"
	NginxPrefix = "nginx.ingress.kubernetes.io/"
)

// ClassKey is the annotation that names the class of an Ingress.
const ClassKey = "kubernetes.io/ingress.class"

// Row is what is said of one or more annotations of a controller.
type Row struct {
	Names  string // with spaces between them, without the prefix; one that ends in * stands for all that begin so
	Effect Effect
	Values string // of an honoured one, for people
	Text   string // honoured: what it does; harmless: why; restricting: what it would do
	Own    bool   // only under OwnPrefix
	Closes bool   // an honoured one: a mistake in it closes the routes
	// HostWide restricts all routes of the Ingress's hosts, those of other Ingresses too.
	HostWide bool
	// Strip are the request headers by which the other controller tells endpoints what it found out. A client must not
	// say it in its place.
	Strip []string

	// Loses is what is said of a restricting one whose value restricts nobody and is still not carried out; empty: nothing
	// is lost.
	Loses string

	judge judge
	https []string // a list of nothing but these means https only
}

// Controller is an ingress controller with its annotations.
type Controller struct {
	Name     string
	Prefixes []string
	Services bool // it reads them on Services, too
	Rows     []Row
}

// Judgement is what becomes of one annotation of one Ingress.
type Judgement struct {
	Effect   Effect
	Why      string // what a restricting one would do, why a harmless one is ignored
	HostWide bool
	Strip    []string
}

// Judge says what becomes of the annotation key among all those of an Ingress; false when it is no ingress controller's, or
// that of an unknown one and does not restrict by its name. Of one that is Honoured nothing is left to say: its value asks
// for nothing, or it is the caller's to carry out.
func Judge(key string, all map[string]string) (Judgement, bool) {
	var found *Judgement
	var name, by string // the last prefix that fits
	for _, c := range Controllers() {
		for _, prefix := range c.Prefixes {
			rest, ok := strings.CutPrefix(key, prefix)
			if !ok || key == ClassKey {
				continue
			}
			name, by = rest, prefix
			// several controllers may have read it: the strictest counts
			if j := c.judge(prefix, rest, all); j != nil && (found == nil || j.Effect > found.Effect) {
				found = j
			}
		}
	}
	switch {
	case found != nil:
		return *found, true
	case by != "":
		return unknown(name, strings.TrimSpace(all[key])), true
	}
	// of a controller that nobody here has heard of
	if prefix, name, ok := strings.Cut(key, "/"); ok && slices.Contains(strings.Split(prefix, "."), "ingress") {
		j := unknown(name, strings.TrimSpace(all[key]))
		return j, j.Effect == Restricts
	}
	return Judgement{}, false
}

// OfService says why no Ingress may send requests to a Service with these annotations, which would restrict them
// elsewhere; empty: it may. Unknown names say nothing here: Services have many for others than ingress controllers.
func OfService(all map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		for _, c := range Controllers() {
			for _, prefix := range c.Prefixes {
				name, ok := strings.CutPrefix(key, prefix)
				if !ok || !c.Services {
					continue
				}
				if j := c.judge(prefix, name, all); j != nil && j.Effect == Restricts {
					return "annotation " + key + " is not carried out and restricts access: " + j.Why
				}
			}
		}
	}
	return ""
}

// judge returns nil for a name that the controller does not have.
func (c *Controller) judge(prefix, name string, all map[string]string) *Judgement {
	if _, ok := all[OwnPrefix+name]; ok && prefix == NginxPrefix {
		return &Judgement{Why: OwnPrefix + name + " counts in its place"}
	}
	row := c.row(name, prefix)
	if row == nil {
		return nil
	}
	j := &Judgement{Effect: row.Effect, Why: row.Text, HostWide: row.HostWide, Strip: row.Strip}
	if row.Effect == Harmless || row.Effect == Honoured {
		return j
	}
	v := value{text: strings.TrimSpace(all[prefix+name]), of: func(other string) string { return c.lookup(prefix, other, all) }}
	if prefix == OwnPrefix && v.text == "off" {
		return &Judgement{Why: "it is switched off", Strip: row.Strip}
	}
	if row.judge.restricts == nil {
		return j
	}
	restricts, what := row.judge.restricts(v)
	switch {
	case !restricts && row.https != nil && every(v.text, row.https):
		j.Effect, j.Why = HTTPSOnly, plainHTTP
	case !restricts && row.Loses != "":
		j.Effect, j.Why = Harmless, row.Loses
	case !restricts:
		j.Effect, j.Why = Honoured, "its value asks for nothing"
	case what != "":
		j.Why = what
	}
	return j
}

// lookup is the value of another annotation of the same controller, where ours count first.
func (c *Controller) lookup(prefix, name string, all map[string]string) string {
	if prefix == NginxPrefix {
		if own, ok := all[OwnPrefix+name]; ok {
			return strings.TrimSpace(own)
		}
	}
	for _, p := range append([]string{prefix}, c.Prefixes...) {
		if text, ok := all[p+name]; ok {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// row finds the row of a name, an exact one first.
func (c *Controller) row(name, prefix string) *Row {
	var by *Row
	for i := range c.Rows {
		r := &c.Rows[i]
		if r.Own && prefix != OwnPrefix {
			continue
		}
		for n := range strings.FieldsSeq(r.Names) {
			if n == name {
				return r
			}
			if stem, wild := strings.CutSuffix(n, "*"); wild && strings.HasPrefix(name, stem) {
				by = r
			}
		}
	}
	return by
}

// protective are the words by which an annotation that no table knows is taken for a restricting one.
var protective = []string{
	"access", "acl", "allow", "allowed", "allowlist", "auth", "authentication", "authn", "authorization", "authz", "ban", "basic",
	"blacklist", "block", "blocklist", "ca", "captcha", "cidr", "cidrs", "client", "csrf", "deny", "denylist", "filter", "firewall",
	"forbid", "guard", "internal", "jwt", "limit", "limits", "login", "middleware", "middlewares", "modsecurity", "mtls", "oauth",
	"oauth2", "oidc", "owasp", "passthrough", "permission", "plugin", "plugins", "policies", "policy", "private", "protect",
	"ratelimit", "reject", "restrict", "role", "saml", "satisfy", "secret", "security", "signin", "snippet", "snippets", "source",
	"sso", "throttle", "token", "trusted", "verify", "waf", "whitelist",
}

// unknown judges by the name alone. It may close what would do nothing, never the reverse.
func unknown(name, text string) Judgement {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '.' || r == '_' || r == '/' })
	for _, w := range words {
		if slices.Contains(protective, w) && !isOff(text) {
			return Judgement{Effect: Restricts, Why: "it is unknown, and its name says that it restricts (" + w + ")"}
		}
	}
	return Judgement{Effect: Harmless, Why: "it is unknown"}
}
