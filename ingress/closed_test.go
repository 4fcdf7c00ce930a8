package ingress

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcplane/ingress/source/ingress/annotations"
)

// TestNotCarriedOutCloses: an annotation that restricts and is not carried out answers 503, says why everywhere, and opens
// when it goes.
func TestNotCarriedOutCloses(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	ing := toService("toad")
	ing.Annotations = map[string]string{annotations.NginxPrefix + "auth-url": "http://auth.test/check"}
	w := newWorld(t, service("toad"), slice("toad", a), ing)
	w.answers("toad", "/", 503, "this route is closed")
	w.event("RouteClosed", annotations.NginxPrefix+"auth-url", "asks a server", "503 until it is removed")
	e, err := w.ingress.Explain("toad/x")
	w.must(err)
	if e.Route == nil || !containsAll(strings.Join(e.Route.Closed, "\n"), []string{"auth-url"}) || !containsAll(strings.Join(e.Policies, "\n"), []string{"503", "auth-url"}) || !containsAll(strings.Join(e.Steps, "\n"), []string{"takes it, and is closed"}) {
		t.Errorf("explained: %+v", e)
	}
	if r := w.ingress.Routes(); len(r) != 1 || len(r[0].Closed) != 1 || !strings.Contains(r[0].Closed[0], "auth-url") {
		t.Errorf("routes: %+v", r)
	}
	w.updateIngress("toad", func(ing *networkingv1.Ingress) { ing.Annotations[annotations.OwnPrefix+"auth-url"] = "off" })
	w.answers("toad", "/", 200, "a")
	w.updateIngress("toad", func(ing *networkingv1.Ingress) {
		ing.Annotations = map[string]string{annotations.OwnPrefix + "auth-url": "http://x"}
	})
	w.answers("toad", "/", 503, "")
	w.updateIngress("toad", func(ing *networkingv1.Ingress) { ing.Annotations = nil })
	w.answers("toad", "/", 200, "a")
}

// TestClosedHost: what restricts a host does so for all Ingresses that share it, but nobody closes the host of an older
// Ingress of another namespace.
func TestClosedHost(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	closes := anIngress("closes", rule("one.test", path("/a", networkingv1.PathTypePrefix, "a")))
	closes.Annotations = map[string]string{annotations.NginxPrefix + "auth-tls-secret": "default/ca"}
	same := anIngress("same", rule("one.test", path("/b", networkingv1.PathTypePrefix, "a")), rule("two.test", path("/", networkingv1.PathTypePrefix, "a")))
	same.CreationTimestamp = metav1.Unix(1, 0)
	foreign := func(name string, created int64) *networkingv1.Ingress {
		ing := anIngress(name, rule("one.test", path("/"+name, networkingv1.PathTypePrefix, "a")))
		ing.Namespace, ing.CreationTimestamp = "other", metav1.Unix(created, 0)
		return ing
	}
	w := newWorld(t, service("a"), slice("a", a), closes, same, foreign("older", 1), foreign("younger", 3000))
	w.answers("one.test", "/a", 503, "this route is closed")
	w.answers("one.test", "/b", 503, "this route is closed")
	w.answers("one.test", "/younger", 503, "this route is closed")
	w.answers("one.test", "/older", 503, "no endpoint") // its namespace has no Service: it is not closed
	w.answers("two.test", "/", 200, "a")
	e, err := w.ingress.Explain("one.test/b")
	w.must(err)
	if got := strings.Join(e.Policies, "\n"); !containsAll(got, []string{"default/closes", "auth-tls-secret"}) {
		t.Errorf("explained by %q", got)
	}
	w.must(w.client.NetworkingV1().Ingresses("default").Delete(context.Background(), "closes", metav1.DeleteOptions{}))
	w.answers("one.test", "/b", 200, "a")
}

