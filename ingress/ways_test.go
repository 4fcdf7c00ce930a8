package ingress

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// way is one of the ways that a request can take through the ingress.
type way struct {
	name   string
	client *http.Client
	secure bool
	change func(*http.Request)
}

func ways(t *testing.T) []way {
	t.Helper()
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := func(tr *http.Transport) *http.Client {
		tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: "toad"}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, CheckRedirect: stay}
	}
	plain := func(*http.Request) {}
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	return []way{
		// the first one is what the others are compared with: a Connection header that the fast path does not know
		{"net/http", client(&http.Transport{}), false, func(r *http.Request) { r.Header.Set("Connection", "x-nothing") }},
		{"HTTP/1.1", client(&http.Transport{}), false, plain},
		{"HTTP/2", client(h2c), false, plain},
		{"HTTP/2 through the handler", client(h2c), false, func(r *http.Request) { r.Header.Set("Trailer", "x-nothing") }},
		{"net/http over TLS", client(&http.Transport{}), true, func(r *http.Request) { r.Header.Set("Connection", "x-nothing") }},
		{"HTTP/1.1 over TLS", client(&http.Transport{}), true, plain},
		{"HTTP/2 over TLS", client(&http.Transport{ForceAttemptHTTP2: true}), true, plain},
	}
}

