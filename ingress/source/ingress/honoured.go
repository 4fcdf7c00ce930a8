package ingress

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/http/httpguts"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"svcplane/ingress/route"
)

func redirectAnnotations() map[string]annotation {
	redirect := func(code int) func(*draft, string) error {
		return func(d *draft, v string) error {
			if err := checkLocation(v); err != nil {
				return err
			}
			d.Redirect = &route.Redirect{To: v, Code: code}
			return nil
		}
	}
	return map[string]annotation{
		// nginx redirects only hosts that have TLS; so do we under both prefixes
		"ssl-redirect": {set: func(d *draft, v string) error {
			var on bool
			err := parseBool(v, &on)
			d.HTTPSRedirect = d.HTTPSRedirect || on && d.tls
			return err
		}},
		"force-ssl-redirect": {set: func(d *draft, v string) error {
			var on bool
			err := parseBool(v, &on)
			d.HTTPSRedirect = d.HTTPSRedirect || on
			return err
		}},
		"permanent-redirect":      {set: redirect(http.StatusMovedPermanently)},
		"temporal-redirect":       {set: redirect(http.StatusFound)},
		"permanent-redirect-code": {set: func(d *draft, v string) error { return parseCount(v, 301, 308, &d.redirectCode) }},
		"temporal-redirect-code":  {set: func(d *draft, v string) error { return parseCount(v, 301, 308, &d.redirectCode) }},
		"app-root": {set: func(d *draft, v string) error {
			if !strings.HasPrefix(v, "/") || strings.HasPrefix(v, "//") {
				return fmt.Errorf("%q must be a path", v)
			}
			d.AppRoot = v
			return checkLocation(v)
		}},
		"rewrite-target": {set: func(d *draft, v string) error {
			if !strings.HasPrefix(v, "/") {
				return fmt.Errorf("%q must be a path", v)
			}
			if _, err := route.CleanPath(strings.NewReplacer("$1", "x", "$2", "x").Replace(v)); err != nil {
				return err
			}
			mode := route.RewritePrefix
			if d.nginx || strings.Contains(v, "$") {
				mode = route.RewriteFull
			}
			d.Rewrite = &route.Rewrite{To: v, Mode: mode}
			return nil
		}},
		// The regular expressions that we know are recognised by themselves.
		"use-regex": {set: func(d *draft, v string) error { var on bool; return parseBool(v, &on) }},
	}
}

// checkLocation refuses what could break out of a header or lead to a scheme that is not the web's.
func checkLocation(v string) error {
	u, err := url.Parse(v)
	if err != nil || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("%q must be a URL or a path", v)
	}
	if u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || u.Scheme == "" && !strings.HasPrefix(v, "/") {
		return fmt.Errorf("%q must begin with https://, http:// or /", v)
	}
	return nil
}

func upstreamAnnotations() map[string]annotation {
	return map[string]annotation{
		"proxy-connect-timeout":   {set: func(d *draft, v string) error { return parseSpan(v, &d.ConnectTimeout) }},
		"proxy-read-timeout":      {set: func(d *draft, v string) error { return parseSpan(v, &d.ReadTimeout) }},
		"proxy-send-timeout":      {set: func(d *draft, v string) error { return parseSpan(v, &d.SendTimeout) }},
		"proxy-body-size":         {protects: true, set: func(d *draft, v string) error { return parseSize(v, &d.MaxBody) }},
		"proxy-buffering":         {set: mustBeOff},
		"proxy-request-buffering": {set: mustBeOff},
		"backend-protocol": {set: func(d *draft, v string) error {
			p, ok := map[string]route.Protocol{"HTTP": route.ProtocolHTTP1, "HTTPS": route.ProtocolTLS, "GRPC": route.ProtocolH2C, "GRPCS": route.ProtocolTLS, "H2C": route.ProtocolH2C}[strings.ToUpper(v)]
			if !ok || d.nginx && strings.EqualFold(v, "h2c") {
				return fmt.Errorf("%q must be HTTP, HTTPS, GRPC or GRPCS", v)
			}
			d.Protocol = p
			return nil
		}},
		"upstream-hash-by": {set: func(d *draft, v string) error {
			var err error
			d.Hash, err = parseHash(v)
			return err
		}},
		"upstream-vhost": {set: func(d *draft, v string) error {
			if problems := validation.IsDNS1123Subdomain(strings.ToLower(route.Host(v))); len(problems) > 0 {
				return fmt.Errorf("%q must be a host name", v)
			}
			d.UpstreamHost = v
			return nil
		}},
		"load-balance": {set: func(d *draft, v string) error {
			switch {
			case v == "round_robin" || v == "round-robin":
				d.Balance = route.RoundRobin
			case v == string(route.LeastRequests) && !d.nginx:
				d.Balance = route.LeastRequests
			default:
				return fmt.Errorf("%q must be round-robin or, under %s, %s", v, ownPrefix, route.LeastRequests)
			}
			return nil
		}},
	}
}