// TestCanaryIsNoWayRound: what the main Ingress asks of requests holds for those that a canary takes; one that restricts
// itself closes for its own.
func TestCanaryIsNoWayRound(t *testing.T) {
	_, a := endpointServer(t, says("main"))
	_, b := endpointServer(t, says("canary"))
	hash, err := bcrypt.GenerateFromPassword([]byte("fly"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	logins := &corev1.Secret{ObjectMeta: meta("logins"), Data: map[string][]byte{"auth": []byte("toad:" + string(hash))}}
	main := anIngress("main", rule("toad", path("/", networkingv1.PathTypePrefix, "a")))
	main.Annotations = map[string]string{annotations.OwnPrefix + "auth-type": "basic", annotations.OwnPrefix + "auth-secret": "logins"}
	canary := anIngress("canary", rule("toad", path("/", networkingv1.PathTypePrefix, "b")))
	canary.Annotations = map[string]string{annotations.OwnPrefix + "canary": "true", annotations.OwnPrefix + "canary-by-header": "X-Canary"}
	w := newWorld(t, logins, service("a"), slice("a", a), service("b"), slice("b", b), main, canary)
	ask := func(login bool, header string) (int, string) {
		resp, body := w.request("GET", "/", func(r *http.Request) {
			r.Header.Set("X-Canary", header)
			if login {
				r.SetBasicAuth("toad", "fly")
			}
		})
		return resp.StatusCode, body
	}
	for _, row := range []struct {
		login  bool
		header string
		code   int
		body   string
	}{{false, "never", 401, ""}, {false, "always", 401, ""}, {true, "never", 200, "main"}, {true, "always", 200, "canary"}} {
		if code, body := ask(row.login, row.header); code != row.code || !strings.HasPrefix(body, row.body) {
			t.Errorf("login %v, canary %s: %d %q, want %d %q", row.login, row.header, code, body, row.code, row.body)
		}
	}
	w.updateIngress("canary", func(ing *networkingv1.Ingress) {
		ing.Annotations[annotations.NginxPrefix+"enable-modsecurity"] = "true"
	})
	w.event("RouteClosed", "enable-modsecurity")
	if code, body := ask(true, "always"); code != 503 {
		t.Errorf("a closed canary: %d %q", code, body)
	}
	if code, body := ask(true, "never"); code != 200 {
		t.Errorf("beside a closed canary: %d %q", code, body)
	}
	w.updateIngress("canary", func(ing *networkingv1.Ingress) { delete(ing.Annotations, annotations.NginxPrefix+"enable-modsecurity") })
	w.updateIngress("main", func(ing *networkingv1.Ingress) {
		ing.Annotations = map[string]string{annotations.OwnPrefix + "auth-url": "http://auth.test"}
	})
	w.answers("toad", "/", 503, "this route is closed")
	if code, body := ask(false, "always"); code != 503 {
		t.Errorf("the canary of a closed route: %d %q", code, body)
	}
}

// TestNoCertificateIsClaimed: where a certificate would be optional, no client says that it had one.
func TestNoCertificateIsClaimed(t *testing.T) {
	_, a := endpointServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("verified: " + r.Header.Get("Ssl-Client-Verify") + r.Header.Get("Ssl_client_verify") + ".")) // the test looks
	})
	ing := toService("toad")
	ing.Annotations = map[string]string{annotations.NginxPrefix + "auth-tls-secret": "default/ca", annotations.NginxPrefix + "auth-tls-verify-client": "optional_no_ca"}
	w := newWorld(t, service("toad"), slice("toad", a), ing)
	for _, name := range []string{"ssl-client-verify", "Ssl_client_verify"} {
		resp, body := w.request("GET", "/", func(r *http.Request) { r.Header[name] = []string{"SUCCESS"} })
		if resp.StatusCode != 200 || body != "verified: ." {
			t.Errorf("%s: %d %q", name, resp.StatusCode, body)
		}
	}
	w.event("AnnotationIgnored", "auth-tls-secret")
}

// TestClosedService: controllers that read annotations on Services restrict what is sent to them.
func TestClosedService(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	w := newWorld(t, service("toad"), slice("toad", a), toService("toad"))
	w.answers("toad", "/", 200, "a")
	annotate := func(all map[string]string) {
		svc, err := w.client.CoreV1().Services("default").Get(context.Background(), "toad", metav1.GetOptions{})
		w.must(err)
		svc.Annotations = all
		_, err = w.client.CoreV1().Services("default").Update(context.Background(), svc, metav1.UpdateOptions{})
		w.must(err)
	}
	annotate(map[string]string{"konghq.com/plugins": "key-auth"})
	w.answers("toad", "/", 503, "")
	w.event("RouteClosed", "Service default/toad", "konghq.com/plugins")
	annotate(nil)
	w.answers("toad", "/", 200, "a")
}
