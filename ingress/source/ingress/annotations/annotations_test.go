package annotations

import (
	"flag"
	"os"
	"strings"
	"testing"
)

//go:generate go test -vet=off -run TestDocuments -update .
var update = flag.Bool("update", false, "write the tables into the documents")

// TestJudge has the values that matter: what restricts, what switches it off, and what only looks like it.
func TestJudge(t *testing.T) {
	const n = NginxPrefix
	for _, row := range []struct {
		key, value string
		also       map[string]string
		want       Effect
	}{
		{key: n + "auth-url", value: "http://oauth2-proxy/oauth2/auth", want: Restricts},
		{key: n + "auth-url", value: "", want: Restricts},    // a value that was lost on the way
		{key: n + "auth-url", value: "off", want: Restricts}, // to ingress-nginx, a URL that is wrong
		{key: OwnPrefix + "auth-url", value: "https://a.test", want: Restricts},
		{key: OwnPrefix + "auth-url", value: "off", want: Honoured},
		{key: n + "auth-url", value: "https://a.test", also: map[string]string{OwnPrefix + "auth-url": "off"}, want: Honoured},
		{key: n + "auth-signin", value: "https://a.test", want: Restricts},
		{key: n + "auth-method", value: "GET", want: Harmless},
		{key: "ingress.bluemix.net/appid-auth", value: "bindSecret=a namespace=b requestType=web", want: Restricts},
		{key: "gate.ingress.example.com/whitelist", value: "10.0.0.0/8", want: Restricts},
		{key: n + "enable-global-auth", value: "true", want: Restricts},
		{key: n + "enable-global-auth", value: "false", want: Honoured},
		{key: n + "enable-global-auth", value: "certainly", want: Restricts},
		{key: n + "auth-tls-secret", value: "default/ca", want: Restricts},
		{key: n + "auth-tls-secret", value: "default/ca", also: map[string]string{n + "auth-tls-verify-client": "optional"}, want: Restricts},
		{key: n + "auth-tls-secret", value: "default/ca", also: map[string]string{n + "auth-tls-verify-client": "optional_no_ca"}, want: Harmless},
		{key: n + "auth-tls-secret", value: "default/ca", also: map[string]string{n + "auth-tls-verify-client": "off"}, want: Harmless},
		{key: n + "auth-tls-secret", value: "default/ca", also: map[string]string{n + "auth-tls-verify-client": "off", OwnPrefix + "auth-tls-verify-client": "on"}, want: Restricts},
		{key: n + "auth-tls-verify-client", value: "on", want: Restricts},
		{key: n + "auth-tls-verify-client", value: "optional_no_ca", want: Harmless},
		{key: n + "auth-tls-match-cn", value: "CN=x", want: Restricts},
		{key: n + "auth-tls-verify-depth", value: "2", want: Harmless},
		{key: n + "enable-modsecurity", value: "true", want: Restricts},
		{key: n + "enable-modsecurity", value: "False", want: Honoured},
		{key: n + "enable-owasp-core-rules", value: "true", want: Restricts},
		{key: n + "enable-owasp-core-rules", value: "true", also: map[string]string{n + "enable-modsecurity": "false"}, want: Honoured},
		{key: n + "modsecurity-snippet", value: "SecRuleEngine On", want: Restricts},
		{key: n + "modsecurity-snippet", value: "# nothing\n\n", want: Honoured},
		{key: n + "global-rate-limit", value: "100", want: Restricts},
		{key: n + "global-rate-limit", value: "0", want: Honoured},
		{key: n + "satisfy", value: "any", want: Harmless},
		{key: n + "limit-rate", value: "1024", want: Harmless},
		{key: n + "ssl-passthrough", value: "true", want: Restricts},
		{key: n + "ssl-passthrough", value: "false", want: Honoured},
		{key: n + "ssl-ciphers", value: "HIGH", want: Harmless},
		{key: n + "proxy-ssl-verify", value: "on", want: Restricts},
		{key: n + "proxy-ssl-verify", value: "off", want: Honoured},
		{key: n + "secure-verify-ca-secret", value: "ca", want: Restricts},
		{key: n + "block-user-agents", value: "curl", want: Restricts},
		{key: n + "lua-resty-waf", value: "active", want: Restricts},
		{key: n + "lua-resty-waf", value: "simulate", want: Honoured},
		{key: n + "server-alias", value: "b.test", want: Harmless},
		{key: n + "request-headers", value: "X-A: b", want: Harmless}, // only ours
		{key: n + "ratelimit-of-tomorrow", value: "5", want: Restricts},
		{key: n + "ratelimit-of-tomorrow", value: "false", want: Harmless},
		{key: n + "colour", value: "green", want: Harmless},
		{key: OwnPrefix + "whitelist", value: "10.0.0.0/8", want: Restricts}, // a name that was mistyped
		{key: "nginx.org/basic-auth-secret", value: "x", want: Restricts},
		{key: "nginx.org/server-snippets", value: "add_header X y;", want: Harmless},
		{key: "nginx.com/jwt-key", value: "x", want: Restricts},
		{key: "traefik.ingress.kubernetes.io/router.middlewares", value: "default-auth@kubernetescrd", want: Restricts},
		{key: "traefik.ingress.kubernetes.io/router.middlewares", value: "", want: Honoured},
		{key: "traefik.ingress.kubernetes.io/router.tls", value: "true", want: HTTPSOnly},
		{key: "traefik.ingress.kubernetes.io/router.tls", value: "false", want: Honoured},
		{key: "traefik.ingress.kubernetes.io/router.tls.options", value: "default-mtls@kubernetescrd", want: Restricts},
		{key: "traefik.ingress.kubernetes.io/router.tls.domains.0.main", value: "a.test", want: Harmless},
		{key: "traefik.ingress.kubernetes.io/router.entrypoints", value: "web, websecure", want: Honoured},
		{key: "traefik.ingress.kubernetes.io/router.entrypoints", value: "websecure", want: HTTPSOnly},
		{key: "traefik.ingress.kubernetes.io/router.entrypoints", value: "web,internal", want: Restricts},
		{key: "traefik.ingress.kubernetes.io/whitelist-source-range", value: "10.0.0.0/8", want: Restricts},
		{key: "ingress.kubernetes.io/whitelist-source-range", value: "10.0.0.0/8", want: Restricts},
		{key: "ingress.kubernetes.io/auth-tls-secret", value: "x", want: Restricts}, // a detail for one controller, not for the other
		{key: "ingress.kubernetes.io/ssl-redirect", value: "true", want: HTTPSOnly},
		{key: "ingress.kubernetes.io/backends", value: "{}", want: Harmless},
		{key: "projectcontour.io/response-timeout", value: "5s", want: Harmless},
		{key: "contour.heptio.com/tls-minimum-protocol-version", value: "1.3", want: Harmless},
		{key: "projectcontour.io/auth-of-tomorrow", value: "x", want: Restricts},
		{key: "haproxy.org/allow-list", value: "10.0.0.0/8", want: Restricts},
		{key: "haproxy.com/rate-limit-requests", value: "10", want: Restricts},
		{key: "haproxy.org/backend-config-snippet", value: "http-request deny", want: Restricts},
		{key: "haproxy.org/request-set-header", value: "X-User guest", want: Restricts},
		{key: "haproxy.org/check", value: "true", want: Harmless},
		{key: "haproxy-ingress.github.io/auth-url", value: "http://x", want: Restricts},
		{key: "haproxy-ingress.github.io/waf", value: "modsecurity", want: Restricts},
		{key: "haproxy-ingress.github.io/waf", value: "modsecurity", also: map[string]string{"haproxy-ingress.github.io/waf-mode": "detect"}, want: Honoured},
		{key: "haproxy-ingress.github.io/oauth", value: "oauth2_proxy", want: Restricts},
		{key: "ingress.pomerium.io/policy", value: "- allow:", want: Restricts},
		{key: "ingress.pomerium.io/allow_any_authenticated_user", value: "true", want: Restricts},
		{key: "ingress.pomerium.io/allow_public_unauthenticated_access", value: "true", want: Harmless},
		{key: "mse.ingress.kubernetes.io/blacklist-source-range", value: "10.0.0.0/8", want: Restricts},
		{key: "konghq.com/plugins", value: "key-auth", want: Restricts},
		{key: "konghq.com/methods", value: "GET", want: Restricts},
		{key: "konghq.com/protocols", value: "https", want: HTTPSOnly},
		{key: "konghq.com/protocols", value: "http,https", want: Honoured},
		{key: "konghq.com/strip-path", value: "true", want: Harmless},
		{key: "alb.ingress.kubernetes.io/auth-type", value: "oidc", want: Restricts},
		{key: "alb.ingress.kubernetes.io/auth-type", value: "none", want: Honoured},
		{key: "alb.ingress.kubernetes.io/auth-idp-oidc", value: "{}", also: map[string]string{"alb.ingress.kubernetes.io/auth-type": "none"}, want: Honoured},
		{key: "alb.ingress.kubernetes.io/inbound-cidrs", value: "10.0.0.0/8", want: Restricts},
		{key: "alb.ingress.kubernetes.io/inbound-cidrs", value: "0.0.0.0/0, ::/0", want: Honoured},
		{key: "alb.ingress.kubernetes.io/wafv2-acl-arn", value: "arn:x", want: Restricts},
		{key: "alb.ingress.kubernetes.io/scheme", value: "internal", want: Restricts},
		{key: "alb.ingress.kubernetes.io/scheme", value: "internet-facing", want: Honoured},
		{key: "alb.ingress.kubernetes.io/target-type", value: "ip", want: Harmless},
		{key: "kubernetes.io/ingress.allow-http", value: "false", want: HTTPSOnly},
		{key: "kubernetes.io/ingress.allow-http", value: "true", want: Honoured},
		{key: "kubernetes.io/ingress.global-static-ip-name", value: "x", want: Harmless},
		{key: "cloud.google.com/backend-config", value: "{}", want: Restricts},
		{key: "appgw.ingress.kubernetes.io/waf-policy-for-path", value: "/x", want: Restricts},
		{key: "k8s.apisix.apache.org/auth-uri", value: "http://x", want: Restricts},
		{key: "higress.io/match-method", value: "GET", want: Restricts},
		{key: "ingress.appscode.com/auth-type", value: "basic", want: Restricts},
		{key: "haproxy.router.openshift.io/ip_whitelist", value: "10.0.0.1", want: Restricts},
		{key: "zalando.org/skipper-filter", value: "oauthTokeninfoAllScope()", want: Restricts},
		{key: "ingress.cilium.io/tls-passthrough", value: "enabled", want: Restricts},
	} {
		all := map[string]string{row.key: row.value}
		for k, v := range row.also {
			all[k] = v
		}
		if j, known := Judge(row.key, all); !known || j.Effect != row.want || j.Why == "" {
			t.Errorf("%s: %q with %v: %+v (known %v), want effect %d", row.key, row.value, row.also, j, known, row.want)
		}
	}
	for _, key := range []string{ClassKey, "kubernetes.io/tls-acme", "cert-manager.io/cluster-issuer", "kubectl.kubernetes.io/last-applied-configuration", "meta.helm.sh/release-name", "auth"} {
		if j, known := Judge(key, map[string]string{key: "x"}); known {
			t.Errorf("%s is no ingress controller's: %+v", key, j)
		}
	}
}

