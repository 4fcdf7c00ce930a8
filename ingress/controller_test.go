package ingress

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
)

func (w *world) createIngress(ing *networkingv1.Ingress) {
	w.t.Helper()
	_, err := w.client.NetworkingV1().Ingresses(ing.Namespace).Create(context.Background(), ing, metav1.CreateOptions{})
	w.must(err)
}

func (w *world) updateIngress(name string, change func(*networkingv1.Ingress)) {
	w.t.Helper()
	ing, err := w.client.NetworkingV1().Ingresses("default").Get(context.Background(), name, metav1.GetOptions{})
	w.must(err)
	change(ing)
	_, err = w.client.NetworkingV1().Ingresses("default").Update(context.Background(), ing, metav1.UpdateOptions{})
	w.must(err)
}

// addressesOf is the status of an Ingress as text.
func (w *world) addressesOf(name string) string {
	ing, err := w.client.NetworkingV1().Ingresses("default").Get(context.Background(), name, metav1.GetOptions{})
	w.must(err)
	var ips []string
	for _, in := range ing.Status.LoadBalancer.Ingress {
		ips = append(ips, in.IP)
	}
	return strings.Join(ips, " ")
}

func (w *world) hasAddresses(name, want string) {
	w.t.Helper()
	w.eventually(func() error {
		if got := w.addressesOf(name); got != want {
			return fmt.Errorf("status of %s is %q, want %q", name, got, want)
		}
		return nil
	})
}

// TestBackendsOfRules: service port by number and by name, several paths and hosts, ImplementationSpecific as
// Prefix, the default for what no rule takes.
func TestBackendsOfRules(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	_, b := endpointServer(t, says("b"))
	_, d := endpointServer(t, says("default"))
	ing := anIngress("x",
		rule("one.test", path("/a", networkingv1.PathTypePrefix, "a"), path("/b", networkingv1.PathTypeExact, "b:http")),
		rule("*.two.test", path("", networkingv1.PathTypeImplementationSpecific, "b")))
	catchAll := anIngress("all")
	catchAll.Spec.DefaultBackend = ptr(target("d"))
	w := newWorld(t, service("a"), slice("a", a), service("b"), slice("b", b), service("d"), slice("d", d), ing, catchAll)
	w.answers("one.test", "/a/x", 200, "a /a/x")
	w.answers("one.test", "/b", 200, "b /b")
	w.answers("one.test", "/b/x", 200, "default")
	w.answers("x.two.test", "/any", 200, "b /any")
	w.answers("two.test", "/any", 200, "default")
	if got := w.ingress.Figure(); got != "4 routes, 0 certificates" {
		t.Errorf("figure %q", got)
	}
	var lines []string
	for _, r := range w.ingress.Routes() {
		lines = append(lines, fmt.Sprint(r.Host, " ", r.Kind, " ", r.Path, " ", r.Service, " ", len(r.Endpoints)))
	}
	want := "* Default  default/d:80 1; *.two.test Prefix / default/b:80 1; one.test Exact /b default/b:http 1; one.test Prefix /a default/a:80 1"
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("routes\n%s, want\n%s", got, want)
	}
}

// TestDefaultBackendOfAnIngress: it takes what the rules of its own hosts leave, before a class-wide default.
func TestDefaultBackendOfAnIngress(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	_, own := endpointServer(t, says("own"))
	_, all := endpointServer(t, says("all"))
	ing := anIngress("x", rule("one.test", path("/a", networkingv1.PathTypePrefix, "a")), networkingv1.IngressRule{Host: "bare.test"})
	ing.Spec.DefaultBackend = ptr(target("own"))
	ing.CreationTimestamp = metav1.Unix(1, 0) // older, and yet no match for an Ingress that says nothing else
	catchAll := anIngress("all")
	catchAll.Spec.DefaultBackend = ptr(target("all"))
	w := newWorld(t, service("a"), slice("a", a), service("own"), slice("own", own), service("all"), slice("all", all), ing, catchAll)
	w.answers("one.test", "/a", 200, "a")
	w.answers("one.test", "/z", 200, "own")
	w.answers("bare.test", "/", 200, "own")
	w.answers("other.test", "/", 200, "all")
	w.must(w.client.NetworkingV1().Ingresses("default").Delete(context.Background(), "all", metav1.DeleteOptions{}))
	w.answers("other.test", "/", 200, "own") // "requests that don't match any rule"
}