// parseHash takes one variable of nginx, or the form part or part:name.
func parseHash(text string) (route.HashSource, error) {
	part, name, named := strings.Cut(text, ":")
	if v, ok := strings.CutPrefix(text, "$"); ok {
		part, name, named = v, "", false
		for prefix, of := range map[string]route.HashPart{"http_": route.HashHeader, "cookie_": route.HashCookie, "arg_": route.HashQuery} {
			if rest, ok := strings.CutPrefix(v, prefix); ok && rest != "" {
				if of == route.HashHeader {
					rest = strings.ReplaceAll(rest, "_", "-")
				}
				return route.HashSource{Of: of, Name: hashName(of, rest)}, nil
			}
		}
		plain := map[string]route.HashPart{"request_uri": route.HashURI, "uri": route.HashPath, "host": route.HashHost, "remote_addr": route.HashClient, "binary_remote_addr": route.HashClient}
		if of, ok := plain[v]; ok {
			return route.HashSource{Of: of}, nil
		}
		part = ""
	}
	switch of := route.HashPart(part); of {
	case route.HashURI, route.HashPath, route.HashHost, route.HashClient:
		if !named {
			return route.HashSource{Of: of}, nil
		}
	case route.HashHeader, route.HashCookie, route.HashQuery:
		if name != "" {
			return route.HashSource{Of: of, Name: hashName(of, name)}, nil
		}
	}
	return route.HashSource{}, fmt.Errorf("%q must be uri, path, host, client, header:NAME, cookie:NAME, query:NAME, or one such variable of nginx", text)
}

// hashName is the name of a part in the form in which it is looked up.
func hashName(of route.HashPart, name string) string {
	if of == route.HashHeader {
		return http.CanonicalHeaderKey(name)
	}
	return name
}

func corsAnnotations() map[string]annotation {
	text := func(of func(*draft) *string) annotation {
		return annotation{set: func(d *draft, v string) error {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
				return fmt.Errorf("%q must be a list", v)
			}
			*of(d) = v
			return nil
		}}
	}
	return map[string]annotation{
		"enable-cors":            {set: func(d *draft, v string) error { return parseBool(v, &d.cors) }},
		"cors-allow-methods":     text(func(d *draft) *string { return &d.corsWants.Methods }),
		"cors-allow-headers":     text(func(d *draft) *string { return &d.corsWants.Headers }),
		"cors-expose-headers":    text(func(d *draft) *string { return &d.corsWants.ExposeHeaders }),
		"cors-allow-credentials": {set: func(d *draft, v string) error { return parseBool(v, &d.corsWants.Credentials) }},
		"cors-max-age":           {set: func(d *draft, v string) error { return parseCount(v, 0, 1<<30, &d.corsWants.MaxAge) }},
		"cors-allow-origin": {set: func(d *draft, v string) error {
			d.corsWants.Origins = nil // a mistake allows nobody
			origins := splitList(strings.ToLower(v))
			for _, o := range origins {
				u, err := url.Parse(strings.Replace(o, "*.", "any.", 1))
				if o != "*" && (err != nil || u.Host == "" || u.Path != "" || strings.Contains(u.Host, "*")) {
					return fmt.Errorf("%q must be *, or origins like https://a.test and https://*.a.test", o)
				}
			}
			d.corsWants.Origins = origins
			return nil
		}},
	}
}

