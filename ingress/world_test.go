package ingress

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
)

// nodeAddr is what the tests expect in statuses.
const nodeAddr = "192.0.2.7"

// world is an Ingress on real sockets in front of an API that holds what the test puts there.
type world struct {
	t       *testing.T
	client  *fake.Clientset
	events  *record.FakeRecorder
	ingress *Ingress
	plain   string // host:port
	secure  string
	stop    func() // ends Run and waits for it
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	return newWorldWith(t, func(*Config) {}, objects...)
}

func newWorldWith(t *testing.T, change func(*Config), objects ...runtime.Object) *world {
	t.Helper()
	objects = append(objects, class("svcplane", "svcplane.io/ingress", true))
	w := &world{t: t, client: fake.NewClientset(objects...), events: record.NewFakeRecorder(1000)}
	factory := informers.NewSharedInformerFactory(w.client, 0)
	cat, err := catalog.New(factory)
	w.must(err)
	local := netip.MustParseAddrPort("127.0.0.1:0")
	cfg := Config{Client: w.client, Factory: factory, Catalog: cat, HTTP: local, HTTPS: local,
		Addresses: []netip.Addr{netip.MustParseAddr(nodeAddr)}, Recorder: w.events, DrainTimeout: 5 * time.Second}
	change(&cfg)
	w.ingress, err = New(cfg)
	w.must(err)
	w.must(w.ingress.Listen())
	plain, secure := w.ingress.Addrs()
	w.plain, w.secure = plain.String(), secure.String()
	ctx, cancel := context.WithCancel(context.Background())
	factory.Start(ctx.Done())
	var wg sync.WaitGroup
	wg.Go(func() { _ = cat.Run(ctx) }) // it returns nil or the end of ctx
	wg.Go(func() {
		if err := w.ingress.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.stop = func() {
		cancel()
		wg.Wait()
		factory.Shutdown()
	}
	t.Cleanup(w.stop)
	select {
	case <-w.ingress.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not ready after 20 s")
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// eventually polls until check returns nil.
func (w *world) eventually(check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	err := check()
	for ; err != nil && time.Now().Before(deadline); err = check() {
		time.Sleep(2 * time.Millisecond)
	}
	w.must(err)
}

// answers waits until a GET for host and path gives this code and a body that begins with want.
func (w *world) answers(host, path string, code int, want string) {
	w.t.Helper()
	w.eventually(func() error {
		resp, body := w.get(host, path)
		if resp.StatusCode != code || !strings.HasPrefix(body, want) {
			return fmt.Errorf("GET %s%s: %d %q, want %d %q", host, path, resp.StatusCode, body, code, want)
		}
		return nil
	})
}

func (w *world) get(host, path string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequest("GET", "http://"+w.plain, nil)
	w.must(err)
	decoded, err := url.PathUnescape(path)
	w.must(err)
	req.URL.Path, req.URL.RawPath = decoded, path
	req.Host = host
	return w.do(http.DefaultClient, req)
}

func (w *world) do(client *http.Client, req *http.Request) (*http.Response, string) {
	w.t.Helper()
	resp, err := client.Do(req)
	w.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	return resp, string(body)
}

// raw sends bytes and returns all that comes back until the connection ends or goes quiet.
func (w *world) raw(send string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.plain)
	w.must(err)
	defer c.Close()
	_, err = io.WriteString(c, send)
	w.must(err)
	w.must(c.SetReadDeadline(time.Now().Add(5 * time.Second)))
	got, _ := io.ReadAll(c) // a timeout is an answer, too: the test looks at what came
	return string(got)
}

func (w *world) event(want ...string) {
	w.t.Helper()
	deadline := time.After(15 * time.Second)
	var seen []string
	for {
		select {
		case e := <-w.events.Events:
			seen = append(seen, e)
			if containsAll(e, want) {
				return
			}
		case <-deadline:
			w.t.Fatalf("no event with %q; seen: %q", want, seen)
		}
	}
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

func ptr[T any](v T) *T { return &v }

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.Unix(1000, 0)}
}

func class(name, controller string, isDefault bool) *networkingv1.IngressClass {
	return &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: fmt.Sprint(isDefault)}},
		Spec:       networkingv1.IngressClassSpec{Controller: controller},
	}
}

// service has one port, "http" 80.
func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.99",
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
	}}
}

func serviceSpeaking(name, appProtocol string) *corev1.Service {
	s := service(name)
	s.Spec.Ports[0].AppProtocol = &appProtocol
	return s
}

// slice holds one ready endpoint of a Service. Its name is of the whole address: the same port may be free on several.
func slice(svc string, addr netip.AddrPort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(svc + "-" + strings.NewReplacer(".", "-", ":", "-").Replace(addr.String())), AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{addr.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}}},
		Ports:     []discoveryv1.EndpointPort{{Name: ptr("http"), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(int32(addr.Port()))}}}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: svc}
	return s
}

// path is a rule's line: service "name" or "name:port", where port is a name or 80.
func path(text string, kind networkingv1.PathType, service string) networkingv1.HTTPIngressPath {
	return networkingv1.HTTPIngressPath{Path: text, PathType: &kind, Backend: target(service)}
}

func target(service string) networkingv1.IngressBackend {
	name, port, _ := strings.Cut(service, ":")
	ref := networkingv1.ServiceBackendPort{Number: 80}
	if port != "" {
		ref = networkingv1.ServiceBackendPort{Name: port}
	}
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: ref}}
}

func rule(host string, paths ...networkingv1.HTTPIngressPath) networkingv1.IngressRule {
	return networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths}}}
}

func anIngress(name string, rules ...networkingv1.IngressRule) *networkingv1.Ingress {
	return &networkingv1.Ingress{ObjectMeta: meta(name), Spec: networkingv1.IngressSpec{Rules: rules}}
}

// toService sends everything of a host to a Service of the same name.
func toService(name string) *networkingv1.Ingress {
	return anIngress(name, rule(name, path("/", networkingv1.PathTypePrefix, name)))
}

// endpointServer runs handler on a loopback port until the test ends.
func endpointServer(t *testing.T, handler http.HandlerFunc) (*httptest.Server, netip.AddrPort) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s, addrOf(s.Listener)
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// says answers with a text and what was asked.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s", text, r.RequestURI)
	}
}

// tlsSecret is self-signed for hosts; its key is RSA or ECDSA.
func tlsSecret(t *testing.T, name string, useRSA bool, hosts ...string) *corev1.Secret {
	t.Helper()
	var signer interface {
		Public() any
	}
	var key any
	if useRSA {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, signer = k, publicOf{k.Public()}
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, signer = k, publicOf{k.Public()}
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var cert, pemKey bytes.Buffer
	_ = pem.Encode(&cert, &pem.Block{Type: "CERTIFICATE", Bytes: der})       // a buffer does not fail
	_ = pem.Encode(&pemKey, &pem.Block{Type: "PRIVATE KEY", Bytes: private}) // a buffer does not fail
	return &corev1.Secret{ObjectMeta: meta(name), Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert.Bytes(), corev1.TLSPrivateKeyKey: pemKey.Bytes()}}
}

type publicOf struct{ key any }

func (p publicOf) Public() any { return p.key }

// certFor is the common name of the certificate that a client with this SNI and TLS configuration gets.
func (w *world) certFor(sni string, change func(*tls.Config)) (string, error) {
	cfg := &tls.Config{ServerName: sni, InsecureSkipVerify: true}
	if change != nil {
		change(cfg)
	}
	c, err := tls.Dial("tcp", w.secure, cfg)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}
