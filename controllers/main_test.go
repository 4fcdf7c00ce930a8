package controllers_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"svcplane/apiserver"
	"svcplane/apiserver/store"
	"svcplane/controllers"
	"svcplane/listeners"
)

// world is one API server with the controllers at work on it. There is one per process: upstream's scheme and feature
// gates are global.
type world struct {
	client kubernetes.Interface
	cfg    controllers.Config
	ctrl   *controllers.Controllers

	kubeconfig string // of an administrator, over TLS

	tookReady time.Duration // from the API being ready
}

const (
	nodeName = "n1"
	nodeAddr = "192.0.2.10"
	deadline = 30 * time.Second
)

var shared *world // written by TestMain only

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controllers:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "spt-controllers-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	opened, err := store.Open(ctx, filepath.Join(dir, "store"), nil)
	if err != nil {
		cancel()
		return 1, err
	}
	defer opened.Close()
	server, cfg, err := serve(ctx, dir, opened)
	if err != nil {
		cancel()
		return 1, err
	}
	if shared, err = control(ctx, cfg); err != nil {
		cancel()
		return 1, err
	}
	shared.kubeconfig = filepath.Join(dir, "kubeconfig")
	ended := make(chan error, 2)
	go func() { ended <- server.Run(ctx) }()
	<-server.Ready()
	go func() { ended <- shared.ctrl.Run(ctx) }()
	if err = shared.begin(ctx); err == nil {
		code = m.Run()
	}
	cancel()
	for range cap(ended) {
		if stopErr := <-ended; err == nil && stopErr != nil {
			err = fmt.Errorf("stopping: %w", stopErr)
		}
	}
	return code, err
}

func serve(ctx context.Context, dir string, opened *store.Store) (*apiserver.Server, controllers.Config, error) {
	var none controllers.Config
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, none, err
	}
	local := apiserver.Names{DNS: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	pki, err := apiserver.EnsurePKI(filepath.Join(dir, "pki"), local, local)
	if err != nil {
		return nil, none, err
	}
	server, err := apiserver.New(ctx, apiserver.Config{
		PKI: pki, Store: opened, Listener: l, Kubeconfig: filepath.Join(dir, "kubeconfig"),
		NodeIP: netip.MustParseAddr(nodeAddr), ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		NodePorts: "30000-32767", Domain: "cluster.local", KubeletPort: 10250,
	})
	if err != nil {
		return nil, none, err
	}
	ca, err := pki.CA()
	if err != nil {
		return nil, none, err
	}
	key, err := pki.ServiceAccountKey()
	if err != nil {
		return nil, none, err
	}
	cert, certKey := pki.CAFiles()
	return server, controllers.Config{
		RestConfig: server.Loopback(), Factory: server.Informers(), RootCA: ca, ServiceAccountKey: key,
		ClientCA: controllers.ClientCA{Certificate: cert, Key: certKey},
		NodeName: nodeName, NodeAddrs: []netip.Addr{netip.MustParseAddr(nodeAddr)},
		Own:          listeners.Set{{At: netip.MustParseAddrPort("0.0.0.0:80"), Protocol: corev1.ProtocolTCP, Owner: "the ingress", Flag: "ingress-http"}},
		DNSAddrs:     []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		IngressClass: true, VolumesDir: filepath.Join(dir, "volumes"),
	}, nil
}

func control(ctx context.Context, cfg controllers.Config) (*world, error) {
	client, err := kubernetes.NewForConfig(cfg.RestConfig)
	if err != nil {
		return nil, err
	}
	cfg.Client, cfg.Broadcaster = client, record.NewBroadcaster(record.WithContext(ctx))
	cfg.Broadcaster.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: client.CoreV1().Events("")})
	c, err := controllers.New(ctx, cfg)
	return &world{client: client, cfg: cfg, ctrl: c}, err
}

// begin waits for the controllers and gives them a node.
func (w *world) begin(ctx context.Context) error {
	start := time.Now()
	select {
	case <-w.ctrl.Ready():
		w.tookReady = time.Since(start)
	case <-time.After(deadline):
		return fmt.Errorf("the controllers were not ready after %s", deadline)
	}
	return w.addNode(ctx)
}

// addNode registers a node that nothing runs on: pods are bound to it and stay Pending.
func (w *world) addNode(ctx context.Context) error {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelHostname: nodeName}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("500"),
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	_, err := w.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
	return err
}

// namespace makes one for the test.
func namespace(t *testing.T) string {
	t.Helper()
	ns, err := shared.client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// eventually polls until look returns "", and fails with what it returned last.
func eventually(t *testing.T, look func(ctx context.Context) string) {
	t.Helper()
	var last string
	err := wait.PollUntilContextTimeout(t.Context(), 2*time.Millisecond, deadline, true, func(ctx context.Context) (bool, error) {
		last = look(ctx)
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("after %s: %s", deadline, last)
	}
}
