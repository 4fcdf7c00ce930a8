package access

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// How long answers of the API are believed: the kubelet's defaults.
const (
	tokenTTL   = 2 * time.Minute
	allowedTTL = 5 * time.Minute
	deniedTTL  = 30 * time.Second
)

// reviewTimeout bounds a TokenReview.
const reviewTimeout = 10 * time.Second

// Config is what a Guard needs.
type Config struct {
	Client  kubernetes.Interface
	Node    string         // name of the Node object
	CAs     *x509.CertPool // of client certificates; nil: there are none
	Trusted []string       // common names that may do everything
}

// Guard lets requests by, or answers them.
type Guard struct {
	cfg           Config
	certs, tokens authenticator.Request // certs is nil: there are no CAs
	may           authorizer.Authorizer
}

// New makes a Guard; it asks nobody yet.
func New(cfg Config) (*Guard, error) {
	tokens, _, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		TokenAccessReviewClient: cfg.Client.AuthenticationV1(), TokenAccessReviewTimeout: reviewTimeout, CacheTTL: tokenTTL,
		WebhookRetryBackoff: options.DefaultAuthWebhookRetryBackoff(),
	}.New()
	if err != nil {
		return nil, fmt.Errorf("making what reviews bearer tokens: %w", err)
	}
	may, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: cfg.Client.AuthorizationV1(), AllowCacheTTL: allowedTTL, DenyCacheTTL: deniedTTL,
		WebhookRetryBackoff: options.DefaultAuthWebhookRetryBackoff(),
	}.New()
	if err != nil {
		return nil, fmt.Errorf("making what reviews rights: %w", err)
	}
	g := &Guard{cfg: cfg, tokens: tokens, may: may}
	if cfg.CAs != nil { // without roots those of the host would count
		verify := x509.VerifyOptions{Roots: cfg.CAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		g.certs = group.NewAuthenticatedGroupAdder(requestx509.New(verify, requestx509.CommonNameUserConversion))
	}
	return g, nil
}

// Handler puts g before next.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code, why := g.check(r); code != http.StatusOK {
			http.Error(w, why, code)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// identify says who asks, and whether a certificate says so; nil: nobody that is known.
func (g *Guard) identify(r *http.Request) (who user.Info, byCertificate bool) {
	if g.certs != nil {
		answer, ok, err := g.certs.AuthenticateRequest(r)
		if err == nil && ok {
			return answer.User, true
		}
		if err != nil {
			klog.V(4).InfoS("A client certificate is not accepted by the node's server", "from", r.RemoteAddr, "err", err)
		}
	}
	answer, ok, err := g.tokens.AuthenticateRequest(r)
	if err != nil || !ok {
		klog.V(4).InfoS("A request to the node's server is not authenticated", "from", r.RemoteAddr, "path", r.URL.Path, "err", err)
		return nil, false
	}
	return answer.User, false
}

// check gives the code of an answer, 200 to go on, and what is said with it.
func (g *Guard) check(r *http.Request) (code int, why string) {
	who, byCertificate := g.identify(r)
	if who == nil {
		return http.StatusUnauthorized, "Unauthorized: show a client certificate of the cluster's CA, or a bearer token"
	}
	name := who.GetName()
	if byCertificate && (slices.Contains(g.cfg.Trusted, name) || slices.Contains(who.GetGroups(), user.SystemPrivilegedGroup)) {
		return http.StatusOK, ""
	}
	verb, subresources := asked(r.Method, r.URL.Path)
	for _, sub := range subresources {
		decision, _, err := g.may.Authorize(r.Context(), authorizer.AttributesRecord{
			User: who, Verb: verb, APIVersion: "v1", Resource: "nodes", Subresource: sub, Name: g.cfg.Node,
			ResourceRequest: true, Path: r.URL.Path,
		})
		if err != nil {
			klog.ErrorS(err, "Asking the API what a caller of the node's server may do", "user", name, "path", r.URL.Path)
			return http.StatusInternalServerError, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)", name, verb, sub)
		}
		if decision == authorizer.DecisionAllow {
			return http.StatusOK, ""
		}
	}
	return http.StatusForbidden, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", name, verb, subresources)
}

// verbs are those of the API, by method.
var verbs = map[string]string{
	http.MethodPost: "create", http.MethodGet: "get", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

// finer are the subresources that a right may be for instead of proxy (KEP-2862), by what the path begins with; alone says that
// proxy does not do.
var finer = []struct {
	path, subresource string
	alone             bool
}{
	{"/stats", "stats", true}, {"/metrics", "metrics", true}, {"/logs", "log", true}, {"/checkpoint", "checkpoint", true},
	{"/statusz", "statusz", true}, {"/flagz", "configz", true},
	{"/pods", "pods", false}, {"/runningpods", "pods", false}, {"/healthz", "healthz", false}, {"/configz", "configz", false},
}

// asked says which right a request needs: the verb on any of the subresources of the node.
func asked(method, path string) (verb string, subresources []string) {
	verb = verbs[method]
	for _, f := range finer {
		if path == f.path || strings.HasPrefix(path, f.path+"/") {
			if f.alone {
				return verb, []string{f.subresource}
			}
			return verb, []string{f.subresource, "proxy"}
		}
	}
	for _, runs := range []string{"/exec/", "/attach/", "/portForward/", "/run/"} {
		if strings.HasPrefix(path, runs) {
			verb = "create"
		}
	}
	return verb, []string{"proxy"}
}