// TestWhoseIngress: class by spec.controller, the default class, the legacy annotation first.
func TestWhoseIngress(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	named := func(name string, change func(*networkingv1.Ingress)) *networkingv1.Ingress {
		ing := anIngress(name, rule(name, path("/", networkingv1.PathTypePrefix, "a")))
		change(ing)
		return ing
	}
	classed := func(class string) func(*networkingv1.Ingress) {
		return func(ing *networkingv1.Ingress) { ing.Spec.IngressClassName = &class }
	}
	annotated := func(class string) func(*networkingv1.Ingress) {
		return func(ing *networkingv1.Ingress) {
			ing.Annotations = map[string]string{legacyClassAnnotation: class}
			ing.Spec.IngressClassName = ptr("nginx")
		}
	}
	w := newWorld(t, service("a"), slice("a", a), class("nginx", "k8s.io/ingress-nginx", false), class("alias", "svcplane.io/ingress", false),
		named("none", func(*networkingv1.Ingress) {}), named("svcplane", classed("svcplane")), named("alias", classed("alias")),
		named("nginx", classed("nginx")), named("gone", classed("gone")),
		named("legacy", annotated("svcplane")), named("legacy-nginx", annotated("nginx")))
	for name, isOurs := range map[string]bool{"none": true, "svcplane": true, "alias": true, "nginx": false, "gone": false, "legacy": true, "legacy-nginx": false} {
		if isOurs {
			w.answers(name, "/", 200, "a")
			w.hasAddresses(name, nodeAddr)
		} else {
			w.answers(name, "/", 404, "")
			w.hasAddresses(name, "")
		}
	}
	// an Ingress changes hands: its address is taken back; a class comes: its Ingresses are served
	w.updateIngress("svcplane", classed("nginx"))
	w.answers("svcplane", "/", 404, "")
	w.hasAddresses("svcplane", "")
	_, err := w.client.NetworkingV1().IngressClasses().Create(context.Background(), class("gone", "svcplane.io/ingress", false), metav1.CreateOptions{})
	w.must(err)
	w.answers("gone", "/", 200, "a")
	w.hasAddresses("gone", nodeAddr)
	// the default class is one no more
	w.must(w.client.NetworkingV1().IngressClasses().Delete(context.Background(), "svcplane", metav1.DeleteOptions{}))
	w.answers("none", "/", 404, "")
	w.hasAddresses("none", "")
}

func TestStatusIsWrittenOnceAndAgainOnConflict(t *testing.T) {
	foreign := toService("foreign")
	foreign.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "198.51.100.1"}}
	foreign.Spec.IngressClassName = ptr("nginx")
	w := newWorld(t, class("nginx", "k8s.io/ingress-nginx", false), foreign)
	var writes, conflicts atomic.Int32
	w.client.PrependReactor("update", "ingresses", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "status" {
			return false, nil, nil
		}
		if writes.Add(1) <= 3 {
			conflicts.Add(1)
			return true, nil, apierrors.NewConflict(networkingv1.Resource("ingresses"), "toad", fmt.Errorf("changed"))
		}
		return false, nil, nil
	})
	w.createIngress(toService("toad"))
	w.hasAddresses("toad", nodeAddr)
	w.updateIngress("toad", func(ing *networkingv1.Ingress) { ing.Labels = map[string]string{"a": "b"} })
	w.createIngress(toService("later")) // its status comes after whatever the update above caused
	w.hasAddresses("later", nodeAddr)
	w.hasAddresses("foreign", "198.51.100.1")
	if conflicts.Load() != 3 || writes.Load() != 5 {
		t.Errorf("%d writes, %d of them conflicts; want 5 and 3", writes.Load(), conflicts.Load())
	}
}