// take sends a request this way and tells what the endpoint saw and what the client got.
func (v way) take(w *world, method, path, body string, headers ...string) string {
	w.t.Helper()
	url := "http://" + w.plain
	if v.secure {
		url = "https://" + w.secure
	}
	req, err := http.NewRequest(method, url+path, strings.NewReader(body))
	w.must(err)
	req.Host = "toad"
	req.Header.Set("User-Agent", "toad") // Go's own names the version of HTTP
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	v.change(req)
	resp, err := v.client.Do(req)
	w.must(err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	w.must(err)
	return fmt.Sprintf("%d %s\n%s\ntrailer: %s", resp.StatusCode, sorted(resp.Header), got, sorted(resp.Trailer))
}

// sorted is a header as text, without what may differ.
func sorted(h http.Header) string {
	var lines []string
	for name, values := range h {
		switch name {
		case "Date", "Content-Length", "Connection", "Trailer", "X-Forwarded-Port":
		default:
			lines = append(lines, fmt.Sprintf("%s=%q", name, values))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// TestWaysAgree: whatever way a request takes, the endpoint sees the same and the client gets the same, under every kind of
// policy: what is decided is the same everywhere (route.TestDecide), how it is carried out is each way's own.
func TestWaysAgree(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what came is compared
		w.Header().Set("X-Frame-Options", "SAMEORIGIN")
		w.Header().Set("Access-Control-Allow-Origin", "https://of-the-endpoint.test")
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		switch r.URL.Path {
		case "/chunked", "/app/chunked":
			fmt.Fprint(w, "part")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
		case "/none":
			w.WriteHeader(304)
			return
		}
		fmt.Fprintf(w, "%s %s %s %s\n%q", r.Method, r.RequestURI, r.Host, sorted(r.Header), body)
	}
	for name, annotations := range map[string]map[string]string{
		"none":                {},
		"rewrite":             {"rewrite-target": "/app"},
		"host":                {"upstream-vhost": "other.test"},
		"headers":             {"request-headers": "X-A: b\nUser-Agent:\nX-New: c", "response-headers": "X-Frame-Options: DENY\nX-Own: d\nSet-Cookie:"},
		"cors":                {"enable-cors": "true", "cors-allow-origin": "https://a.test, https://*.b.test", "cors-allow-credentials": "true"},
		"sticky":              {"affinity": "cookie", "session-cookie-name": "at"},
		"several":             {"rewrite-target": "/app", "enable-cors": "true", "response-headers": "X-Own: d", "affinity": "cookie"},
		"redirect":            {"permanent-redirect": "https://other.test/x"},
		"timeouts":            {"proxy-connect-timeout": "5", "proxy-read-timeout": "50", "proxy-send-timeout": "50"},
		"requests per second": {"limit-rps": "10000"},
	} {
		t.Run(name, func(t *testing.T) {
			w := guarded(t, handler, annotations)
			all := ways(t)
			for _, ask := range []struct {
				method, path, body string
				headers            []string
			}{
				{"GET", "/", "", []string{"X-A", "1", "X-A", "2", "Origin", "https://a.test", "Cookie", "at=77; x=y"}},
				{"GET", "/a%2Fb/../c?d=%zz;e", "", []string{"X-Forwarded-For", "6.6.6.6", "X_Under", "score", "Forwarded", "for=6.6.6.6", "Origin", "https://x.b.test"}},
				{"POST", "/post", "12345", []string{"Content-Type", "text/plain", "Te", "trailers", "Origin", "https://evil.test"}},
				{"OPTIONS", "/", "", []string{"Origin", "https://a.test", "Access-Control-Request-Method", "PUT"}},
				{"OPTIONS", "/", "", nil},
				{"HEAD", "/head", "", nil},
				{"GET", "/chunked", "", nil},
				{"GET", "/none", "", nil},
				{"DELETE", "/nothing", "", []string{"Authorization", "Basic eDp5"}},
			} {
				want := all[0].take(w, ask.method, ask.path, ask.body, ask.headers...)
				for _, v := range all[1:] {
					expected := want
					if v.secure {
						expected = strings.NewReplacer("proto=http;", "proto=https;", `X-Forwarded-Proto=["http"]`, `X-Forwarded-Proto=["https"]`).Replace(want)
					}
					if got := v.take(w, ask.method, ask.path, ask.body, ask.headers...); got != expected {
						t.Errorf("%s %s, %s:\n%s\nby net/http:\n%s", ask.method, ask.path, v.name, got, expected)
					}
				}
			}
		})
	}
}

// TestTrustedChain: what proxies in front say counts the same whatever way a request takes, in either form.
func TestTrustedChain(t *testing.T) {
	_, addr := endpointServer(t, whoAsked)
	trust := func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	}
	w := newWorldWith(t, trust, service("toad"), slice("toad", addr), toService("toad"))
	for _, test := range []struct {
		headers []string
		want    string
	}{
		{[]string{"X-Forwarded-For", "6.6.6.6, 192.0.2.9", "X-Forwarded-For", "10.0.0.2", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "shop.test"},
			`xff=6.6.6.6, 192.0.2.9, 10.0.0.2, 127.0.0.1 real=192.0.2.9 proto=https host=shop.test forwarded=for=192.0.2.9;proto=https;host="toad"`},
		{[]string{"Forwarded", `for=6.6.6.6, for=192.0.2.9;proto=https;host=shop.test, for="10.0.0.2:4711";proto=http`},
			`xff=6.6.6.6, 192.0.2.9, 10.0.0.2, 127.0.0.1 real=192.0.2.9 proto=https host=shop.test forwarded=for=192.0.2.9;proto=https;host="toad"`},
		{[]string{"Forwarded", `For="[2001:db8::9]:4711"; Proto=https`},
			`xff=2001:db8::9, 127.0.0.1 real=2001:db8::9 proto=https host=toad forwarded=for="[2001:db8::9]";proto=https;host="toad"`},
		{[]string{"Forwarded", `for=unknown, for=10.0.0.3`},
			`xff=unknown, 10.0.0.3, 127.0.0.1 real=10.0.0.3 proto=%s host=toad forwarded=for=10.0.0.3;proto=%s;host="toad"`},
		// both: the one that proxies have always understood
		{[]string{"Forwarded", `for=6.6.6.6`, "X-Forwarded-For", "192.0.2.9"},
			`xff=192.0.2.9, 127.0.0.1 real=192.0.2.9 proto=%s host=toad forwarded=for=192.0.2.9;proto=%s;host="toad"`},
		{[]string{"Forwarded", `for="broken`},
			`xff=127.0.0.1 real=127.0.0.1 proto=%s host=toad forwarded=for=127.0.0.1;proto=%s;host="toad"`},
	} {
		for _, v := range ways(t) {
			want := test.want
			if strings.Contains(want, "%s") {
				scheme := map[bool]string{true: "https", false: "http"}[v.secure]
				want = fmt.Sprintf(want, scheme, scheme)
			}
			if got := v.take(w, "GET", "/", "", test.headers...); !strings.Contains(got, want) {
				t.Errorf("%s, %q: %q, want %q", v.name, test.headers, got, want)
			}
		}
	}
}