func TestOfService(t *testing.T) {
	for key, closes := range map[string]bool{
		"konghq.com/plugins": true, "alb.ingress.kubernetes.io/auth-type": true, "cloud.google.com/backend-config": true, "haproxy-ingress.github.io/auth-url": true,
		"konghq.com/protocol": false, "konghq.com/authentication-of-tomorrow": false, "nginx.ingress.kubernetes.io/auth-url": false,
		"traefik.ingress.kubernetes.io/service.sticky.cookie": false, "metallb.io/allow-shared-ip": false,
	} {
		if why := OfService(map[string]string{key: "x"}); (why != "") != closes || closes && !strings.Contains(why, key) {
			t.Errorf("%s on a Service: %q, want closing %v", key, why, closes)
		}
	}
}

// TestSnippets: what is not known to be harmless may restrict.
func TestSnippets(t *testing.T) {
	for text, restricts := range map[string]bool{
		"":              false,
		"# deny all;\n": false,
		`more_set_headers "X-Frame-Options: DENY";`: false,
		`add_header X-A "a; deny all; #" always;`:   false,
		"add_header X ${request_id};":               false,
		"proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection \"upgrade\";\nproxy_read_timeout 1h;": false,
		"rewrite ^(/dashboard)$ $1/ redirect;":          false,
		"gzip on; gzip_types text/css;":                 false,
		"if ($host = 'a') { add_header X y; }":          false,
		"location /x { expires 1d; }":                   false,
		"deny all;":                                     true,
		"allow 10.0.0.0/8;\ndeny all;":                  true,
		"add_header X y; deny all;":                     true,
		"auth_request /auth;":                           true,
		"auth_basic \"closed\";":                        true,
		"return 403;":                                   true,
		"if ($http_x_key != secret) { return 403; }":    true,
		"if ($http_x_key != secret) {return 302 /x;}":   true,
		"location ~ /\\. { deny all; }":                 true,
		"location /metrics {return 404;}":               true,
		"limit_req zone=a;":                             true,
		"limit_except GET { deny all; }":                true,
		"satisfy any;":                                  true,
		"client_max_body_size 1m;":                      true,
		"ssl_verify_client on;":                         true,
		"access_by_lua_block { ngx.exit(403) }":         true,
		"rewrite ^/admin /gone last;":                   true,
		"proxy_set_header X-User \"\";":                 true,
		"more_clear_input_headers X-User;":              true,
		"include /etc/nginx/closed.conf;":               true,
		"a_directive_of_tomorrow on;":                   true,
		"add_header X 'never ends; deny all;":           false, // nginx refuses it: one word to its end
		"modsecurity on;":                               true,
		"proxy_pass http://elsewhere;":                  true,
		"secure_link $arg_md5;":                         true,
		"valid_referers none; if ($invalid_referer) {}": true,
	} {
		key := NginxPrefix + "configuration-snippet"
		j, _ := Judge(key, map[string]string{key: text})
		if got := j.Effect == Restricts; got != restricts {
			t.Errorf("%q: %+v, want restricting %v", text, j, restricts)
		}
	}
}