func TestProblemsBecomeEvents(t *testing.T) {
	external := service("external")
	external.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}
	_, a := endpointServer(t, says("a"))
	bad := anIngress("bad", rule("bad.test",
		path("/ok", networkingv1.PathTypePrefix, "a"),
		path("/missing", networkingv1.PathTypePrefix, "nobody"),
		path("/port", networkingv1.PathTypePrefix, "a:admin"),
		path("/external", networkingv1.PathTypePrefix, "external"),
		path("/100%", networkingv1.PathTypeImplementationSpecific, "a"),
		path("/ok", networkingv1.PathTypePrefix, "a"),
		networkingv1.HTTPIngressPath{Path: "/resource", PathType: ptr(networkingv1.PathTypePrefix),
			Backend: networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{Kind: "Bucket", Name: "b"}}}))
	bad.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"bad.test"}, SecretName: "absent"}, {SecretName: "broken"}, {Hosts: []string{"bad.test"}, SecretName: "other"}}
	broken := tlsSecret(t, "broken", false, "bad.test")
	broken.Data[corev1.TLSPrivateKeyKey] = []byte("junk")
	younger := anIngress("younger", rule("bad.test", path("/ok", networkingv1.PathTypePrefix, "a")))
	younger.CreationTimestamp = metav1.Unix(2000, 0)
	w := newWorld(t, service("a"), slice("a", a), external, bad, younger, broken, tlsSecret(t, "other", false, "other.test"))
	seen := w.eventsUntil(10)
	for _, want := range [][]string{
		{"Warning ServiceNotFound", "default/nobody", "create it"},
		{"Warning PortNotFound", "default/a", "admin", "http (80/TCP)"},
		{"Warning ServiceRefused", "default/external", "EndpointSlice"},
		{"Warning PathInvalid", "/100%", "correct"},
		{"Warning RouteConflict", "twice", "/ok"},
		{"Warning RouteConflict", "older Ingress default/bad", "/ok"},
		{"Warning ResourceRefused", "/resource", "service"},
		{"Warning SecretNotFound", "default/absent", "create"},
		{"Warning CertificateInvalid", "default/broken", "replace"},
		{"Warning CertificateMismatch", "default/other", "bad.test"},
	} {
		found := 0
		for _, e := range seen {
			if containsAll(e, want) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d events with %q in\n%s", found, want, strings.Join(seen, "\n"))
		}
	}
	w.answers("bad.test", "/ok", 200, "a") // everything else is served
	w.answers("bad.test", "/missing", 503, "")
	w.answers("bad.test", "/external", 503, "")
	w.answers("bad.test", "/resource", 404, "")

	// what was told is not told again; what is new is
	w.updateIngress("bad", func(ing *networkingv1.Ingress) {
		ing.Spec.Rules[0].HTTP.Paths = append(ing.Spec.Rules[0].HTTP.Paths, path("/more", networkingv1.PathTypePrefix, "nobody2"))
	})
	if more := w.eventsUntil(1); !containsAll(more[0], []string{"ServiceNotFound", "nobody2"}) {
		t.Errorf("told again: %q", more)
	}
	// and the cure is noticed
	_, err := w.client.CoreV1().Services("default").Create(context.Background(), service("nobody"), metav1.CreateOptions{})
	w.must(err)
	_, err = w.client.DiscoveryV1().EndpointSlices("default").Create(context.Background(), slice("nobody", a), metav1.CreateOptions{})
	w.must(err)
	w.answers("bad.test", "/missing", 200, "a /missing")
}

// eventsUntil collects n events.
func (w *world) eventsUntil(n int) []string {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	var seen []string
	for len(seen) < n {
		select {
		case e := <-w.events.Events:
			seen = append(seen, e)
		case <-deadline:
			w.t.Fatalf("%d of %d events:\n%s", len(seen), n, strings.Join(seen, "\n"))
		}
	}
	return seen
}

