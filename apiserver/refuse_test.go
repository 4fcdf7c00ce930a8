package apiserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// TestRefusing asks in every way while there is room, no room, and no store.
func TestRefusing(t *testing.T) {
	const me = "kubernetes-admin"
	tests := []struct {
		name, method, url, by string
		full, down            int // the code without space and without a store
	}{
		{"create", "POST", "/api/v1/namespaces/default/configmaps", me, 507, 503},
		{"update", "PUT", "/api/v1/namespaces/default/configmaps/a", me, 507, 503},
		{"patch", "PATCH", "/apis/apps/v1/namespaces/default/deployments/a", me, 507, 503},
		{"status", "PUT", "/apis/apps/v1/namespaces/default/deployments/a/status", me, 507, 503},
		{"delete", "DELETE", "/api/v1/namespaces/default/configmaps/a", me, 200, 503},
		{"delete all", "DELETE", "/api/v1/namespaces/default/configmaps", me, 200, 503},
		{"evict", "POST", "/api/v1/namespaces/default/pods/a/eviction", me, 200, 503},
		{"scale", "PATCH", "/apis/apps/v1/namespaces/default/deployments/a/scale", me, 200, 503},
		{"get", "GET", "/api/v1/namespaces/default/configmaps/a", me, 200, 200},
		{"list", "GET", "/api/v1/configmaps", me, 200, 200},
		{"watch", "GET", "/api/v1/configmaps?watch=1", me, 200, 200},
		{"a question", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", me, 200, 200},
		{"no object", "GET", "/readyz", me, 200, 200},
		{"exec", "POST", "/api/v1/namespaces/default/pods/a/exec", me, 200, 503},
		{"a controller", "POST", "/api/v1/namespaces/default/pods", user.APIServerUser, 200, 503},
		{"a lease", "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node", user.APIServerUser, 200, 503},
		{"an event", "POST", "/apis/events.k8s.io/v1/namespaces/default/events", user.APIServerUser, 507, 503},
	}
	var fullErr, downErr error
	var seen *http.Request
	h := refusing(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }),
		func() error { return fullErr }, func() error { return downErr })
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	ask := func(t *testing.T, method, url, by string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, url, nil)
		info, err := infos.NewRequestInfo(r)
		if err != nil {
			t.Fatal(err)
		}
		ctx := request.WithUser(request.WithRequestInfo(r.Context(), info), &user.DefaultInfo{Name: by})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(ctx))
		return w
	}
	for _, tt := range tests {
		fullErr, downErr = nil, nil
		if w := ask(t, tt.method, tt.url, tt.by); w.Code != 200 {
			t.Errorf("%s with room: %d", tt.name, w.Code)
		}
		fullErr = errors.New("the disk of /data is full: make room there")
		w := ask(t, tt.method, tt.url, tt.by)
		if w.Code != tt.full {
			t.Errorf("%s without room: %d, want %d", tt.name, w.Code, tt.full)
		}
		if w.Code == http.StatusInsufficientStorage {
			var status metav1.Status
			if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || status.Reason != reasonFull || !strings.Contains(status.Message, "make room") {
				t.Errorf("%s: %v: %s", tt.name, err, w.Body)
			}
			if w.Header().Get("Retry-After") != "" {
				t.Errorf("%s: clients try again by themselves", tt.name)
			}
		}
		downErr = errors.New("no space left on device")
		if w := ask(t, tt.method, tt.url, tt.by); w.Code != tt.down {
			t.Errorf("%s without a store: %d, want %d", tt.name, w.Code, tt.down)
		}
		if tt.method == "GET" && strings.HasPrefix(tt.url, "/api/") && seen.URL.Query().Get("resourceVersion") != "0" {
			t.Errorf("%s without a store is not read from the cache: %s", tt.name, seen.URL)
		}
	}
	if ask(t, "GET", "/api/v1/configmaps?resourceVersion=7", me); seen.URL.Query().Get("resourceVersion") != "7" {
		t.Errorf("a version that was asked for is changed: %s", seen.URL)
	}
}
