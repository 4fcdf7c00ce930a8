package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"svcplane/node/access/accesstest"
)

func TestTokensAndRights(t *testing.T) {
	for _, tt := range []struct {
		token, method, path string
		may                 []string
		code                int
	}{
		{"", "GET", "/metrics", nil, 401},
		{"bad", "GET", "/metrics", []string{"get nodes/metrics"}, 401},
		{"good", "GET", "/metrics", nil, 403},
		{"good", "GET", "/metrics", []string{"get nodes/proxy"}, 403},
		{"good", "GET", "/metrics", []string{"get nodes/metrics"}, 200},
		{"good", "GET", "/metrics/cadvisor", []string{"get nodes/metrics"}, 200},
		{"good", "GET", "/metricsandmore", []string{"get nodes/metrics"}, 403},
		{"good", "GET", "/stats/summary", []string{"get nodes/metrics"}, 403},
		{"good", "GET", "/stats/summary", []string{"get nodes/stats"}, 200},
		{"good", "GET", "/logs/", []string{"get nodes/log"}, 200},
		{"good", "GET", "/pods", []string{"get nodes/pods"}, 200},
		{"good", "GET", "/pods", []string{"get nodes/proxy"}, 200},
		{"good", "GET", "/healthz", []string{"get nodes/healthz"}, 200},
		{"good", "GET", "/containerLogs/default/web/app", []string{"get nodes/proxy"}, 200},
		{"good", "GET", "/exec/default/web/app", []string{"get nodes/proxy"}, 403},
		{"good", "GET", "/exec/default/web/app", []string{"create nodes/proxy"}, 200},
		{"good", "POST", "/exec/default/web/app", []string{"create nodes/proxy"}, 200},
		{"good", "DELETE", "/anything", []string{"get nodes/proxy"}, 403},
	} {
		api := &accesstest.API{Token: "good", User: "prom", Node: "box", May: tt.may}
		g, err := New(Config{Client: api.Client(t), Node: "box"})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		w := httptest.NewRecorder()
		g.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		if w.Code != tt.code {
			t.Errorf("%s %s with token %q and %q: %d %s, want %d", tt.method, tt.path, tt.token, tt.may, w.Code, w.Body, tt.code)
		}
	}
}

func TestAnswersOfTheAPIAreKept(t *testing.T) {
	api := &accesstest.API{Token: "good", User: "prom", Node: "box", May: []string{"get nodes/metrics"}}
	g, err := New(Config{Client: api.Client(t), Node: "box"})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Authorization", "Bearer good")
		if code, why := g.check(r); code != 200 || strings.Contains(why, "good") {
			t.Fatal(code, why)
		}
	}
	if n := api.Reviews.Load(); n != 2 {
		t.Errorf("the API was asked %d times, want once for the token and once for the right", n)
	}
}

// TestCertificatesThatAreNotAccepted: whatever name they bear, they are none, and do nothing for a token beside them.
func TestCertificatesThatAreNotAccepted(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject:     pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	accepted := x509.NewCertPool()
	accepted.AddCert(own)
	for _, tt := range []struct {
		cas   *x509.CertPool
		token string
		code  int
	}{{x509.NewCertPool(), "", 401}, {x509.NewCertPool(), "good", 403}, {nil, "", 401}, {nil, "good", 403}, {accepted, "", 200}} {
		api := &accesstest.API{Token: "good", User: "kube-apiserver-kubelet-client", Node: "box"}
		g, err := New(Config{Client: api.Client(t), Node: "box", CAs: tt.cas, Trusted: []string{"kube-apiserver-kubelet-client"}})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{own}}
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		if code, why := g.check(r); code != tt.code {
			t.Errorf("with token %q: %d %s, want %d", tt.token, code, why, tt.code)
		}
	}
}
