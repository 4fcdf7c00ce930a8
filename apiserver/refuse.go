package apiserver

import (
	"fmt"
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// reasonFull is the reason of the answers to what would need more space, beside 507: no client tries again by itself, as
// it would after 429 or 503, since somebody has to make room first.
const reasonFull metav1.StatusReason = "InsufficientStorage"

// refusing answers what would make the store grow with what full says. Reading, watching and deleting go on, and so does
// what this process itself writes to bring that about; only its events, which are the most and mean the least, do not.
// When the store is down, nothing is written, and what is read comes from the caches, which nothing can be newer than.
func refusing(next http.Handler, full, down func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, ok := request.RequestInfoFrom(r.Context())
		if !ok || !info.IsResourceRequest || slices.Contains(unstored, info.APIGroup) {
			next.ServeHTTP(w, r)
			return
		}
		var refusal error
		if err := down(); err != nil {
			if slices.Contains(reading, info.Verb) {
				next.ServeHTTP(w, fromCache(r))
				return
			}
			refusal = downStatus(err)
		} else if grows(info, requester(r)) {
			if err := full(); err != nil {
				refusal = fullStatus(err)
			}
		}
		if refusal == nil {
			next.ServeHTTP(w, r)
			return
		}
		gv := schema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}
		responsewriters.ErrorNegotiated(refusal, legacyscheme.Codecs, gv, w, r)
	})
}

var reading = []string{"get", "list", "watch"}

// fromCache asks for whatever is known, unless the request says which version it wants.
func fromCache(r *http.Request) *http.Request {
	query := r.URL.Query()
	if query.Get("resourceVersion") != "" || query.Get("continue") != "" {
		return r
	}
	query.Set("resourceVersion", "0")
	fresh := r.Clone(r.Context())
	fresh.URL.RawQuery = query.Encode()
	return fresh
}

func requester(r *http.Request) string {
	if u, ok := request.UserFrom(r.Context()); ok {
		return u.GetName()
	}
	return ""
}

// unstored are the groups whose objects are questions: they are answered and not kept.
var unstored = []string{"authentication.k8s.io", "authorization.k8s.io"}

// freeing are the subresources by which things go away, or which nothing is kept of.
var freeing = []string{"eviction", "finalize", "scale", "token", "exec", "attach", "portforward", "proxy", "log"}

// grows says whether a request may need more space. A lease is renewed in its place, and a node without one is lost.
func grows(info *request.RequestInfo, by string) bool {
	if !slices.Contains([]string{"create", "update", "patch"}, info.Verb) {
		return false
	}
	if slices.Contains(freeing, info.Subresource) {
		return false
	}
	return by != user.APIServerUser || info.Resource == "events"
}

// statusError is an error with an API status, which upstream's writers take as it is.
type statusError struct{ status metav1.Status }

func (e *statusError) Error() string         { return e.status.Message }
func (e *statusError) Status() metav1.Status { return e.status }

func downStatus(cause error) error {
	return &statusError{metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable,
		Message: fmt.Sprintf("the store has ended: %v; reading goes on, and writing when that is mended", cause),
	}}
}

func fullStatus(cause error) error {
	return &statusError{metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInsufficientStorage, Reason: reasonFull,
		Message: fmt.Sprintf("refused, since %v; reading and deleting go on", cause),
	}}
}
