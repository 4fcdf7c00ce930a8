package ingress

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcplane/ingress/route"
	"svcplane/ingress/source/ingress/annotations"
)

func annotated(pairs ...string) *networkingv1.Ingress {
	ing := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x", Annotations: map[string]string{}}}
	for i := 0; i < len(pairs); i += 2 {
		ing.Annotations[pairs[i]] = pairs[i+1]
	}
	return ing
}

// TestAnnotations has a row per annotation: what it sets, under both prefixes unless it is ours alone.
func TestAnnotations(t *testing.T) {
	ten := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}
	for _, row := range []struct {
		name, value string
		want        route.Policy
	}{
		{"force-ssl-redirect", "true", route.Policy{HTTPSRedirect: true}},
		{"ssl-redirect", "true", route.Policy{}}, // without TLS in the Ingress there is nowhere to go
		{"permanent-redirect", "https://a.test/x", route.Policy{Redirect: &route.Redirect{To: "https://a.test/x", Code: 301}}},
		{"temporal-redirect", "/x", route.Policy{Redirect: &route.Redirect{To: "/x", Code: 302}}},
		{"app-root", "/app", route.Policy{AppRoot: "/app"}},
		{"rewrite-target", "/$2", route.Policy{Rewrite: &route.Rewrite{To: "/$2", Mode: route.RewriteFull}}},
		{"proxy-connect-timeout", "7", route.Policy{ConnectTimeout: 7 * time.Second}},
		{"proxy-read-timeout", "90s", route.Policy{ReadTimeout: 90 * time.Second}},
		{"proxy-send-timeout", "5", route.Policy{SendTimeout: 5 * time.Second}},
		{"proxy-body-size", "8m", route.Policy{MaxBody: 8 << 20}},
		{"proxy-buffering", "off", route.Policy{}},
		{"backend-protocol", "GRPC", route.Policy{Protocol: route.ProtocolH2C}},
		{"backend-protocol", "HTTPS", route.Policy{Protocol: route.ProtocolTLS}},
		{"upstream-hash-by", "$http_x_user", route.Policy{Hash: route.HashSource{Of: route.HashHeader, Name: "X-User"}}},
		{"upstream-hash-by", "$request_uri", route.Policy{Hash: route.HashSource{Of: route.HashURI}}},
		{"upstream-hash-by", "cookie:id", route.Policy{Hash: route.HashSource{Of: route.HashCookie, Name: "id"}}},
		{"upstream-vhost", "inner.test", route.Policy{UpstreamHost: "inner.test"}},
		{"load-balance", "round_robin", route.Policy{}},
		{"whitelist-source-range", "10.0.0.0/8, 192.0.2.1", route.Policy{Allow: ten}},
		{"allowlist-source-range", "10.1.2.3/8,192.0.2.1", route.Policy{Allow: ten}},
		{"denylist-source-range", "10.0.0.0/8,192.0.2.1/32", route.Policy{Deny: ten}},
		{"limit-rps", "4", route.Policy{Limits: route.Limits{PerSecond: 4, Burst: 20}}},
		{"limit-rpm", "120", route.Policy{Limits: route.Limits{PerSecond: 2, Burst: 600}}},
		{"limit-connections", "3", route.Policy{Limits: route.Limits{Concurrent: 3}}},
		{"canary", "true", route.Policy{Canary: &route.Canary{Total: 100}}},
		{"affinity", "cookie", route.Policy{Sticky: &route.Sticky{Cookie: "INGRESSCOOKIE", Path: "/"}}},
		{"x-forwarded-prefix", "/p", route.Policy{RequestHeaders: []route.HeaderField{{Name: "X-Forwarded-Prefix", Value: "/p"}}}},
	} {
		for _, prefix := range []string{ownPrefix, nginxPrefix} {
			got, problems := readAnnotations(annotated(prefix+row.name, row.value))
			if len(problems) > 0 || got == nil || !reflect.DeepEqual(*got, row.want) {
				t.Errorf("%s%s: %q: got %+v %v, want %+v", prefix, row.name, row.value, got, problems, row.want)
			}
		}
	}
	own, problems := readAnnotations(annotated(
		ownPrefix+"rewrite-target", "/new", ownPrefix+"load-balance", "least-requests",
		ownPrefix+"request-headers", "X-A: b\nX-Gone:", ownPrefix+"response-headers", "x-frame-options: DENY"))
	want := &route.Policy{Rewrite: &route.Rewrite{To: "/new", Mode: route.RewritePrefix}, Balance: route.LeastRequests,
		RequestHeaders: []route.HeaderField{{Name: "X-A", Value: "b"}, {Name: "X-Gone", Value: ""}}, ResponseHeaders: []route.HeaderField{{Name: "X-Frame-Options", Value: "DENY"}}}
	if len(problems) > 0 || !reflect.DeepEqual(own, want) {
		t.Errorf("ours alone: got %+v %v, want %+v", own, problems, want)
	}
}

