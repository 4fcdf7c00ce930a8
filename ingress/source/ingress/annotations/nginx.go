package annotations

// noEffect is said of details of something that is not carried out.
const noEffect = "a detail of an annotation that closes"

// notCarriedOut is said of snippets that restrict nobody.
const notCarriedOut = "there are no snippets: see request-headers and response-headers"

// noCertificate is said where a client may have a certificate and need not.
const noCertificate = "no client is asked for a certificate, and endpoints hear of none"

// clientCertificateHeaders are how ingress-nginx tells endpoints about the certificate of a client, in both spellings
// that gateways of scripting languages take for the same.
var clientCertificateHeaders = []string{
	"Ssl-Client-Verify", "Ssl-Client-Subject-Dn", "Ssl-Client-Issuer-Dn", "Ssl-Client-Cert",
	"Ssl_client_verify", "Ssl_client_subject_dn", "Ssl_client_issuer_dn", "Ssl_client_cert",
}

// ingressNginx has the names of the published list, of the older ones that are gone from it, and of ours.
func ingressNginx() Controller {
	return Controller{Name: "svcplane and ingress-nginx", Prefixes: []string{OwnPrefix, NginxPrefix},
		Rows: append(append(honouredRows(), nginxRestricts()...), nginxHarmless()...)}
}

func honouredRows() []Row {
	return []Row{
		{Names: "ssl-redirect", Values: "bool", Text: "308 to https, if the Ingress has `spec.tls`. Off unless set (ingress-nginx: on)"},
		{Names: "force-ssl-redirect", Values: "bool", Text: "the same, with or without `spec.tls`"},
		{Names: "permanent-redirect permanent-redirect-code", Values: "URL or path, 301–308", Text: "every request is answered with it"},
		{Names: "temporal-redirect temporal-redirect-code", Values: "the same", Text: "the same with 302"},
		{Names: "app-root", Values: "path", Text: "a request for exactly `/` is sent there"},
		{Names: "rewrite-target", Values: "path", Text: "`svcplane.io/`: replaces the path of the rule, keeps the rest. `nginx…/`: replaces the whole path. With `$1`, `$2`, both: what the rule's path captures"},
		{Names: "use-regex", Values: "bool", Text: "paths may end in `(/\\|$)(.*)`, `/?(.*)`, `/(.*)`, `(.*)`. Other regular expressions are told by `PathUnsupported`"},
		{Names: "proxy-connect-timeout", Values: "seconds or duration", Text: "for a connection to an endpoint (3s)"},
		{Names: "proxy-read-timeout", Values: "seconds or duration", Text: "for the head of an answer (60s, none for h2c) and, only if set, between parts of its body"},
		{Names: "proxy-send-timeout", Values: "seconds or duration", Text: "for an endpoint to take the next part of a request's body (as `proxy-read-timeout`, unless set)"},
		{Names: "proxy-body-size", Closes: true, Values: "`8m`, `0`", Text: "larger bodies are answered 413. No limit unless set (ingress-nginx: 1m)"},
		{Names: "proxy-buffering proxy-request-buffering", Values: "`off`", Text: "nothing is ever buffered"},
		{Names: "backend-protocol", Values: "HTTP, HTTPS, GRPC, GRPCS", Text: "what endpoints speak, whatever `appProtocol` says"},
		{Names: "load-balance", Values: "`round_robin`; ours: `least-requests`", Text: "least-requests takes the less busy of two"},
		{Names: "upstream-hash-by", Values: "`$request_uri`, `$uri`, `$host`, `$remote_addr`, `$http_NAME`, `$cookie_NAME`, `$arg_NAME`, or `uri`, `path`, `host`, `client`, `header:NAME`, `cookie:NAME`, `query:NAME`", Text: "the same value goes to the same endpoint (rendezvous hashing)"},
		{Names: "upstream-vhost", Values: "host", Text: "the Host that endpoints see"},
		{Names: "affinity session-cookie-name session-cookie-path session-cookie-domain session-cookie-max-age session-cookie-expires session-cookie-secure session-cookie-samesite", Values: "`cookie`, …", Text: "keeps a client with an endpoint; always HttpOnly, and names no address"},
		{Names: "canary canary-weight canary-weight-total canary-by-header canary-by-header-value canary-by-header-pattern canary-by-cookie", Text: "takes a part of the requests of the Ingress with the same host, path and path type: header first, then cookie, then weight. What that Ingress asks of requests, it asks of these, too"},
		{Names: "enable-cors cors-allow-origin cors-allow-methods cors-allow-headers cors-allow-credentials cors-expose-headers cors-max-age", Text: "answers preflight requests and sets the headers. `*` never goes with credentials"},
		{Names: "whitelist-source-range allowlist-source-range", Closes: true, Values: "ranges", Text: "only these clients; others are answered 403"},
		{Names: "denylist-source-range", Closes: true, Values: "ranges", Text: "not these clients"},
		{Names: "limit-rps limit-rpm limit-burst-multiplier", Closes: true, Values: "number", Text: "requests of one client (a /64 of IPv6); more are answered 429 with Retry-After (ingress-nginx: 503). Bursts of 5 times that"},
		{Names: "limit-connections", Closes: true, Values: "number", Text: "requests of one client at the same time"},
		{Names: "limit-whitelist limit-allowlist", Closes: true, Values: "ranges", Text: "clients without limits"},
		{Names: "auth-type auth-secret auth-secret-type", Closes: true, Values: "`basic`, name, `auth-file`", Text: "asks for a name and password in the key `auth` of a Secret of the same namespace: bcrypt, apr1 or SHA (`htpasswd`). Endpoints do not see the password"},
		{Names: "auth-realm", Values: "text", Text: "what the client is told to log in to"},
		{Names: "x-forwarded-prefix", Values: "text", Text: "sets that header"},
		{Names: "request-headers response-headers", Own: true, Values: "lines of `Name: value`", Text: "sets headers; without a value, removes them"},
	}
}

