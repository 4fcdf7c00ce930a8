package accesstest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// API knows one token, and what its owner may do.
type API struct {
	Token, User, Node string
	May               []string // "get nodes/metrics"
	Reviews           atomic.Int32
}

// Client serves a until the test ends.
func (a *API) Client(t testing.TB) kubernetes.Interface {
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// ServeHTTP answers reviews.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.Reviews.Add(1)
	var review any
	var err error
	if strings.HasSuffix(r.URL.Path, "/tokenreviews") {
		var token authenticationv1.TokenReview
		err = json.NewDecoder(r.Body).Decode(&token)
		token.Status.Authenticated = token.Spec.Token == a.Token
		token.Status.User.Username = a.User
		review = token
	} else {
		var access authorizationv1.SubjectAccessReview
		err = json.NewDecoder(r.Body).Decode(&access)
		if of := access.Spec.ResourceAttributes; of != nil {
			access.Status.Allowed = access.Spec.User == a.User && of.Name == a.Node && slices.Contains(a.May, of.Verb+" "+of.Resource+"/"+of.Subresource)
		}
		review = access
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review) // the client may be gone
}
