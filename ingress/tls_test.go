package ingress

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestCertificatesBySNI(t *testing.T) {
	_, a := endpointServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"), " ", r.Header.Get("X-Forwarded-Port"))
	})
	ing := anIngress("x", rule("a.test", path("/", networkingv1.PathTypePrefix, "a")))
	ing.Spec.TLS = []networkingv1.IngressTLS{
		{Hosts: []string{"a.test"}, SecretName: "ecdsa"}, {Hosts: []string{"a.test"}, SecretName: "rsa"},
		{Hosts: []string{"*.wild.test"}, SecretName: "wild"}, {SecretName: "named"},
	}
	rsaOnly := func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	w := newWorld(t, service("a"), slice("a", a), ing, tlsSecret(t, "ecdsa", false, "a.test"), tlsSecret(t, "rsa", true, "a.test"),
		tlsSecret(t, "wild", false, "*.wild.test"), tlsSecret(t, "named", false, "own.test"))
	for _, test := range []struct {
		sni, want string
		change    func(*tls.Config)
	}{
		{"a.test", "ecdsa", nil},
		{"A.Test", "ecdsa", nil},
		{"a.test", "rsa", rsaOnly},
		{"x.wild.test", "wild", nil},
		{"x.y.wild.test", "svcplane ingress default certificate", nil},
		{"own.test", "named", nil},
		{"unknown.test", "svcplane ingress default certificate", nil},
		{"", "svcplane ingress default certificate", nil},
	} {
		w.eventually(func() error {
			if got, err := w.certFor(test.sni, test.change); err != nil || got != test.want {
				return fmt.Errorf("%q got the certificate %q, %v; want %q", test.sni, got, err, test.want)
			}
			return nil
		})
	}
	if _, err := w.certFor("a.test", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	_, port, _ := strings.Cut(w.secure, ":")
	for _, h2 := range []bool{true, false} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "a.test"}, ForceAttemptHTTP2: h2}
		req, err := http.NewRequest("GET", "https://"+w.secure, nil)
		w.must(err)
		req.Host = "a.test"
		resp, body := w.do(&http.Client{Transport: tr}, req)
		if want := map[bool]int{true: 2, false: 1}[h2]; resp.ProtoMajor != want || body != "https "+port {
			t.Errorf("%s %q", resp.Proto, body)
		}
		tr.CloseIdleConnections()
	}
	if got := w.raw("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "http ") {
		t.Errorf("plain: %q", got)
	}
	if got := w.ingress.Figure(); got != "1 routes, 4 certificates" {
		t.Errorf("figure %q", got)
	}
}

func TestCertificateRotation(t *testing.T) {
	ing := toService("toad")
	ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"toad"}, SecretName: "cert"}}
	w := newWorld(t, ing)
	secrets := w.client.CoreV1().Secrets("default")
	serves := func(want string) {
		t.Helper()
		w.eventually(func() error {
			if got, err := w.certFor("toad", nil); err != nil || got != want {
				return fmt.Errorf("%q is served, %v; want %q", got, err, want)
			}
			return nil
		})
	}
	serves("svcplane ingress default certificate")
	first := tlsSecret(t, "first", false, "toad")
	first.Name = "cert"
	_, err := secrets.Create(context.Background(), first, metav1.CreateOptions{})
	w.must(err)
	serves("first")
	second := tlsSecret(t, "second", true, "toad")
	second.Name = "cert"
	_, err = secrets.Update(context.Background(), second, metav1.UpdateOptions{})
	w.must(err)
	serves("second")
	w.must(secrets.Delete(context.Background(), "cert", metav1.DeleteOptions{}))
	serves("svcplane ingress default certificate")
}