func TestAnnotationsTogether(t *testing.T) {
	ing := annotated(
		nginxPrefix+"limit-rps", "1", ownPrefix+"limit-rps", "9", ownPrefix+"limit-burst-multiplier", "2",
		ownPrefix+"canary", "true", ownPrefix+"canary-weight", "30", ownPrefix+"canary-by-header", "X-C",
		ownPrefix+"auth-type", "basic", ownPrefix+"auth-secret", "logins", ownPrefix+"auth-realm", "the shed",
		nginxPrefix+"permanent-redirect", "https://a.test", nginxPrefix+"permanent-redirect-code", "308",
		nginxPrefix+"ssl-redirect", "true")
	ing.Spec.TLS = []networkingv1.IngressTLS{{}}
	p, problems := readAnnotations(ing)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if p.Limits.PerSecond != 9 || p.Limits.Burst != 18 {
		t.Errorf("ours has the last word: %+v", p.Limits)
	}
	if *p.Canary != (route.Canary{Weight: 30, Total: 100, Header: "X-C"}) {
		t.Errorf("canary %+v", *p.Canary)
	}
	if p.Auth.Realm != "the shed" || p.Auth.Secret.String() != "default/logins" || p.Redirect.Code != 308 || !p.HTTPSRedirect || len(p.Closed) > 0 {
		t.Errorf("%+v %+v %v %v", p.Auth, p.Redirect, p.HTTPSRedirect, p.Closed)
	}
}

