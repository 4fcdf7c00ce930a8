package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "k8s.io/api/networking/v1"

	"svcplane/ingress/source/ingress/annotations"
	"svcplane/metrics/metricstest"
)

func whoAsked(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "xff=%s real=%s proto=%s host=%s forwarded=%s", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Real-Ip"),
		r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), r.Header.Get("Forwarded"))
}

// trusting sets the trusted proxies.
func trusting(networks ...string) func(*Config) {
	return func(c *Config) {
		for _, n := range networks {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(n))
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	w := serving(t, whoAsked)
	spoof := "GET / HTTP/1.1\r\nHost: toad\r\nX-Forwarded-For: 198.51.100.1, 192.0.2.9, 10.0.0.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\nConnection: close\r\n\r\n"
	got := w.raw(spoof)
	if want := `xff=127.0.0.1 real=127.0.0.1 proto=http host=toad forwarded=for=127.0.0.1;proto=http;host="toad"`; !strings.Contains(got, want) {
		t.Errorf("untrusted: %q, want %q", got, want)
	}
	if got := w.raw("PROXY TCP4 192.0.2.9 10.0.0.1 12345 80\r\n" + spoof); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("PROXY from an untrusted peer: %q", got)
	}
	w = servingWith(t, trusting("127.0.0.0/8", "10.0.0.0/8"), whoAsked)
	got = w.raw(spoof)
	if want := `xff=198.51.100.1, 192.0.2.9, 10.0.0.2, 127.0.0.1 real=192.0.2.9 proto=https host=shop.test forwarded=for=192.0.2.9;proto=https;host="toad"`; !strings.Contains(got, want) {
		t.Errorf("trusted: %q, want %q", got, want)
	}
	got = w.raw("PROXY TCP4 192.0.2.9 10.0.0.1 12345 80\r\n" + spoof)
	if want := `xff=192.0.2.9 real=192.0.2.9 proto=http host=toad`; !strings.Contains(got, want) {
		t.Errorf("PROXY: %q, want %q", got, want)
	}
	if got := w.raw("PROXY nonsense\r\n" + spoof); got != "" {
		t.Errorf("a broken PROXY header: %q", got)
	}
}

func TestProxyProtocolBeforeTLS(t *testing.T) {
	w := servingWith(t, trusting("127.0.0.0/8"), whoAsked)
	client := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := net.Dial("tcp", w.secure)
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(c, "PROXY TCP6 2001:db8::9 ::1 12345 443\r\n"); err != nil {
			return nil, err
		}
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true}), nil
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest("GET", "https://"+w.secure, nil)
	w.must(err)
	req.Host = "toad"
	if _, body := w.do(client, req); !strings.HasPrefix(body, "xff=2001:db8::9 real=2001:db8::9 proto=https") || !strings.Contains(body, `for="[2001:db8::9]"`) {
		t.Errorf("%q", body)
	}
}

// TestMisdirected: a connection that was opened for one certificate's host asks for another's.
func TestMisdirected(t *testing.T) {
	_, addr := endpointServer(t, says("reached"))
	ing := anIngress("tls", rule("a.test", path("/", networkingv1.PathTypePrefix, "toad")), rule("b.test", path("/", networkingv1.PathTypePrefix, "toad")), rule("c.a.test", path("/", networkingv1.PathTypePrefix, "toad")))
	ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"a.test", "*.a.test"}, SecretName: "a"}, {Hosts: []string{"b.test"}, SecretName: "b"}}
	w := newWorld(t, service("toad"), slice("toad", addr), ing, tlsSecret(t, "a", false, "a.test", "*.a.test"), tlsSecret(t, "b", false, "b.test"))
	for _, h2 := range []bool{false, true} {
		for _, row := range []struct {
			sni, host string
			code      int
		}{{"a.test", "a.test", 200}, {"a.test", "A.test:443", 200}, {"a.test", "c.a.test", 200}, {"a.test", "b.test", 421}, {"b.test", "c.a.test", 421}, {"", "b.test", 200}} {
			client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{ServerName: row.sni, InsecureSkipVerify: true}}}
			req, err := http.NewRequest("GET", "https://"+w.secure, nil)
			w.must(err)
			req.Host = row.host
			if resp, body := w.do(client, req); resp.StatusCode != row.code {
				t.Errorf("h2 %v, opened for %q, asked for %q: %d %q, want %d", h2, row.sni, row.host, resp.StatusCode, body, row.code)
			}
			client.CloseIdleConnections()
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	w := servingWith(t, func(c *Config) { c.MaxConnections, c.MaxPerClient = 4, 3 }, says("reached"))
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range 3 {
		c, err := net.Dial("tcp", w.plain)
		w.must(err)
		open = append(open, c)
		w.eventually(func() error {
			if n := metricstest.Gather(t, w.ingress.Collector()).Value(t, "svcplane_ingress_connections"); n != float64(i+1) {
				return fmt.Errorf("%v connections, want %d", n, i+1)
			}
			return nil
		})
	}
	got := w.raw("GET / HTTP/1.1\r\nHost: toad\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 503") || !strings.Contains(got, "Retry-After: 1\r\n") || strings.Contains(got, "reached") {
		t.Errorf("one too many: %q", got)
	}
	open[0].Close()
	w.answers("toad", "/x", 200, "reached /x")
}

