package annotations

import "sync"

// Controllers lists those whose annotations are known. The list is made once and never changed.
var Controllers = sync.OnceValue(func() []Controller {
	return []Controller{ingressNginx(), f5Nginx(), traefik(), contour(), haproxyTech(), haproxyIngress(), kong(), aws(), gce(), azure(), apisix(), higress(), voyager(), openshift(), skipper(), cilium(), pomerium()}
})

const (
	login     = "asks for a login"
	ranges    = "lets only some clients in"
	rate      = "bounds the requests of a client"
	clientTLS = "wants certificates of clients"
	serverTLS = "sends nothing to an endpoint whose certificate is wrong"
	plainHTTP = "keeps plain HTTP out: plain requests are redirected to https"
	headers   = "sets headers that endpoints may go by: write it as `svcplane.io/request-headers`"
	narrower  = "takes only some of the requests for a path"
	inspects  = "inspects requests and refuses some"
	answers   = "changes answers, or how requests are sent on"
	elsewhere = "is about a load balancer or certificates that are not here"
)

// f5Nginx is the controller of NGINX, Inc., which serves the class nginx, too.
func f5Nginx() Controller {
	return Controller{Name: "NGINX Ingress Controller (F5)", Prefixes: []string{"nginx.org/", "nginx.com/", "appprotect.f5.com/", "appprotectdos.f5.com/"}, Rows: []Row{
		{Names: "basic-auth-secret jwt-key", Effect: Restricts, Text: login},
		{Names: "basic-auth-realm jwt-realm jwt-token jwt-login-url", Effect: Harmless, Text: noEffect},
		{Names: "policies", Effect: Restricts, judge: unlessEmpty(), Text: "may do anything that a Policy can: logins, ranges, limits"},
		{Names: "limit-req-rate", Effect: Restricts, Text: rate},
		{Names: "limit-req-*", Effect: Harmless, Text: "a detail of `limit-req-rate`"},
		{Names: "client-max-body-size", Effect: Restricts, judge: unless("0"), Text: "bounds request bodies: it is `proxy-body-size` here"},
		{Names: "server-snippets", Effect: Restricts, HostWide: true, Loses: notCarriedOut, judge: snippet(), Text: "configures nginx"},
		{Names: "location-snippets", Effect: Restricts, Loses: notCarriedOut, judge: snippet(), Text: "configures nginx"},
		{Names: "proxy-set-headers", Effect: Restricts, judge: unlessEmpty(), Text: headers},
		{Names: "redirect-to-https", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "app-protect-enable app-protect-dos-resource", Effect: Restricts, judge: unlessOff(), Text: inspects},
		{Names: "app-protect-*", Effect: Harmless, Text: noEffect},
		{Names: "proxy-hide-headers proxy-pass-headers proxy-connect-timeout proxy-read-timeout proxy-send-timeout proxy-buffering proxy-buffers proxy-buffer-size proxy-busy-buffers-size proxy-max-temp-file-size proxy-next-upstream* client-body-buffer-size server-tokens hsts* keepalive keepalive-* lb-method fail-timeout max-fails max-conns upstream-zone-size grpc-services websocket-services ssl-services rewrites rewrite-target mergeable-ingress-type path-regex listen-ports listen-ports-ssl use-cluster-ip add-header http-redirect-code app-root ssl-ciphers ssl-prefer-server-ciphers sticky-cookie-services health-checks health-checks-* slow-start", Effect: Harmless, Text: answers},
	}}
}

