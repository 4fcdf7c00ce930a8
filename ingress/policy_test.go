package ingress

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcplane/ingress/source/ingress/annotations"
)

// guarded is a world where host "toad" goes to one endpoint under the policy of our annotations.
func guarded(t *testing.T, handler http.HandlerFunc, notes map[string]string) *world {
	t.Helper()
	_, addr := endpointServer(t, handler)
	ing := toService("toad")
	ing.Annotations = map[string]string{}
	for name, value := range notes {
		ing.Annotations[annotations.OwnPrefix+name] = value
	}
	return newWorld(t, service("toad"), slice("toad", addr), ing)
}

// direct does not follow redirects.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (w *world) request(method, path string, change func(*http.Request)) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://"+w.plain+path, nil)
	w.must(err)
	req.Host = "toad"
	if change != nil {
		change(req)
	}
	return w.do(direct, req)
}

func TestRedirects(t *testing.T) {
	w := guarded(t, says("reached"), map[string]string{"force-ssl-redirect": "true"})
	resp, _ := w.request("GET", "/a%20b?x=1", nil)
	_, port, _ := strings.Cut(w.secure, ":")
	if want := "https://toad:" + port + "/a%20b?x=1"; resp.StatusCode != 308 || resp.Header.Get("Location") != want {
		t.Errorf("%d %q, want 308 %q", resp.StatusCode, resp.Header.Get("Location"), want)
	}
	w = guarded(t, says("reached"), map[string]string{"app-root": "/app"})
	if resp, _ := w.request("GET", "/", nil); resp.StatusCode != 302 || resp.Header.Get("Location") != "/app" {
		t.Errorf("app root: %d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if _, body := w.request("GET", "/app", nil); body != "reached /app" {
		t.Errorf("behind the app root: %q", body)
	}
	w = guarded(t, says("reached"), map[string]string{"permanent-redirect": "https://new.test/", "permanent-redirect-code": "308"})
	if resp, body := w.request("POST", "/x", nil); resp.StatusCode != 308 || resp.Header.Get("Location") != "https://new.test/" || strings.Contains(body, "reached") {
		t.Errorf("permanent: %d %q %q", resp.StatusCode, resp.Header.Get("Location"), body)
	}
}

func TestRewritesOnTheWire(t *testing.T) {
	_, addr := endpointServer(t, says("got"))
	ing := anIngress("re", rule("toad", path("/api(/|$)(.*)", networkingv1.PathTypeImplementationSpecific, "toad"), path("/[a-z]+", networkingv1.PathTypeImplementationSpecific, "toad")))
	ing.Annotations = map[string]string{annotations.NginxPrefix + "rewrite-target": "/v1/$2", annotations.NginxPrefix + "use-regex": "true"}
	w := newWorld(t, service("toad"), slice("toad", addr), ing)
	w.answers("toad", "/api/x%2Fy", 200, "got /v1/x%2Fy")
	w.answers("toad", "/api", 200, "got /v1/")
	w.answers("toad", "/apix", 404, "")
	w.event("PathUnsupported", "[a-z]+")
}

// TestPatternsAreTold: the paths of other controllers' patterns mean their letters here, which is what the Event says.
func TestPatternsAreTold(t *testing.T) {
	w := newWorld(t, service("toad"), anIngress("stars", rule("toad", path("/api/*", networkingv1.PathTypePrefix, "toad"))))
	w.event("PathLiteral", `"/api/*"`, `Prefix "/api" takes everything below it`)
	if e, err := w.ingress.Explain("toad/api/x"); err != nil || !containsAll(strings.Join(e.Steps, "\n"), []string{"/api/*", "letter by letter"}) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestSourceRanges(t *testing.T) {
	w := guarded(t, says("reached"), map[string]string{"allowlist-source-range": "192.0.2.0/24"})
	if resp, _ := w.request("GET", "/", nil); resp.StatusCode != 403 {
		t.Errorf("outside: %d", resp.StatusCode)
	}
	w = guarded(t, says("reached"), map[string]string{"allowlist-source-range": "127.0.0.0/8", "denylist-source-range": "127.0.0.2"})
	if resp, _ := w.request("GET", "/", nil); resp.StatusCode != 200 {
		t.Errorf("inside: %d", resp.StatusCode)
	}
	w = guarded(t, says("reached"), map[string]string{"denylist-source-range": "127.0.0.1"})
	if resp, _ := w.request("GET", "/", nil); resp.StatusCode != 403 {
		t.Errorf("denied: %d", resp.StatusCode)
	}
	w = guarded(t, says("reached"), map[string]string{"allowlist-source-range": "nonsense"})
	if resp, _ := w.request("GET", "/", nil); resp.StatusCode != 503 {
		t.Errorf("a protection that nobody understands: %d", resp.StatusCode)
	}
	w.event("AnnotationInvalid", "allowlist-source-range")
}

func TestBasicAuth(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	w := guarded(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "reached ", r.Header.Get("Authorization")) },
		map[string]string{"auth-type": "basic", "auth-secret": "logins", "auth-realm": "the shed"})
	code := func(user, password string) int {
		resp, body := w.request("GET", "/", func(r *http.Request) {
			if user != "" {
				r.SetBasicAuth(user, password)
			}
		})
		if resp.StatusCode == 401 && resp.Header.Get("Www-Authenticate") != `Basic realm="the shed", charset="UTF-8"` {
			t.Errorf("challenge %q", resp.Header.Get("Www-Authenticate"))
		}
		if resp.StatusCode == 200 && body != "reached " {
			t.Errorf("the endpoint saw the password: %q", body)
		}
		return resp.StatusCode
	}
	if got := code("ali", "open sesame"); got != 401 {
		t.Errorf("without a Secret: %d", got)
	}
	w.event("AuthSecretNotFound", "default/logins")
	_, err = w.client.CoreV1().Secrets("default").Create(context.Background(), &corev1.Secret{ObjectMeta: meta("logins"), Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{"auth": []byte("ali:" + string(hash) + "\nold:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n")}}, metav1.CreateOptions{})
	w.must(err)
	w.eventually(func() error {
		if got := code("ali", "open sesame"); got != 200 {
			return fmt.Errorf("with the password: %d", got)
		}
		return nil
	})
	for user, password := range map[string]string{"": "", "ali": "sesame", "eve": "open sesame", "old": "wrong"} {
		if got := code(user, password); got != 401 {
			t.Errorf("%q %q: %d", user, password, got)
		}
	}
}