// TestSeeing: metrics, access log and explanation of the same requests.
func TestSeeing(t *testing.T) {
	var out lockedBuffer
	w := servingWith(t, func(c *Config) { c.AccessLog = &out }, says("reached"))
	w.request("GET", "/a?b=c", func(r *http.Request) {
		r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		r.Header.Set("User-Agent", "toad/1")
	})
	w.get("nobody", "/")
	w.eventually(func() error {
		if n := strings.Count(out.String(), "\n"); n != 2 {
			return fmt.Errorf("%d lines, want 2", n)
		}
		return nil
	})
	line, _, _ := strings.Cut(out.String(), "\n")
	var e struct {
		Code                                                        int
		Bytes                                                       int64
		Path, Query, Route, Service, Endpoint, Trace, Client, Agent string
	}
	w.must(json.Unmarshal([]byte(line), &e))
	if e.Code != 200 || e.Path != "/a" || e.Query != "b=c" || e.Route != "default/toad" || e.Service != "default/toad:80" || e.Endpoint == "" ||
		e.Trace != "0af7651916cd43dd8448eb211c80319c" || e.Bytes != int64(len("reached /a?b=c")) || e.Client != "127.0.0.1" || e.Agent != "toad/1" {
		t.Errorf("%+v", e)
	}
	registry := prometheus.NewPedanticRegistry()
	w.must(registry.Register(w.ingress.Collector()))
	families, err := registry.Gather()
	w.must(err)
	text := fmt.Sprint(families)
	for _, want := range []string{"svcplane_ingress_requests_total", "svcplane_ingress_endpoint_duration_seconds", `value:"toad"`, `value:"404"`, "svcplane_ingress_connections"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestExplain(t *testing.T) {
	ing := anIngress("x",
		rule("a.test", path("/a", networkingv1.PathTypePrefix, "one"), path("/a/b", networkingv1.PathTypePrefix, "two"), path("/a/b", networkingv1.PathTypeExact, "three")),
		rule("*.test", path("/", networkingv1.PathTypePrefix, "four")))
	ing.Annotations = map[string]string{annotations.OwnPrefix + "rewrite-target": "/z"}
	w := newWorld(t, ing)
	e, err := w.ingress.Explain("https://A.test/a/b/c?x")
	w.must(err)
	if e.Route == nil || e.Route.Service != "default/two:80" || e.Host != "a.test" || strings.Join(e.Policies, "") != "rewrites the path to /z" {
		t.Fatalf("%+v", e)
	}
	want := []string{
		`host "a.test": Exact /a/b of default/x: is not exactly the path`,
		`host "a.test": Prefix /a/b of default/x: takes it, and sends it to default/two:80`,
		`host "a.test": Prefix /a of default/x: would match, but Prefix /a/b comes first`,
		`wildcard host for "a.test": Prefix / of default/x: would match, but a more specific host comes first`,
		`rules without a host: no rules`,
	}
	if strings.Join(e.Steps, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(e.Steps, "\n"))
	}
	if e, err := w.ingress.Explain("other/x"); err != nil || e.Route != nil {
		t.Errorf("%+v %v", e, err)
	}
	if _, err := w.ingress.Explain("a.test/x/%2e%2e/%2e%2e/y"); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a path that is refused: %v", err)
	}
	for _, url := range []string{"http://", "a.test:99999/", "a b.test/", "http://a,b/"} {
		if e, err := w.ingress.Explain(url); err == nil {
			t.Errorf("%s is no URL that is served: %+v", url, e)
		}
	}
	if e, err := w.ingress.Explain("http://Käse.test/"); err != nil || e.Host != "xn--kse-qla.test" {
		t.Errorf("a name of letters outside of ASCII: %q, %v", e.Host, err)
	}
}

// TestSlowBodyOverHTTP2: a client that stops in the middle of a body does not hold an endpoint for ever.
func TestSlowBodyOverHTTP2(t *testing.T) {
	w := servingWith(t, func(c *Config) { c.bodyTimeout = 100 * time.Millisecond }, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	body, feed := io.Pipe()
	defer feed.Close()
	go func() { _, _ = feed.Write([]byte("a part")) }()
	req, err := http.NewRequest("POST", "http://"+w.plain, body)
	w.must(err)
	req.Host = "toad"
	resp, err := tr.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != 408 {
			t.Errorf("%d, want 408", resp.StatusCode)
		}
	}
}