// TestBadAnnotations: each is told, and those that protect close the route.
func TestBadAnnotations(t *testing.T) {
	for _, row := range []struct {
		name, value, reason string
		broken              bool
	}{
		{ownPrefix + "rewritetarget", "/", "AnnotationUnknown", false},
		{nginxPrefix + "configuration-snippet", "expires 1d;", "AnnotationIgnored", false},
		{nginxPrefix + "configuration-snippet", "deny all;", "RouteClosed", true},
		{nginxPrefix + "auth-url", "http://auth.test/check", "RouteClosed", true},
		{ownPrefix + "auth-url", "http://auth.test/check", "RouteClosed", true},
		{"traefik.ingress.kubernetes.io/router.middlewares", "default-auth@kubernetescrd", "RouteClosed", true},
		{"haproxy.org/check", "true", "AnnotationIgnored", false},
		{nginxPrefix + "request-headers", "X-A: b", "AnnotationIgnored", false},
		{nginxPrefix + "load-balance", "ewma", "AnnotationInvalid", false},
		{ownPrefix + "ssl-redirect", "yes please", "AnnotationInvalid", false},
		{ownPrefix + "permanent-redirect", "javascript:alert(1)", "AnnotationInvalid", false},
		{ownPrefix + "permanent-redirect", "https://a.test/\r\nSet-Cookie: x", "AnnotationInvalid", false},
		{ownPrefix + "app-root", "//evil.test", "AnnotationInvalid", false},
		{ownPrefix + "rewrite-target", "/../x", "AnnotationInvalid", false},
		{ownPrefix + "proxy-read-timeout", "0", "AnnotationInvalid", false},
		{ownPrefix + "proxy-body-size", "lots", "AnnotationInvalid", true},
		{ownPrefix + "allowlist-source-range", "10.0.0.0/33", "AnnotationInvalid", true},
		{ownPrefix + "allowlist-source-range", "", "AnnotationInvalid", true},
		{ownPrefix + "denylist-source-range", "everybody", "AnnotationInvalid", true},
		{ownPrefix + "limit-rps", "-1", "AnnotationInvalid", true},
		{ownPrefix + "auth-type", "digest", "AnnotationInvalid", true},
		{ownPrefix + "auth-type", "basic", "AnnotationInvalid", true},    // without a Secret
		{ownPrefix + "auth-secret", "logins", "AnnotationInvalid", true}, // without a type
		{ownPrefix + "auth-secret", "other/logins", "AnnotationInvalid", true},
		{ownPrefix + "cors-allow-origin", "https://*.*.test", "AnnotationInvalid", false},
		{ownPrefix + "request-headers", "Host: evil.test", "AnnotationInvalid", false},
		{ownPrefix + "request-headers", "Transfer-Encoding: chunked", "AnnotationInvalid", false},
		{ownPrefix + "session-cookie-path", "/; Domain=test", "AnnotationInvalid", false},
		{ownPrefix + "canary-by-header-pattern", "(", "AnnotationInvalid", false},
		{ownPrefix + "backend-protocol", "FCGI", "AnnotationInvalid", false},
		{ownPrefix + "upstream-hash-by", "$host$uri", "AnnotationInvalid", false},
	} {
		p, problems := readAnnotations(annotated(row.name, row.value))
		if len(problems) != 1 || problems[0].Reason != row.reason || !strings.Contains(problems[0].Message, strings.TrimPrefix(row.name, ownPrefix)) {
			t.Errorf("%s %q: %v, want one %s", row.name, row.value, problems, row.reason)
		}
		if broken := p != nil && len(p.Closed) > 0; broken != row.broken {
			t.Errorf("%s %q: broken %v, want %v", row.name, row.value, broken, row.broken)
		}
	}
}

// TestHonouredRows: the documents promise what is carried out, under the prefixes where it is.
func TestHonouredRows(t *testing.T) {
	promised := map[string]annotations.Row{}
	for _, r := range annotations.Controllers()[0].Rows {
		if r.Effect == annotations.Honoured {
			for name := range strings.FieldsSeq(r.Names) {
				promised[name] = r
			}
		}
	}
	for name, a := range annotationTable() {
		r, ok := promised[name]
		if !ok || r.Own != (a.own && name != "x-forwarded-prefix") || r.Closes != a.protects {
			t.Errorf("%s is carried out (only ours %v, protects %v), the rows say %+v", name, a.own, a.protects, r)
		}
		delete(promised, name)
	}
	for name := range promised {
		t.Errorf("%s is promised and not carried out", name)
	}
}

// TestHTTPSOnly: what keeps plain requests out elsewhere does here, too.
func TestHTTPSOnly(t *testing.T) {
	for _, row := range []struct {
		name, value string
		want        bool
	}{
		{"traefik.ingress.kubernetes.io/router.tls", "true", true},
		{"traefik.ingress.kubernetes.io/router.tls", "false", false},
		{"traefik.ingress.kubernetes.io/router.entrypoints", "websecure", true},
		{"kubernetes.io/ingress.allow-http", "false", true},
		{"kubernetes.io/ingress.allow-http", "true", false},
	} {
		p, problems := readAnnotations(annotated(row.name, row.value))
		if got := p != nil && p.HTTPSRedirect; got != row.want || len(problems) > 0 {
			t.Errorf("%s: %q: redirects %v %v, want %v", row.name, row.value, got, problems, row.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for written, plain := range map[string]string{"/*": "/", "/api/*": "/api", "/api/v.*": "/api", "/a/(.*)": "/a", "/a(/|$)(.*)": "/", "/v[0-9]/x": "/", "/a/b$": "/a"} {
		if !route.IsPattern(written) || beforePattern(written) != plain {
			t.Errorf("%s: %v, %s, want %s", written, route.IsPattern(written), beforePattern(written), plain)
		}
	}
	if route.IsPattern("/a.b/~c/d-e_f;g,h+i@j!k'l:m") {
		t.Error("a plain path is taken for a pattern")
	}
}