func nginxRestricts() []Row {
	verify := []string{"off", "optional_no_ca"}
	noWAF := []string{"false", "off"}
	return []Row{
		{Names: "auth-url", Effect: Restricts, Text: "asks a server whether a request may pass"},
		{Names: "auth-signin", Effect: Restricts, Text: "sends away who is not signed in"},
		{Names: "auth-snippet", Effect: Restricts, Text: "configures the question whether a request may pass", Loses: notCarriedOut, judge: snippet()},
		{Names: "enable-global-auth", Effect: Restricts, Text: "asks the controller's own server whether a request may pass", judge: unlessOff()},
		{Names: "auth-tls-secret auth-tls-match-cn", Effect: Restricts, HostWide: true, Strip: clientCertificateHeaders, Loses: noCertificate, judge: unlessAlso(judge{}, "auth-tls-verify-client", verify...),
			Text: "wants certificates of clients. Not with `auth-tls-verify-client: optional_no_ca`, which lets everybody in: endpoints see no certificate then"},
		{Names: "auth-tls-verify-client", Effect: Restricts, HostWide: true, Strip: clientCertificateHeaders, Loses: noCertificate, judge: unless(verify...), Text: "wants certificates of clients, or refuses wrong ones (`optional`)"},
		{Names: "auth-tls-strict", Effect: Restricts, HostWide: true, judge: unlessOff(), Text: "refuses clients while the authority of their certificates is missing"},
		{Names: "enable-modsecurity", Effect: Restricts, judge: unlessOff(), Text: "inspects requests and refuses some"},
		{Names: "enable-owasp-core-rules enable-owasp-modsecurity-crs", Effect: Restricts, judge: unlessAlso(unlessOff(), "enable-modsecurity", noWAF...), Text: "inspects requests and refuses some"},
		{Names: "modsecurity-snippet", Effect: Restricts, judge: unlessAlso(otherConfiguration(), "enable-modsecurity", noWAF...), Text: "inspects requests and refuses some"},
		{Names: "lua-resty-waf", Effect: Restricts, judge: unless("inactive", "simulate", "false"), Text: "inspects requests and refuses some"},
		{Names: "lua-resty-waf-extra-rules", Effect: Restricts, judge: unlessAlso(unlessEmpty(), "lua-resty-waf", "inactive", "simulate", "false"), Text: "refuses some requests"},
		{Names: "global-rate-limit", Effect: Restricts, judge: unlessZero(), Text: "bounds the requests of all clients together, or by a key"},
		{Names: "configuration-snippet", Effect: Restricts, Loses: notCarriedOut, judge: snippet(), Text: "configures nginx"},
		{Names: "server-snippet", Effect: Restricts, HostWide: true, Loses: notCarriedOut, judge: snippet(), Text: "configures nginx"},
		{Names: "stream-snippet", Effect: Restricts, Loses: notCarriedOut, judge: snippet(), Text: "configures nginx"},
		{Names: "ssl-passthrough", Effect: Restricts, HostWide: true, judge: unlessOff(), Text: "leaves TLS to the endpoint, with its certificate and what it asks of clients"},
		{Names: "proxy-ssl-verify", Effect: Restricts, judge: unlessOff(), Text: "sends nothing to an endpoint whose certificate is wrong"},
		{Names: "secure-verify-ca-secret", Effect: Restricts, Text: "sends nothing to an endpoint whose certificate is wrong"},
		{Names: "block-cidrs block-user-agents block-referers", Effect: Restricts, judge: unlessEmpty(), Text: "refuses some clients"},
		{Names: "blacklist-source-range", Effect: Restricts, judge: unlessEmpty(), Text: "refuses some clients: it is `denylist-source-range` here"},
		{Names: "whitelist-x-forwarded-for", Effect: Restricts, judge: unlessOff(), Text: "says whom a list of clients is about: `--ingress-trusted-proxies` does that here"},
	}
}