func TestRateLimit(t *testing.T) {
	w := guarded(t, says("reached"), map[string]string{"limit-rps": "1", "limit-burst-multiplier": "2"})
	var codes []int
	for range 3 {
		resp, _ := w.request("GET", "/", nil)
		codes = append(codes, resp.StatusCode)
		if resp.StatusCode == 429 && resp.Header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
		}
	}
	if fmt.Sprint(codes) != "[200 200 429]" {
		t.Errorf("codes %v", codes)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	enter, release := make(chan bool), make(chan bool)
	w := guarded(t, func(http.ResponseWriter, *http.Request) { enter <- true; <-release }, map[string]string{"limit-connections": "1"})
	first := make(chan int)
	go func() {
		resp, _ := w.request("GET", "/", nil)
		first <- resp.StatusCode
	}()
	<-enter
	if resp, _ := w.request("GET", "/", nil); resp.StatusCode != 429 {
		t.Errorf("the second at a time: %d", resp.StatusCode)
	}
	release <- true
	if code := <-first; code != 200 {
		t.Errorf("the first: %d", code)
	}
}

func TestBodySize(t *testing.T) {
	w := guarded(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}, map[string]string{"proxy-body-size": "1k"})
	for size, want := range map[int]int{1024: 200, 1025: 413} {
		for _, chunked := range []bool{false, true} {
			resp, body := w.request("POST", "/", func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", size)))
				if !chunked {
					r.ContentLength = int64(size)
				}
			})
			if resp.StatusCode != want {
				t.Errorf("%d bytes, chunked %v: %d %q, want %d", size, chunked, resp.StatusCode, body, want)
			}
		}
	}
}

func TestCORS(t *testing.T) {
	w := guarded(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://from-the-endpoint.test")
		fmt.Fprint(w, "reached")
	}, map[string]string{"enable-cors": "true", "cors-allow-origin": "https://a.test, https://*.b.test", "cors-max-age": "60"})
	for origin, allowed := range map[string]bool{
		"https://a.test": true, "https://x.b.test": true, "http://a.test": false, "https://b.test": false, "https://evil.test": false,
		"https://a.test.evil.test": false, "https://evil.test/.b.test": false, "null": false,
	} {
		want := ""
		if allowed {
			want = origin
		}
		resp, body := w.request("GET", "/", func(r *http.Request) { r.Header.Set("Origin", origin) })
		if got := resp.Header.Values("Access-Control-Allow-Origin"); strings.Join(got, "+") != want || body != "reached" {
			t.Errorf("%s: allows %q, want %q", origin, got, want)
		}
		resp, body = w.request("OPTIONS", "/", func(r *http.Request) {
			r.Header.Set("Origin", origin)
			r.Header.Set("Access-Control-Request-Method", "PUT")
		})
		if resp.StatusCode != 204 || body != "" || resp.Header.Get("Access-Control-Allow-Origin") != want || (resp.Header.Get("Access-Control-Max-Age") == "60") != allowed {
			t.Errorf("preflight of %s: %d %v", origin, resp.StatusCode, resp.Header)
		}
	}
}