// guardAnnotations are those that keep somebody out. A mistake in one of them keeps everybody out.
func guardAnnotations() map[string]annotation {
	ranges := func(of func(*draft) *[]netip.Prefix) annotation {
		return annotation{protects: true, set: func(d *draft, v string) error {
			prefixes, err := parseRanges(v)
			*of(d) = prefixes
			return err
		}}
	}
	count := func(of func(*draft) *int) annotation {
		return annotation{protects: true, set: func(d *draft, v string) error { return parseCount(v, 0, 1<<20, of(d)) }}
	}
	allow := ranges(func(d *draft) *[]netip.Prefix { return &d.Allow })
	return map[string]annotation{
		"whitelist-source-range": allow,
		"allowlist-source-range": allow,
		"denylist-source-range":  ranges(func(d *draft) *[]netip.Prefix { return &d.Deny }),
		"limit-rps":              count(func(d *draft) *int { return &d.rps }),
		"limit-rpm":              count(func(d *draft) *int { return &d.rpm }),
		"limit-connections":      count(func(d *draft) *int { return &d.Limits.Concurrent }),
		"limit-burst-multiplier": {protects: true, set: func(d *draft, v string) error { return parseCount(v, 1, 1000, &d.burstFactor) }},
		"limit-whitelist":        ranges(func(d *draft) *[]netip.Prefix { return &d.Limits.ExemptFrom }),
		"limit-allowlist":        ranges(func(d *draft) *[]netip.Prefix { return &d.Limits.ExemptFrom }),
		"auth-type": {protects: true, set: func(d *draft, v string) error {
			if d.auth = v == "basic"; !d.auth {
				return fmt.Errorf("%q must be basic", v)
			}
			return nil
		}},
		"auth-secret": {protects: true, set: func(d *draft, v string) error {
			namespace, name, found := strings.Cut(v, "/")
			if !found {
				namespace, name = d.namespace, v
			}
			if namespace != d.namespace {
				return fmt.Errorf("%q is in another namespace, which no grant allows: copy the Secret here", v)
			}
			if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
				return fmt.Errorf("%q must be the name of a Secret", v)
			}
			d.authWants.Secret = types.NamespacedName{Namespace: namespace, Name: name}
			return nil
		}},
		"auth-secret-type": {protects: true, set: func(_ *draft, v string) error {
			if v != "auth-file" {
				return fmt.Errorf("%q must be auth-file: one key, auth, with lines of name:hash", v)
			}
			return nil
		}},
		"auth-realm": {set: func(d *draft, v string) error {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '"' || r == '\\' }) {
				return fmt.Errorf("%q must be plain text without quotes", v)
			}
			d.authWants.Realm = v
			return nil
		}},
	}
}

func parseRanges(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, part := range splitList(text) {
		p, err := netip.ParsePrefix(part)
		if addr, e := netip.ParseAddr(part); e == nil {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q must be addresses and ranges like 10.0.0.0/8", part)
		}
		all = append(all, p.Masked())
	}
	if len(all) == 0 {
		return nil, errors.New("the list of ranges is empty")
	}
	return all, nil
}