func traefik() Controller {
	return Controller{Name: "Traefik", Prefixes: []string{"traefik.ingress.kubernetes.io/", "ingress.kubernetes.io/"}, Rows: []Row{
		{Names: "router.middlewares", Effect: Restricts, judge: unlessEmpty(), Text: "may do anything that a Middleware can: logins, ranges, limits"},
		{Names: "router.tls", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "router.tls.options", Effect: Restricts, judge: unlessEmpty(), Text: "may want certificates of clients"},
		{Names: "router.entrypoints frontend-entry-points", Effect: Restricts, judge: only("web", "websecure", "http", "https"), https: []string{"websecure", "https"},
			Text: "serves at some ports only. `web`, `websecure`, `http` and `https` are ours; without `web` and `http`, plain requests are redirected"},
		{Names: "router.pathmatcher", Effect: Restricts, judge: unless("PathPrefix"), Text: "takes only some of the paths below one: set `pathType`"},
		{Names: "rule-type", Effect: Restricts, judge: unless("PathPrefix", "PathPrefixStrip"), Text: "takes only some of the paths below one: set `pathType`"},
		{Names: "router.tls.certresolver router.tls.domains.* router.priority router.observability.* router.ruleSyntax router.rulesyntax", Effect: Harmless, Text: elsewhere},
		{Names: "auth-type auth-secret", Effect: Restricts, Text: login},
		{Names: "auth-url", Effect: Restricts, Text: "asks a server whether a request may pass"},
		{Names: "auth-tls-insecure auth-response-headers auth-trust-headers auth-realm auth-remove-header auth-header-field auth-tls-secret auth-tls-ca", Effect: Harmless, Text: "a detail of `auth-type`"},
		{Names: "whitelist-source-range whitelist-x-forwarded-for", Effect: Restricts, judge: unlessEmpty(), Text: ranges},
		{Names: "rate-limit", Effect: Restricts, judge: unlessEmpty(), Text: rate},
		{Names: "max-conn-amount", Effect: Restricts, judge: unlessZero(), Text: rate},
		{Names: "pass-client-tls-cert", Effect: Restricts, judge: unlessOff(), Text: clientTLS},
		{Names: "custom-request-headers", Effect: Restricts, judge: unlessEmpty(), Text: headers},
		{Names: "ssl-redirect ssl-force", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "redirect-entry-point", Effect: HTTPSOnly, judge: when("https", "websecure"), Text: plainHTTP},
		{Names: "allowed-hosts", Effect: Restricts, judge: unlessEmpty(), Text: narrower},
		{Names: "max-conn-extractor-func app-root affinity session-cookie-name load-balancer-method circuit-breaker-expression buffering error-pages preserve-host priority redirect-permanent redirect-regex redirect-replacement request-modifier rewrite-target service-weights custom-response-headers protocol service.* responseforwarding-flushinterval", Effect: Harmless, Text: answers},
	}}
}

func contour() Controller {
	return Controller{Name: "Contour", Prefixes: []string{"projectcontour.io/", "contour.heptio.com/"}, Rows: []Row{
		{Names: "tls-minimum-protocol-version tls-maximum-protocol-version", Effect: Harmless, Text: "TLS is 1.2 or later here"},
		{Names: "ingress.class", Effect: Harmless, Text: "`spec.ingressClassName` says whose an Ingress is"},
		{Names: "num-retries per-try-timeout request-timeout response-timeout retry-on websocket-routes tls-cert-namespace upstream-protocol.*", Effect: Harmless, Text: answers},
		{Names: "max-connections max-pending-requests max-requests max-retries per-host-max-connections", Effect: Harmless, Text: "is for Services"},
	}}
}

func haproxyTech() Controller {
	return Controller{Name: "HAProxy (haproxy.org)", Services: true, Prefixes: []string{"haproxy.org/", "haproxy.com/", "ingress.kubernetes.io/"}, Rows: []Row{
		{Names: "auth-type auth-secret", Effect: Restricts, Text: login},
		{Names: "auth-realm", Effect: Harmless, Text: "a detail of `auth-type`"},
		{Names: "blacklist deny-list whitelist allow-list", Effect: Restricts, judge: unlessEmpty(), Text: ranges},
		{Names: "rate-limit-requests", Effect: Restricts, judge: unlessZero(), Text: rate},
		{Names: "rate-limit-period rate-limit-size rate-limit-status-code rate-limit-whitelist", Effect: Harmless, Text: "a detail of `rate-limit-requests`"},
		{Names: "backend-config-snippet frontend-config-snippet global-config-snippet stats-config-snippet", Effect: Restricts, judge: otherConfiguration(), Text: "configures HAProxy"},
		{Names: "client-ca client-crt-optional client-strict-sni", Effect: Restricts, judge: unlessOff(), Text: clientTLS},
		{Names: "server-ca", Effect: Restricts, Text: serverTLS},
		{Names: "request-set-header", Effect: Restricts, judge: unlessEmpty(), Text: headers},
		{Names: "route-acl", Effect: Restricts, judge: unlessEmpty(), Text: narrower},
		{Names: "ssl-passthrough", Effect: Restricts, HostWide: true, judge: unlessOff(), Text: "leaves TLS to the endpoint, with its certificate and what it asks of clients"},
		{Names: "src-ip-header", Effect: Restricts, judge: unless("null"), Text: "says who the client is: `--ingress-trusted-proxies` does that here"},
		{Names: "ssl-redirect", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "check* cookie-persistence* cors-* dontlognull forwarded-for hard-stop-after http-* load-balance log-format* logasap maxconn nbthread path-rewrite pod-maxconn proxy-protocol quic-alt-svc-max-age request-capture* request-redirect* response-set-header send-proxy-protocol server-crt server-proto server-ssl set-host scale-server-slots ssl-certificate ssl-redirect-code ssl-redirect-port syslog-server standalone-backend timeout-* tls-alpn clean-certs generate-certificates-* cr-backend", Effect: Harmless, Text: answers},
	}}
}

