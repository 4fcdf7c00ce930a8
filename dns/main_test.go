package dns

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"svcplane/catalog"
)

const ownNetns = "SVCPLANE_DNS_TEST_NETNS"

// ownLookup makes the test binary a client that prints the addresses of a name as Go's own resolver finds them.
const ownLookup = "SVCPLANE_DNS_TEST_LOOKUP"

func lookup(name string) int {
	addrs, err := (&net.Resolver{PreferGo: true}).LookupHost(context.Background(), name)
	var absent *net.DNSError
	if err != nil && !(errors.As(err, &absent) && absent.IsNotFound) {
		fmt.Println(err)
		return 1
	}
	for _, addr := range addrs {
		fmt.Println(addr)
	}
	return 0
}

// TestMain runs the tests once more inside a network namespace of their own: they make links and bind port 53.
// It goes away with the process. A fuzzing run stays where it is, it opens no sockets.
func TestMain(m *testing.M) {
	if os.Getenv(ownLookup) != "" {
		os.Exit(lookup(os.Args[len(os.Args)-1]))
	}
	flag.Parse()
	if os.Getenv(ownNetns) == "" && os.Getuid() == 0 && flag.Lookup("test.fuzz").Value.String() == "" && flag.Lookup("test.fuzzworker").Value.String() != "true" {
		cmd := exec.Command(os.Args[0], os.Args[1:]...)
		cmd.Env = append(os.Environ(), ownNetns+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, "tests in a network namespace:", err)
			os.Exit(2)
		}
		os.Exit(cmd.ProcessState.ExitCode())
	}
	if os.Getenv(ownNetns) != "" {
		if lo, err := netlink.LinkByName("lo"); err != nil || netlink.LinkSetUp(lo) != nil {
			fmt.Fprintln(os.Stderr, "the loopback link cannot be set up:", err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}

// needNetns skips where the tests could not get a namespace of their own.
func needNetns(t testing.TB) {
	t.Helper()
	if os.Getenv(ownNetns) == "" {
		t.Fatal("run as root, as make test does: needs it for a network namespace")
	}
}

func service(name string, edit func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	if edit != nil {
		edit(svc)
	}
	return svc
}

func clusterIP(name string, ips ...string) *corev1.Service {
	return service(name, func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = ips[0], ips
		s.Spec.Ports = []corev1.ServicePort{
			{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP},
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
		}
	})
}

func headless(name string) *corev1.Service {
	return service(name, func(s *corev1.Service) {
		s.Spec.ClusterIP = corev1.ClusterIPNone
		s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	})
}

func externalName(name, target string) *corev1.Service {
	return service(name, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, target
	})
}

// host is one endpoint of a slice.
func host(hostname string, ready bool, addr string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	if hostname != "" {
		e.Hostname = &hostname
	}
	return e
}

// slice makes the EndpointSlice of a Service with one port http 8080/TCP.
func slice(svc string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	name, port, proto := "http", int32(8080), corev1.ProtocolTCP
	family := discoveryv1.AddressTypeIPv4
	if len(endpoints) > 0 && netip.MustParseAddr(endpoints[0].Addresses[0]).Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: svc + "-" + string(family), Labels: map[string]string{discoveryv1.LabelServiceName: svc}},
		AddressType: family, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
	}
}

// fixture is a server that follows a fake API.
type fixture struct {
	*Server
	client  *fake.Clientset
	catalog *catalog.Catalog
	start   func() // lets the catalog become ready
}

// newFixture makes a server over the given API objects; nothing runs yet.
func newFixture(t testing.TB, cfg Config, objects ...runtime.Object) *fixture {
	t.Helper()
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	cat, err := catalog.New(factory)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Catalog = cat
	if cfg.Addrs == nil {
		cfg.Addrs = []netip.Addr{netip.MustParseAddr("10.96.0.10")}
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	return &fixture{Server: s, client: client, catalog: cat, start: func() {
		factory.Start(ctx.Done())
		go func() { _ = cat.Run(ctx) }()
	}}
}

// synced makes a server whose zone holds the objects; its sockets stay closed.
func synced(t testing.TB, cfg Config, objects ...runtime.Object) *fixture {
	t.Helper()
	f := newFixture(t, cfg, objects...)
	f.start()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.follow(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	wait(t, "the zone to be synced", func() bool { return f.isSynced.Load() })
	return f
}

// wait polls until ok, for a minute at most.
func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// ask puts a question to the message path, as from a TCP client.
func (f *fixture) ask(t testing.TB, name string, typ uint16, edit ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	return f.exchange(t, true, name, typ, edit...)
}

func (f *fixture) exchange(t testing.TB, tcp bool, name string, typ uint16, edit ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	query := new(dns.Msg)
	query.SetQuestion(dns.Fqdn(name), typ)
	for _, e := range edit {
		e(query)
	}
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply, later := f.respond(nil, wire, new(scratch), tcp)
	if later {
		reply = f.wait(t.Context(), wire, netip.MustParseAddr("10.244.0.9"), tcp)
	}
	m := new(dns.Msg)
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("%s %s: the reply does not parse: %v\n%x", name, dns.TypeToString[typ], err, reply)
	}
	if m.Id != query.Id || !m.Response {
		t.Fatalf("%s: id %d, response %t", name, m.Id, m.Response)
	}
	return m
}
