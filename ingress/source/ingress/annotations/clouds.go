package annotations

func aws() Controller {
	return Controller{Name: "AWS Load Balancer Controller", Services: true, Prefixes: []string{"alb.ingress.kubernetes.io/"}, Rows: []Row{
		{Names: "auth-type", Effect: Restricts, judge: unless("none"), Text: login},
		{Names: "auth-idp-cognito auth-idp-oidc", Effect: Restricts, judge: unlessAlso(judge{}, "auth-type", "none"), Text: login},
		{Names: "auth-on-unauthenticated-request auth-scope auth-session-cookie auth-session-timeout", Effect: Harmless, Text: "a detail of `auth-type`"},
		{Names: "jwt-validation", Effect: Restricts, Text: login},
		{Names: "inbound-cidrs", Effect: Restricts, judge: only("0.0.0.0/0", "::/0"), Text: ranges},
		{Names: "security-groups security-group-prefix-lists", Effect: Restricts, Text: ranges},
		{Names: "scheme", Effect: Restricts, judge: unless("internet-facing"), Text: "keeps the internet out (`internal`): what reaches this machine, reaches its ingress"},
		{Names: "wafv2-acl-arn wafv2-acl-name waf-acl-id web-acl-id", Effect: Restricts, judge: unless("none", ""), Text: inspects},
		{Names: "shield-advanced-protection", Effect: Harmless, Text: elsewhere},
		{Names: "mutual-authentication", Effect: Restricts, Text: clientTLS},
		{Names: "conditions.*", Effect: Restricts, Text: narrower},
		{Names: "actions.*", Effect: Restricts, Text: "answers in place of a Service, may ask for a login"},
		{Names: "ssl-redirect", Effect: HTTPSOnly, Text: plainHTTP},
		{Names: "listen-ports", Effect: Harmless, Text: elsewhere},
		{Names: "manage-backend-security-group-rules load-balancer-* group.* tags ip-address-type subnets customer-owned-ipv4-pool ipam-ipv4-pool-id certificate-arn ssl-policy target-* backend-protocol* healthcheck-* healthy-threshold-count unhealthy-threshold-count success-codes minimum-load-balancer-capacity multi-cluster-target-group enable-* use-regex-path-match transforms.* frontend-nlb-*", Effect: Harmless, Text: elsewhere},
	}}
}

// gce has names of several prefixes; some stand for whole keys.
func gce() Controller {
	return Controller{Name: "GKE Ingress", Services: true, Prefixes: []string{"kubernetes.io/ingress.", "ingress.gcp.kubernetes.io/", "networking.gke.io/", "cloud.google.com/", "beta.cloud.google.com/"}, Rows: []Row{
		{Names: "allow-http", Effect: HTTPSOnly, judge: when("false"), Text: plainHTTP},
		{Names: "v1beta1.FrontendConfig", Effect: Harmless, Text: elsewhere},
		{Names: "backend-config", Effect: Restricts, judge: unlessEmpty(), Text: "may ask for a login (IAP) or let only some clients in (Cloud Armor)"},
		{Names: "internal-*", Effect: Harmless, Text: elsewhere},
		{Names: "global-static-ip-name regional-static-ip-name pre-shared-cert suppress-firewall-xpn-error managed-certificates backends neg neg-status app-protocols service-upstream static-ip", Effect: Harmless, Text: elsewhere},
	}}
}

func azure() Controller {
	return Controller{Name: "Application Gateway", Prefixes: []string{"appgw.ingress.kubernetes.io/"}, Rows: []Row{
		{Names: "waf-policy-for-path", Effect: Restricts, judge: unlessEmpty(), Text: inspects},
		{Names: "appgw-ssl-profile", Effect: Restricts, judge: unlessEmpty(), Text: clientTLS},
		{Names: "appgw-trusted-root-certificate", Effect: Restricts, judge: unlessEmpty(), Text: serverTLS},
		{Names: "use-private-ip", Effect: Restricts, judge: unlessOff(), Text: "keeps the internet out: what reaches this machine, reaches its ingress"},
		{Names: "rewrite-rule-set rewrite-rule-set-custom-resource", Effect: Restricts, judge: unlessEmpty(), Text: headers},
		{Names: "ssl-redirect", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "appgw-ssl-certificate backend-hostname backend-path-prefix backend-protocol connection-draining* cookie-based-affinity* health-probe-* hostname-extension override-frontend-port request-timeout rule-priority", Effect: Harmless, Text: elsewhere},
	}}
}

func apisix() Controller {
	return Controller{Name: "APISIX", Prefixes: []string{"k8s.apisix.apache.org/"}, Rows: []Row{
		{Names: "auth-uri auth-type", Effect: Restricts, Text: login},
		{Names: "auth-ssl-verify auth-request-headers auth-upstream-headers auth-client-headers csrf-key", Effect: Harmless, Text: noEffect},
		{Names: "allowlist-source-range blocklist-source-range", Effect: Restricts, judge: unlessEmpty(), Text: ranges},
		{Names: "http-allow-methods http-block-methods http-block-method", Effect: Restricts, judge: unlessEmpty(), Text: narrower},
		{Names: "enable-csrf", Effect: Restricts, judge: unlessOff(), Text: inspects},
		{Names: "plugin-config-name", Effect: Restricts, judge: unlessEmpty(), Text: "may do anything that a plugin can: logins, ranges, limits"},
		{Names: "http-to-https", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "cors-* enable-cors enable-response-rewrite response-rewrite-* enable-websocket http-redirect http-redirect-code rewrite-target* svc-namespace upstream-* use-regex", Effect: Harmless, Text: answers},
	}}
}