func TestServiceThatComesSoonIsNoEvent(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	w := newWorld(t)
	w.createIngress(toService("toad"))
	for _, create := range []func() error{
		func() error {
			_, err := w.client.CoreV1().Services("default").Create(context.Background(), service("toad"), metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := w.client.DiscoveryV1().EndpointSlices("default").Create(context.Background(), slice("toad", a), metav1.CreateOptions{})
			return err
		},
	} {
		w.must(create())
	}
	w.answers("toad", "/", 200, "a")
	w.createIngress(toService("never")) // its Event comes later than one for toad would
	if first := w.eventsUntil(1)[0]; !strings.Contains(first, "default/never") {
		t.Errorf("event %q", first)
	}
}

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

// TestChangesUnderLoad rolls the endpoints of a Service, as a rolling update does, and changes routes and
// certificates, while clients send GET and POST without pause and a WebSocket talks: nothing fails.
func TestChangesUnderLoad(t *testing.T) {
	ing := toService("toad")
	ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"toad"}, SecretName: "cert"}}
	keep, keepAddr := endpointServer(t, echoWebSocket)
	defer keep.Close()
	w := newWorld(t, service("toad"), service("chat"), toService("chat"), slice("chat", keepAddr), ing)
	r := &roller{w: w, servers: map[netip.AddrPort]*httptest.Server{}}
	defer r.closeAll()
	for range 3 {
		r.add()
	}
	w.answers("toad", "/", 200, "")
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+w.plain, http.Header{"Host": {"chat"}})
	w.must(err)
	defer ws.Close()
	stop := make(chan struct{})
	var sent atomic.Int64
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() { loadClient(t, w.plain, i%2 == 0, stop, &sent) })
	}
	secrets := w.client.CoreV1().Secrets("default")
	cert := tlsSecret(t, "cert", false, "toad")
	_, err = secrets.Create(context.Background(), cert, metav1.CreateOptions{})
	w.must(err)
	for i := range 30 {
		r.add()
		r.removeOldest()
		w.updateIngress("toad", func(ing *networkingv1.Ingress) {
			ing.Spec.Rules[0].HTTP.Paths = append(ing.Spec.Rules[0].HTTP.Paths[:1], path(fmt.Sprint("/extra", i), networkingv1.PathTypePrefix, "toad:http"))
		})
		cert.Annotations = map[string]string{"turn": fmt.Sprint(i)}
		_, err := secrets.Update(context.Background(), cert, metav1.UpdateOptions{})
		w.must(err)
		w.must(ws.WriteMessage(websocket.TextMessage, []byte("still here")))
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != "still here" {
			t.Fatalf("WebSocket: %q, %v", got, err)
		}
	}
	close(stop)
	clients.Wait()
	if sent.Load() < 300 {
		t.Errorf("only %d requests were sent: the test shows little", sent.Load())
	}
	t.Logf("%d requests while 30 endpoints were replaced", sent.Load())
}

// loadClient sends requests until stop and reports every one that fails.
func loadClient(t *testing.T, addr string, post bool, stop chan struct{}, sent *atomic.Int64) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		method, payload := "GET", ""
		if post {
			method, payload = "POST", fmt.Sprint("payload", n)
		}
		req, _ := http.NewRequest(method, "http://"+addr+"/", strings.NewReader(payload)) // a constant URL parses
		req.Host = "toad"
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != "ok "+payload {
			t.Errorf("%s: %d %q, %v", method, resp.StatusCode, body, err)
			return
		}
		sent.Add(1)
	}
}

// roller plays the node: an endpoint is killed at once when the catalog says that nobody sends to it any more.
type roller struct {
	w       *world
	servers map[netip.AddrPort]*httptest.Server
	order   []netip.AddrPort
	next    byte
}

func (r *roller) add() {
	r.next++
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body) // what came is sent back and compared
		time.Sleep(time.Duration(len(body)%3) * time.Millisecond)
		fmt.Fprintf(w, "ok %s", body)
	}))
	// an address of its own, as a pod has: the catalog waits for addresses
	l, err := listen("test", "--", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 9, r.next}), 0))
	r.w.must(err)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	addr := addrOf(l)
	r.servers[addr] = s
	r.order = append(r.order, addr)
	_, err = r.w.client.DiscoveryV1().EndpointSlices("default").Create(context.Background(), slice("toad", addr), metav1.CreateOptions{})
	r.w.must(err)
	r.w.eventually(func() error {
		for _, known := range r.w.ingress.Routes()[1].Endpoints {
			if known == addr {
				return nil
			}
		}
		return fmt.Errorf("%s is not used", addr)
	})
}

func (r *roller) removeOldest() {
	addr := r.order[0]
	r.order = r.order[1:]
	name := slice("toad", addr).Name
	r.w.must(r.w.client.DiscoveryV1().EndpointSlices("default").Delete(context.Background(), name, metav1.DeleteOptions{}))
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	cat := r.w.ingress.controller.catalog
	// Drained counts from what the catalog was told, so the deletion must have come through first.
	r.w.eventually(func() error {
		svc, _ := cat.Get(types.NamespacedName{Namespace: "default", Name: "toad"})
		for _, e := range svc.Ports[0].Endpoints {
			if e.AddrPort == addr {
				return fmt.Errorf("%s is in the catalog still", addr)
			}
		}
		return nil
	})
	r.w.must(cat.Drained(ctx, addr.Addr()))
	r.servers[addr].CloseClientConnections()
	r.servers[addr].Close()
	delete(r.servers, addr)
}

func (r *roller) closeAll() {
	for _, s := range r.servers {
		s.Close()
	}
}