func canaryAnnotations() map[string]annotation {
	return map[string]annotation{
		"canary":              {set: func(d *draft, v string) error { return parseBool(v, &d.canary) }},
		"canary-weight":       {set: func(d *draft, v string) error { return parseCount(v, 0, 1<<20, &d.canaryWants.Weight) }},
		"canary-weight-total": {set: func(d *draft, v string) error { return parseCount(v, 1, 1<<20, &d.canaryWants.Total) }},
		"canary-by-header": {set: func(d *draft, v string) error {
			err := setToken(v, &d.canaryWants.Header)
			d.canaryWants.Header = http.CanonicalHeaderKey(d.canaryWants.Header)
			return err
		}},
		"canary-by-header-value": {set: func(d *draft, v string) error { d.canaryWants.HeaderValue = v; return nil }},
		"canary-by-header-pattern": {set: func(d *draft, v string) error {
			pattern, err := regexp.Compile(v)
			if err != nil {
				return fmt.Errorf("%q: %w", v, err)
			}
			d.canaryWants.HeaderPattern = pattern
			return nil
		}},
		"canary-by-cookie": {set: func(d *draft, v string) error { return setToken(v, &d.canaryWants.Cookie) }},
	}
}

func setToken(text string, to *string) error {
	if !httpguts.ValidHeaderFieldName(text) {
		return fmt.Errorf("%q must be the name of a header or cookie", text)
	}
	*to = text
	return nil
}

func cookieAnnotations() map[string]annotation {
	noBreak := func(of func(*draft) *string) annotation {
		return annotation{set: func(d *draft, v string) error {
			if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' }) {
				return fmt.Errorf("%q must not hold spaces or semicolons", v)
			}
			*of(d) = v
			return nil
		}}
	}
	age := annotation{set: func(d *draft, v string) error { return parseCount(v, 1, 1<<30, &d.stickyWants.MaxAge) }}
	return map[string]annotation{
		"affinity": {set: func(d *draft, v string) error {
			if d.cookie = v == "cookie"; !d.cookie {
				return fmt.Errorf("%q must be cookie", v)
			}
			return nil
		}},
		"session-cookie-name":    {set: func(d *draft, v string) error { return setToken(v, &d.stickyWants.Cookie) }},
		"session-cookie-path":    noBreak(func(d *draft) *string { return &d.stickyWants.Path }),
		"session-cookie-domain":  noBreak(func(d *draft) *string { return &d.stickyWants.Domain }),
		"session-cookie-max-age": age,
		"session-cookie-expires": age,
		"session-cookie-secure":  {set: func(d *draft, v string) error { return parseBool(v, &d.stickyWants.Secure) }},
		"session-cookie-samesite": {set: func(d *draft, v string) error {
			mode, ok := map[string]http.SameSite{"none": http.SameSiteNoneMode, "lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode}[strings.ToLower(v)]
			if !ok {
				return fmt.Errorf("%q must be None, Lax or Strict", v)
			}
			d.stickyWants.SameSite = mode
			return nil
		}},
	}
}

func headerAnnotations() map[string]annotation {
	list := func(of func(*draft) *[]route.HeaderField) annotation {
		return annotation{own: true, set: func(d *draft, v string) error {
			fields, err := parseHeaderFields(v)
			*of(d) = append(*of(d), fields...)
			return err
		}}
	}
	return map[string]annotation{
		"request-headers":  list(func(d *draft) *[]route.HeaderField { return &d.RequestHeaders }),
		"response-headers": list(func(d *draft) *[]route.HeaderField { return &d.ResponseHeaders }),
		"x-forwarded-prefix": {set: func(d *draft, v string) error {
			fields, err := parseHeaderFields("X-Forwarded-Prefix: " + v)
			d.RequestHeaders = append(d.RequestHeaders, fields...)
			return err
		}},
	}
}

// parseHeaderFields takes lines of "Name: value"; a name without a value removes the header. What frames or routes
// a message is not for sale.
func parseHeaderFields(text string) ([]route.HeaderField, error) {
	var all []route.HeaderField
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		var checked string
		if !found || setToken(name, &checked) != nil || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
			return nil, fmt.Errorf("%q must be lines of Name: value", line)
		}
		switch name {
		case "Host", "Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Te", "Upgrade", "Keep-Alive", "Proxy-Connection",
			"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-Ip", "Forwarded":
			return nil, fmt.Errorf("header %s is set by the ingress itself and cannot be changed", name)
		}
		all = append(all, route.HeaderField{Name: name, Value: value})
	}
	return all, nil
}