func haproxyIngress() Controller {
	return Controller{Name: "HAProxy Ingress", Services: true, Prefixes: []string{"haproxy-ingress.github.io/", "ingress.kubernetes.io/"}, Rows: []Row{
		{Names: "auth-secret auth-type", Effect: Restricts, Text: login},
		{Names: "auth-url auth-signin auth-external-placement oauth", Effect: Restricts, judge: unlessOff(), Text: "asks a server whether a request may pass"},
		{Names: "auth-realm auth-headers-* auth-method auth-headers auth-log-format auth-proxy oauth-headers oauth-uri-prefix auth-tls-cert-header auth-tls-error-page", Effect: Harmless, Text: noEffect},
		{Names: "auth-tls-secret", Effect: Restricts, HostWide: true, judge: unlessAlso(judge{}, "auth-tls-verify-client", "off", "optional_no_ca"), Text: clientTLS},
		{Names: "auth-tls-verify-client", Effect: Restricts, HostWide: true, judge: unless("off", "optional_no_ca"), Text: clientTLS},
		{Names: "auth-tls-strict", Effect: Restricts, HostWide: true, judge: unlessOff(), Text: clientTLS},
		{Names: "allowlist-source-range whitelist-source-range denylist-source-range allowlist-source-header whitelist-x-forwarded-for", Effect: Restricts, judge: unlessEmpty(), Text: ranges},
		{Names: "limit-connections limit-rps", Effect: Restricts, judge: unlessZero(), Text: rate},
		{Names: "limit-whitelist", Effect: Harmless, Text: "clients without limits"},
		{Names: "proxy-body-size", Effect: Restricts, judge: unless("", "0", "unlimited"), Text: "bounds request bodies"},
		{Names: "waf", Effect: Restricts, judge: unlessAlso(unlessOff(), "waf-mode", "detect"), Text: inspects},
		{Names: "waf-mode", Effect: Harmless, Text: "a detail of `waf`"},
		{Names: "config-backend config-backend-early config-backend-late config-frontend* config-global config-defaults", Effect: Restricts, judge: otherConfiguration(), Text: "configures HAProxy"},
		{Names: "headers", Effect: Restricts, judge: unlessEmpty(), Text: headers},
		{Names: "http-header-match http-header-match-regex", Effect: Restricts, judge: unlessEmpty(), Text: narrower},
		{Names: "path-type", Effect: Restricts, judge: unless("begin", "prefix"), Text: "takes only some of the paths below one: set `pathType`"},
		{Names: "secure-verify-ca-secret secure-verify-hostname", Effect: Restricts, judge: unlessEmpty(), Text: serverTLS},
		{Names: "ssl-passthrough", Effect: Restricts, HostWide: true, judge: unlessOff(), Text: "leaves TLS to the endpoint, with its certificate and what it asks of clients"},
		{Names: "source-address-intf", Effect: Harmless, Text: answers},
		{Names: "ssl-redirect force-ssl-redirect", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "ssl-passthrough-http-port ssl-redirect-code ssl-always-add-https app-root affinity agent-check-* backend-* balance-algorithm blue-green-* cert-signer acme-* cors-* dynamic-scaling fcgi-* fronting-proxy-port health-check-* hsts hsts-* initial-weight maxconn-server maxqueue-server path-type-order proxy-protocol redirect-* rewrite-target secure-backends secure-crt-secret secure-sni server-alias server-alias-regex service-upstream session-cookie-* slots-* ssl-cipher* ssl-fingerprint-* ssl-options-* tcp-service-* config-tcp-service* timeout-* tls-alpn use-resolver var-namespace", Effect: Harmless, Text: answers},
	}}
}

func kong() Controller {
	return Controller{Name: "Kong", Services: true, Prefixes: []string{"konghq.com/", "ingress.kubernetes.io/"}, Rows: []Row{
		{Names: "plugins", Effect: Restricts, judge: unlessEmpty(), Text: "may do anything that a KongPlugin can: logins, ranges, limits"},
		{Names: "override", Effect: Restricts, judge: unlessEmpty(), Text: "may do anything that a KongIngress can"},
		{Names: "methods headers.* snis", Effect: Restricts, judge: unlessEmpty(), Text: narrower},
		{Names: "tls-verify", Effect: Restricts, judge: unlessOff(), Text: serverTLS},
		{Names: "ca-certificates-secrets ca-certificates-configmaps", Effect: Restricts, judge: unlessEmpty(), Text: serverTLS},
		{Names: "protocols", Effect: HTTPSOnly, judge: whenEvery("https", "grpcs", "tls"), Text: plainHTTP},
		{Names: "client-cert connect-timeout headers-separator host-aliases host-header https-redirect-status-code path path-handling preserve-host protocol read-timeout regex-prefix regex-priority request-buffering response-buffering retries rewrite strip-path tags tls-verify-depth upstream-policy write-timeout", Effect: Harmless, Text: answers},
	}}
}