func nginxHarmless() []Row {
	return []Row{
		{Names: "auth-method auth-always-set-cookie auth-cache-duration auth-cache-key auth-keepalive auth-keepalive-requests auth-keepalive-share-vars auth-keepalive-timeout auth-proxy-set-headers auth-request-redirect auth-response-headers auth-signin-redirect-param", Effect: Harmless, Text: "a detail of `auth-url`"},
		{Names: "auth-tls-error-page auth-tls-pass-certificate-to-upstream auth-tls-verify-depth", Effect: Harmless, Strip: clientCertificateHeaders, Text: "a detail of `auth-tls-secret`"},
		{Names: "modsecurity-transaction-id lua-resty-waf-debug lua-resty-waf-ignore-rulesets lua-resty-waf-score-threshold lua-resty-waf-allow-unknown-content-types lua-resty-waf-process-multipart-body global-rate-limit-window global-rate-limit-key global-rate-limit-ignored-cidrs", Effect: Harmless, Text: noEffect},
		{Names: "satisfy", Effect: Harmless, Text: "every condition has to hold here, which is the stricter one"},
		{Names: "limit-rate limit-rate-after", Effect: Harmless, Text: "slows answers, and lets everybody in"},
		{Names: "ssl-ciphers ssl-prefer-server-ciphers", Effect: Harmless, Text: "TLS is 1.2 or later here, with ciphers that nothing is known against"},
		{Names: "proxy-ssl-secret proxy-ssl-ciphers proxy-ssl-name proxy-ssl-protocols proxy-ssl-server-name proxy-ssl-verify-depth secure-backends secure-crt-secret secure-sni", Effect: Harmless, Text: "how endpoints are spoken to: they may refuse requests without it"},
		{Names: "server-alias", Effect: Harmless, Text: "further hosts, which are answered 404: add rules"},
		{Names: "from-to-www-redirect preserve-trailing-slash use-port-in-redirects proxy-redirect-from proxy-redirect-to", Effect: Harmless, Text: "redirects"},
		{Names: "custom-headers custom-http-errors disable-proxy-intercept-errors default-backend http2-push-preload proxy-cookie-domain proxy-cookie-path", Effect: Harmless, Text: "changes answers: `response-headers` sets headers"},
		{Names: "connection-proxy-header client-body-buffer-size proxy-buffer-size proxy-buffers-number proxy-busy-buffers-size proxy-http-version proxy-max-temp-file-size proxy-next-upstream proxy-next-upstream-timeout proxy-next-upstream-tries", Effect: Harmless, Text: "how nginx speaks to endpoints"},
		{Names: "fastcgi-index fastcgi-params-configmap grpc-backend", Effect: Harmless, Text: "for protocols that are not spoken here, or by another name"},
		{Names: "mirror-host mirror-request-body mirror-target mirror-uri", Effect: Harmless, Text: "sends copies of requests elsewhere"},
		{Names: "affinity-mode affinity-canary-behavior session-cookie-change-on-failure session-cookie-conditional-samesite-none session-cookie-partitioned session-cookie-hash upstream-hash-by-subset upstream-hash-by-subset-size service-upstream", Effect: Harmless, Text: "how endpoints are chosen: requests always go straight to them"},
		{Names: "enable-access-log enable-rewrite-log enable-opentelemetry opentelemetry-operation-name opentelemetry-trust-incoming-span enable-opentracing opentracing-operation-name opentracing-trust-incoming-span enable-influxdb influxdb-*", Effect: Harmless, Text: "logs and traces"},
		{Names: "add-base-url base-url-scheme websocket-services configmap rewrite-log ssl-protocols service-weight", Effect: Harmless, Text: "of older or other versions; it restricts nobody"},
	}
}
