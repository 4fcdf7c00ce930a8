package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"svcplane/apiserver/store"
)

// TestServer starts the one API server that a process can have and looks at it from all sides.
func TestServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	p, err := EnsurePKI(filepath.Join(dir, "pki"), names("127.0.0.1"), names("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := store.Open(ctx, filepath.Join(dir, "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	network := &counting{Listener: listener}
	s, err := New(ctx, Config{
		PKI: p, Store: opened, Listener: network, Kubeconfig: kubeconfig,
		NodeIP: netip.MustParseAddr("192.0.2.1"), ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		NodePorts: "30000-32767", Domain: "cluster.local", KubeletPort: 10250,
	})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(runCtx) }()
	select {
	case <-s.Bootstrapped():
	case err := <-ended:
		t.Fatalf("ended before it served: %v", err)
	}

	if n := network.accepted.Load(); n != 0 {
		t.Errorf("the server came to itself over the network %d times: whoever has the port there keeps it from getting ready", n)
	}
	if info, err := os.Stat(kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	admin := kubernetes.NewForConfigOrDie(config)
	t.Run("serves the groups", func(t *testing.T) { checkGroups(t, admin) })
	t.Run("refuses strangers", func(t *testing.T) { checkStrangers(ctx, t, config) })
	t.Run("allocates from its ranges", func(t *testing.T) { checkAllocation(ctx, t, admin) })
	t.Run("says who carries out what it serves", func(t *testing.T) { checkResources(t, admin) })
	t.Run("warns of what nobody carries out", func(t *testing.T) { checkWarnings(ctx, t, config, s.Loopback()) })

	t.Run("follows the node", func(t *testing.T) { checkMove(ctx, t, s, p.dir, listener.Addr().String(), admin) })

	stop()
	if err := <-ended; err != nil {
		t.Errorf("stopping: %v", err)
	}
}

// checkMove gives the node another address.
func checkMove(ctx context.Context, t *testing.T, s *Server, pki, at string, client kubernetes.Interface) {
	to := netip.MustParseAddr("192.0.2.77")
	p, err := EnsurePKI(pki, names("192.0.2.77"), names("192.0.2.77"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetNodeIP(ctx, to); err != nil {
		t.Fatal(err)
	}
	endpoints, err := client.CoreV1().Endpoints("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || len(endpoints.Subsets) != 1 || len(endpoints.Subsets[0].Addresses) != 1 || endpoints.Subsets[0].Addresses[0].IP != to.String() {
		t.Errorf("default/kubernetes leads to %v, %v", endpoints.Subsets, err)
	}
	slice, err := client.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || len(slice.Endpoints) != 1 || slice.Endpoints[0].Addresses[0] != to.String() {
		t.Errorf("its slice: %v, %v", slice, err)
	}
	text, err := client.CoreV1().RESTClient().Get().AbsPath("/api").SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil || !strings.Contains(string(text), `"serverAddress":"192.0.2.77:`) {
		t.Errorf("GET /api: %s, %v", text, err)
	}
	ca, err := p.CA()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the listener is told by a queue
		conn, err := tls.Dial("tcp", at, &tls.Config{RootCAs: roots, ServerName: to.String()})
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the certificate is not for the new address: %v", err)
		}
	}
}

// counting counts who comes over the network.
type counting struct {
	net.Listener
	accepted atomic.Int32
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}

func checkGroups(t *testing.T, client kubernetes.Interface) {
	groups, err := client.Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, g := range groups.Groups {
		served[g.Name] = true
	}
	for _, want := range []string{
		"", "apps", "batch", "discovery.k8s.io", "networking.k8s.io", "rbac.authorization.k8s.io", "coordination.k8s.io",
		"events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "policy", "apiextensions.k8s.io",
		"admissionregistration.k8s.io", "autoscaling", "scheduling.k8s.io", "storage.k8s.io", "apiregistration.k8s.io",
	} {
		if !served[want] {
			t.Errorf("group %q is not served", want)
		}
	}
	for _, off := range []string{"resource.k8s.io", "flowcontrol.apiserver.k8s.io"} {
		if served[off] {
			t.Errorf("group %q is served", off)
		}
	}
}

func checkStrangers(ctx context.Context, t *testing.T, config *rest.Config) {
	stranger := kubernetes.NewForConfigOrDie(rest.AnonymousClientConfig(config))
	if _, err := stranger.CoreV1().Pods("default").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("without a certificate: %v, want forbidden by RBAC", err)
	}
	wrong := rest.AnonymousClientConfig(config)
	wrong.BearerToken = "guess"
	if _, err := kubernetes.NewForConfigOrDie(wrong).CoreV1().Pods("default").List(ctx, metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("with a wrong token: %v, want unauthorized", err)
	}
}

func checkAllocation(ctx context.Context, t *testing.T, client kubernetes.Interface) {
	kubernetesService, err := client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || kubernetesService.Spec.ClusterIP != "10.96.0.1" {
		t.Errorf("default/kubernetes: %v, %v", kubernetesService, err)
	}
	svc, err := client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr(svc.Spec.ClusterIP)
	if port := svc.Spec.Ports[0].NodePort; !netip.MustParsePrefix("10.96.0.0/16").Contains(ip) || port < 30000 || port > 32767 {
		t.Errorf("allocated %s and %d", ip, port)
	}
}