// TestRows: each name in one row of its controller, and nothing that would be without a word.
func TestRows(t *testing.T) {
	for _, c := range Controllers() {
		seen := map[string]bool{}
		for _, r := range c.Rows {
			for n := range strings.FieldsSeq(r.Names) {
				if seen[n] {
					t.Errorf("%s: %s stands in two rows", c.Name, n)
				}
				seen[n] = true
			}
			if r.Text == "" || r.Effect == Harmless && r.judge.restricts != nil {
				t.Errorf("%s: %s: %+v", c.Name, r.Names, r)
			}
		}
	}
}

// published is the list of ingress-nginx (docs/user-guide/nginx-configuration/annotations-risk.md), with the names that
// later versions no longer have.
const published = `server-alias allowlist-source-range backend-protocol auth-realm auth-secret auth-secret-type auth-type canary
canary-by-cookie canary-by-header canary-by-header-pattern canary-by-header-value canary-weight canary-weight-total
auth-tls-error-page auth-tls-match-cn auth-tls-pass-certificate-to-upstream auth-tls-secret auth-tls-verify-client
auth-tls-verify-depth client-body-buffer-size configuration-snippet connection-proxy-header cors-allow-credentials
cors-allow-headers cors-allow-methods cors-allow-origin cors-expose-headers cors-max-age enable-cors custom-http-errors
custom-headers default-backend denylist-source-range disable-proxy-intercept-errors enable-global-auth
auth-always-set-cookie auth-cache-duration auth-cache-key auth-keepalive auth-keepalive-requests auth-keepalive-share-vars
auth-keepalive-timeout auth-method auth-proxy-set-headers auth-request-redirect auth-response-headers auth-signin
auth-signin-redirect-param auth-snippet auth-url fastcgi-index fastcgi-params-configmap http2-push-preload load-balance
enable-access-log enable-rewrite-log mirror-host mirror-request-body mirror-target enable-modsecurity
enable-owasp-core-rules modsecurity-snippet modsecurity-transaction-id enable-opentelemetry opentelemetry-operation-name
opentelemetry-trust-incoming-span proxy-body-size proxy-buffer-size proxy-buffering proxy-buffers-number
proxy-connect-timeout proxy-cookie-domain proxy-cookie-path proxy-http-version proxy-max-temp-file-size
proxy-next-upstream proxy-next-upstream-timeout proxy-next-upstream-tries proxy-read-timeout proxy-redirect-from
proxy-redirect-to proxy-request-buffering proxy-send-timeout proxy-ssl-ciphers proxy-ssl-name proxy-ssl-protocols
proxy-ssl-secret proxy-ssl-server-name proxy-ssl-verify proxy-ssl-verify-depth limit-allowlist limit-burst-multiplier
limit-connections limit-rate limit-rate-after limit-rpm limit-rps from-to-www-redirect permanent-redirect
permanent-redirect-code temporal-redirect temporal-redirect-code app-root force-ssl-redirect preserve-trailing-slash
rewrite-target ssl-redirect use-regex ssl-ciphers ssl-prefer-server-ciphers ssl-passthrough satisfy server-snippet
service-upstream affinity affinity-canary-behavior affinity-mode session-cookie-change-on-failure
session-cookie-conditional-samesite-none session-cookie-domain session-cookie-expires session-cookie-max-age
session-cookie-name session-cookie-partitioned session-cookie-path session-cookie-samesite session-cookie-secure
stream-snippet upstream-hash-by upstream-hash-by-subset upstream-hash-by-subset-size upstream-vhost
use-port-in-redirects x-forwarded-prefix
whitelist-source-range limit-whitelist global-rate-limit global-rate-limit-window global-rate-limit-key
global-rate-limit-ignored-cidrs lua-resty-waf secure-verify-ca-secret secure-backends session-cookie-hash enable-opentracing
enable-influxdb mirror-uri grpc-backend`

