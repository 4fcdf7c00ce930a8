package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	_ "net/http/pprof" // on -pprof only
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
	"svcplane/ingress"
)

type options struct {
	http, https, endpoint, grpc, ws, cert, key, pprof string
	policy                                            bool
	routes                                            int
}

func main() {
	var o options
	flag.StringVar(&o.http, "http", "127.0.0.1:8080", "where to listen for HTTP")
	flag.StringVar(&o.https, "https", "127.0.0.1:8443", "where to listen for HTTPS")
	flag.StringVar(&o.endpoint, "endpoint", "127.0.0.1:9000", "endpoint that speaks HTTP/1.1")
	flag.StringVar(&o.grpc, "grpc", "", "endpoint that speaks h2c, for host grpc.test")
	flag.StringVar(&o.ws, "ws", "", "endpoint that speaks WebSocket, for /ws of host h0.test")
	flag.BoolVar(&o.policy, "policy", false, "give h0.test a rewrite, CORS, a session cookie and headers")
	flag.StringVar(&o.cert, "cert", "", "certificate for host h0.test; one is made if it is not given")
	flag.StringVar(&o.key, "key", "", "its key")
	flag.StringVar(&o.pprof, "pprof", "", "where to serve profiles")
	flag.IntVar(&o.routes, "routes", 1, "how many hosts h0.test, h1.test, …")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "front:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	objects, err := world(o)
	if err != nil {
		return err
	}
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	cat, err := catalog.New(factory)
	if err != nil {
		return err
	}
	plain, err := netip.ParseAddrPort(o.http)
	if err != nil {
		return err
	}
	secure, err := netip.ParseAddrPort(o.https)
	if err != nil {
		return err
	}
	i, err := ingress.New(ingress.Config{Client: client, Factory: factory, Catalog: cat, HTTP: plain, HTTPS: secure,
		Recorder: record.NewFakeRecorder(1), MaxPerClient: 16384, DrainTimeout: time.Second})
	if err != nil {
		return err
	}
	if o.pprof != "" {
		go func() { _ = http.ListenAndServe(o.pprof, nil) }()
	}
	factory.Start(ctx.Done())
	go func() { _ = cat.Run(ctx) }()
	go func() {
		<-i.Ready()
		fmt.Println("serving", i.Figure())
	}()
	return i.Run(ctx)
}

// world is one Ingress per host, all to one Service.
func world(o options) ([]runtime.Object, error) {
	objects := []runtime.Object{&networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: "svcplane", Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}},
		Spec:       networkingv1.IngressClassSpec{Controller: "svcplane.io/ingress"},
	}}
	for i := range o.routes {
		ing := ingressFor(fmt.Sprintf("h%d", i), fmt.Sprintf("h%d.test", i), "web")
		if i == 0 && o.policy {
			ing.Annotations = map[string]string{"svcplane.io/rewrite-target": "/", "svcplane.io/enable-cors": "true", "svcplane.io/affinity": "cookie",
				"svcplane.io/request-headers": "X-From: ingress", "svcplane.io/response-headers": "X-Frame-Options: DENY\nX-Content-Type-Options: nosniff"}
		}
		if i == 0 {
			ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"h0.test"}, SecretName: "cert"}}
		}
		objects = append(objects, ing)
	}
	local := ingressFor("localhost", "localhost", "web") // for clients that cannot name a host that does not exist
	local.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"localhost"}, SecretName: "cert"}}
	objects = append(objects, local)
	endpoints, err := serviceAt("web", o.endpoint, "")
	if err != nil {
		return nil, err
	}
	objects = append(objects, endpoints...)
	if o.grpc != "" {
		endpoints, err := serviceAt("grpc", o.grpc, "kubernetes.io/h2c")
		if err != nil {
			return nil, err
		}
		objects = append(append(objects, endpoints...), ingressFor("grpc", "grpc.test", "grpc"))
	}
	if o.ws != "" {
		endpoints, err := serviceAt("talk", o.ws, "kubernetes.io/ws")
		if err != nil {
			return nil, err
		}
		ing := ingressFor("talk", "h0.test", "talk")
		ing.Spec.Rules[0].HTTP.Paths[0].Path = "/ws"
		objects = append(append(objects, endpoints...), ing)
	}
	secret, err := certificate(o)
	if err != nil {
		return nil, err
	}
	return append(objects, secret), nil
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.Unix(1000, 0)}
}

func ingressFor(name, host, service string) *networkingv1.Ingress {
	prefix := networkingv1.PathTypePrefix
	return &networkingv1.Ingress{ObjectMeta: meta(name), Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
		Host: host,
		IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path: "/", PathType: &prefix,
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}},
		}}}},
	}}}}
}

func serviceAt(name, addr, appProtocol string) ([]runtime.Object, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	port, ready, http := int32(at.Port()), true, "http"
	svc := &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.9",
		Ports: []corev1.ServicePort{{Name: http, Port: 80, AppProtocol: &appProtocol}}}}
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(name), AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:     []discoveryv1.EndpointPort{{Name: &http, Port: &port}}}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	return []runtime.Object{svc, s}, nil
}

func certificate(o options) (*corev1.Secret, error) {
	s := &corev1.Secret{ObjectMeta: meta("cert"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{}}
	if o.cert != "" {
		var err error
		if s.Data[corev1.TLSCertKey], err = os.ReadFile(o.cert); err != nil {
			return nil, err
		}
		s.Data[corev1.TLSPrivateKeyKey], err = os.ReadFile(o.key)
		return s, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "h0.test"}, DNSNames: []string{"h0.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	s.Data[corev1.TLSCertKey] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.Data[corev1.TLSPrivateKeyKey] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return s, nil
}