func higress() Controller {
	rows := nginxRestricts()
	return Controller{Name: "Higress", Prefixes: []string{"higress.io/", "mse.ingress.kubernetes.io/"}, Rows: append(rows,
		Row{Names: "auth-type auth-secret", Effect: Restricts, Text: login},
		Row{Names: "whitelist-source-range domain-whitelist-source-range domain-blacklist-source-range", Effect: Restricts, judge: unlessEmpty(), Text: ranges},
		Row{Names: "route-limit-rpm route-limit-rps", Effect: Restricts, judge: unlessZero(), Text: rate},
		Row{Names: "match-method match-header-* match-query-* exact-match-header-* prefix-match-header-* regex-match-header-*", Effect: Restricts, Text: narrower},
		Row{Names: "request-header-control-*", Effect: Restricts, judge: unlessEmpty(), Text: headers},
		Row{Names: "ssl-redirect force-ssl-redirect", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
	)}
}

func voyager() Controller {
	return Controller{Name: "Voyager", Prefixes: []string{"ingress.appscode.com/"}, Rows: []Row{
		{Names: "auth-type auth-secret", Effect: Restricts, Text: login},
		{Names: "auth-realm auth-tls-error-page", Effect: Harmless, Text: noEffect},
		{Names: "auth-tls-secret auth-tls-verify-client", Effect: Restricts, Text: clientTLS},
		{Names: "whitelist-source-range", Effect: Restricts, judge: unlessEmpty(), Text: ranges},
		{Names: "limit-connection limit-rps limit-rpm", Effect: Restricts, judge: unlessZero(), Text: rate},
		{Names: "ssl-redirect force-ssl-redirect", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
	}}
}

func openshift() Controller {
	return Controller{Name: "OpenShift router", Prefixes: []string{"haproxy.router.openshift.io/", "route.openshift.io/"}, Rows: []Row{
		{Names: "ip_whitelist ip_allowlist", Effect: Restricts, judge: unlessEmpty(), Text: ranges},
		{Names: "rate-limit-connections", Effect: Restricts, judge: unlessOff(), Text: rate},
		{Names: "rate-limit-connections.* pod-concurrent-connections", Effect: Harmless, Text: "a detail of `rate-limit-connections`"},
		{Names: "termination", Effect: Restricts, judge: unless("edge"), Text: "leaves TLS to the endpoint, or encrypts what is sent to it"},
		{Names: "destination-ca-certificate-secret", Effect: Restricts, judge: unlessEmpty(), Text: serverTLS},
		{Names: "balance cookie-same-site cookie_name disable_cookies hsts_header log-send-hostname rewrite-target set-forwarded-headers timeout timeout-tunnel", Effect: Harmless, Text: answers},
	}}
}

func skipper() Controller {
	return Controller{Name: "Skipper", Prefixes: []string{"zalando.org/"}, Rows: []Row{
		{Names: "skipper-filter", Effect: Restricts, judge: unlessEmpty(), Text: "may do anything that a filter can: logins, ranges, limits"},
		{Names: "skipper-predicate skipper-routes", Effect: Restricts, judge: unlessEmpty(), Text: narrower},
		{Names: "ratelimit", Effect: Restricts, judge: unlessEmpty(), Text: rate},
		{Names: "skipper-ingress-redirect", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "skipper-ingress-redirect-code skipper-ingress-path-mode skipper-loadbalancer skipper-backend-protocol skipper-ingress-backend aws-*", Effect: Harmless, Text: answers},
	}}
}

func cilium() Controller {
	return Controller{Name: "Cilium", Prefixes: []string{"ingress.cilium.io/"}, Rows: []Row{
		{Names: "tls-passthrough", Effect: Restricts, HostWide: true, judge: unlessOff(), Text: "leaves TLS to the endpoint, with its certificate and what it asks of clients"},
		{Names: "force-https", Effect: HTTPSOnly, judge: unlessOff(), Text: plainHTTP},
		{Names: "host-listener-port insecure-node-port loadbalancer-mode loadbalancer-class service-type secure-node-port request-timeout tcp-keep-alive*", Effect: Harmless, Text: elsewhere},
	}}
}

func pomerium() Controller {
	return Controller{Name: "Pomerium", Prefixes: []string{"ingress.pomerium.io/"}, Rows: []Row{
		{Names: "policy allowed_users allowed_groups allowed_domains allowed_idp_claims", Effect: Restricts, judge: unlessEmpty(), Text: login},
		{Names: "allow_any_authenticated_user", Effect: Restricts, judge: unlessOff(), Text: login},
		{Names: "tls_downstream_client_ca_secret", Effect: Restricts, judge: unlessEmpty(), Text: clientTLS},
		{Names: "tls_custom_ca_secret tls_server_name", Effect: Restricts, judge: unlessEmpty(), Text: serverTLS},
		{Names: "set_request_headers set_request_headers_secret", Effect: Restricts, judge: unlessEmpty(), Text: headers},
		{Names: "allow_public_unauthenticated_access allow_websockets allow_spdy cors_allow_preflight pass_identity_headers preserve_host_header timeout idle_timeout name lb_config", Effect: Harmless, Text: answers},
	}}
}