func TestPublishedNamesAreKnown(t *testing.T) {
	c := ingressNginx()
	for name := range strings.FieldsSeq(published) {
		if c.row(name, NginxPrefix) == nil {
			t.Errorf("%s%s is in no row", NginxPrefix, name)
		}
	}
}

// TestDocuments holds that the documents say what the rows say; -update makes it so.
func TestDocuments(t *testing.T) {
	for _, d := range []struct{ file, begin, end, table string }{
		{"../../../../docs/ingress.md", "<!-- begin: honoured -->\n", "<!-- end: honoured -->\n", Table()},
		{"../../../../docs/annotations.md", "<!-- begin: controllers -->\n", "<!-- end: controllers -->\n", Reference()},
	} {
		text, err := os.ReadFile(d.file)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, ok := strings.Cut(string(text), d.begin)
		_, after, ok2 := strings.Cut(rest, d.end)
		if !ok || !ok2 {
			t.Fatalf("%s: the lines %q and %q are not there", d.file, d.begin, d.end)
		}
		want := before + d.begin + d.table + d.end + after
		if want == string(text) {
			continue
		}
		if !*update {
			t.Errorf("%s does not say what the rows say: go test ./ingress/source/ingress/annotations -update", d.file)
			continue
		}
		if err := os.WriteFile(d.file, []byte(want), 0o644); err != nil {
			t.Error(err)
		}
	}
}