func TestCustomHeaders(t *testing.T) {
	w := guarded(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "secret/1.0")
		fmt.Fprint(w, r.Host, " ", r.Header.Get("X-Tenant"), " ", r.Header.Get("Cookie"))
	}, map[string]string{"request-headers": "X-Tenant: seven\nCookie:", "response-headers": "Server:\nX-Frame-Options: DENY", "upstream-vhost": "inner.test"})
	resp, body := w.request("GET", "/", func(r *http.Request) { r.Header.Set("Cookie", "a=b"); r.Header.Set("X-Tenant", "one") })
	if body != "inner.test seven " || resp.Header.Get("Server") != "" || resp.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("%q %v", body, resp.Header)
	}
}

func TestStickyCookie(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	_, b := endpointServer(t, says("b"))
	ing := toService("toad")
	ing.Annotations = map[string]string{annotations.NginxPrefix + "affinity": "cookie", annotations.NginxPrefix + "session-cookie-name": "route", annotations.NginxPrefix + "session-cookie-max-age": "60"}
	w := newWorld(t, service("toad"), slice("toad", a), slice("toad", b), ing)
	resp, first := w.request("GET", "/", nil)
	cookies := resp.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "route" || !cookies[0].HttpOnly || cookies[0].MaxAge != 60 || strings.Contains(cookies[0].Value, "127.0.0") {
		t.Fatalf("%v", resp.Header["Set-Cookie"])
	}
	for range 6 {
		resp, body := w.request("GET", "/", func(r *http.Request) { r.AddCookie(cookies[0]) })
		if body != first || len(resp.Cookies()) != 0 {
			t.Errorf("%q %v, want %q and no new cookie", body, resp.Cookies(), first)
		}
	}
	name := slice("toad", map[bool]netip.AddrPort{true: a, false: b}[strings.HasPrefix(first, "a")]).Name
	w.must(w.client.DiscoveryV1().EndpointSlices("default").Delete(context.Background(), name, metav1.DeleteOptions{}))
	w.eventually(func() error {
		resp, body := w.request("GET", "/", func(r *http.Request) { r.AddCookie(cookies[0]) })
		if body == first || len(resp.Cookies()) != 1 {
			return fmt.Errorf("after its endpoint left: %q %v", body, resp.Cookies())
		}
		return nil
	})
}

func TestCanary(t *testing.T) {
	_, a := endpointServer(t, says("main"))
	_, b := endpointServer(t, says("canary"))
	side := anIngress("side", rule("toad", path("/", networkingv1.PathTypePrefix, "next")))
	side.Annotations = map[string]string{annotations.NginxPrefix + "canary": "true", annotations.NginxPrefix + "canary-by-header": "X-Canary", annotations.NginxPrefix + "canary-by-cookie": "try", annotations.NginxPrefix + "canary-weight": "0"}
	lonely := anIngress("lonely", rule("other", path("/", networkingv1.PathTypePrefix, "next")))
	lonely.Annotations = map[string]string{annotations.NginxPrefix + "canary": "true"}
	w := newWorld(t, service("toad"), slice("toad", a), service("next"), slice("next", b), toService("toad"), side, lonely)
	for _, row := range []struct{ header, cookie, want string }{
		{"", "", "main"}, {"always", "", "canary"}, {"never", "always", "main"}, {"other", "always", "canary"}, {"", "never", "main"},
	} {
		_, body := w.request("GET", "/", func(r *http.Request) {
			r.Header.Set("X-Canary", row.header)
			r.AddCookie(&http.Cookie{Name: "try", Value: row.cookie})
		})
		if !strings.HasPrefix(body, row.want) {
			t.Errorf("%+v: %q", row, body)
		}
	}
	w.event("CanaryWithoutRoute", "other")
	w.updateIngress("side", func(ing *networkingv1.Ingress) { ing.Annotations[annotations.NginxPrefix+"canary-weight"] = "100" })
	w.answers("toad", "/", 200, "canary")
	w.must(w.client.NetworkingV1().Ingresses("default").Delete(context.Background(), "side", metav1.DeleteOptions{}))
	w.answers("toad", "/", 200, "main")
}
