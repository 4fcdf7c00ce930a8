package iptables

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// rig is a proxy on a real kernel that follows an API without a server.
type rig struct {
	*proxy.Proxy
	t      *testing.T
	lab    *proxytest.Lab
	api    *fake.Clientset
	cat    *catalog.Catalog
	events *record.FakeRecorder
	stop   func()
}

// start runs a proxy until stop, or the end of the test.
func start(t *testing.T, lab *proxytest.Lab, api *fake.Clientset, plane proxy.Dataplane, period time.Duration) *rig {
	t.Helper()
	factory := informers.NewSharedInformerFactory(api, 0)
	cat, err := catalog.New(factory)
	must(t, err)
	r := &rig{t: t, lab: lab, api: api, cat: cat, events: record.NewFakeRecorder(100)}
	r.Proxy, err = proxy.New(proxy.Config{
		Catalog: cat, Dataplane: plane, Node: lab.Node, Recorder: r.events, ComparePeriod: period, LoopbackNodePorts: true,
		Health: netip.MustParseAddrPort("127.0.0.1:10256"), Nodes: factory.Core().V1().Nodes().Informer(),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	factory.Start(ctx.Done())
	done := make(chan error, 2)
	go func() { done <- cat.Run(ctx) }()
	go func() { done <- r.Run(ctx) }()
	var stopped atomic.Bool
	r.stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		}
		factory.Shutdown()
	}
	t.Cleanup(r.stop)
	select {
	case <-r.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy did not become ready")
	}
	return r
}

// until waits for something that must come. After a comparison the Proxy pauses twenty times as long as that took, and
// on a busy machine it takes a second.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func service(name, clusterIP string, protocol corev1.Protocol) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: clusterIP, ClusterIPs: []string{clusterIP}, Selector: map[string]string{"app": name},
			Ports: []corev1.ServicePort{{Name: "main", Protocol: protocol, Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}
}

func slice(lab *proxytest.Lab, name string, protocol corev1.Protocol, pods ...string) *discoveryv1.EndpointSlice {
	port, portName := int32(8080), "main"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Protocol: &protocol, Port: &port}},
	}
	for _, pod := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{lab.Hosts[pod].IPv4.String()}})
	}
	return s
}

func (r *rig) create(name, clusterIP string, protocol corev1.Protocol, pods ...string) {
	r.t.Helper()
	_, err := r.api.CoreV1().Services("default").Create(r.t.Context(), service(name, clusterIP, protocol), metav1.CreateOptions{})
	must(r.t, err)
	_, err = r.api.DiscoveryV1().EndpointSlices("default").Create(r.t.Context(), slice(r.lab, name, protocol, pods...), metav1.CreateOptions{})
	must(r.t, err)
}

func (r *rig) endpoints(name string, protocol corev1.Protocol, pods ...string) {
	r.t.Helper()
	_, err := r.api.DiscoveryV1().EndpointSlices("default").Update(r.t.Context(), slice(r.lab, name, protocol, pods...), metav1.UpdateOptions{})
	must(r.t, err)
}

func (r *rig) delete(name string) {
	r.t.Helper()
	must(r.t, r.api.CoreV1().Services("default").Delete(r.t.Context(), name, metav1.DeleteOptions{}))
	must(r.t, r.api.DiscoveryV1().EndpointSlices("default").Delete(r.t.Context(), name, metav1.DeleteOptions{}))
}

func address(text string, protocol corev1.Protocol) proxy.Address {
	return proxy.Address{AddrPort: netip.MustParseAddrPort(text), Protocol: protocol}
}

// answers says whether a dial from the host met the named one; "refused" and "dropped" are names too.
func (r *rig) answers(from string, to proxy.Address, name string) func() bool {
	return func() bool {
		got, err := r.lab.Hosts[from].Dial(to)
		must(r.t, err)
		return got.Name == name || got.Refused && name == "refused" || got.Dropped && name == "dropped"
	}
}

func TestServicesComeAndGo(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			lab := proxytest.NewLab(t)
			plane := open(t, lab, variant)
			r := start(t, lab, fake.NewClientset(), plane, time.Hour)
			web := address("10.96.0.5:80", corev1.ProtocolTCP)
			r.until("refusal before there is a service", r.answers("node", web, "refused"))
			r.create("web", "10.96.0.5", corev1.ProtocolTCP, "a")
			r.until("an answer", r.answers("client", web, "a"))
			// the kernel answers a moment before the count is up to date
			r.until("the figure", func() bool { return r.Figure() == "1 services, 1 endpoints" })
			r.endpoints("web", corev1.ProtocolTCP, "b")
			r.until("an answer of the new endpoint", r.answers("c", web, "b"))
			r.endpoints("web", corev1.ProtocolTCP)
			r.until("refusal without endpoints", r.answers("c", web, "refused"))
			if len(r.Table().Frontends) != 1 {
				t.Errorf("the table is\n%s", r.Table())
			}
			r.delete("web")
			r.until("an empty table", func() bool { return len(r.Table().Frontends) == 0 })
			r.until("refusal after deletion", r.answers("node", web, "refused"))
			if lines, err := r.Diff(t.Context()); err != nil || len(lines) > 0 {
				t.Errorf("the kernel differs: %v %v", lines, err)
			}
		})
	}
}

// TestUDPFollows holds one socket open, as a resolver or a game does, while its endpoint changes.
func TestUDPFollows(t *testing.T) {
	lab := proxytest.NewLab(t)
	r := start(t, lab, fake.NewClientset(), open(t, lab, NFT), time.Hour)
	r.create("dns", "10.96.0.9", corev1.ProtocolUDP, "a")
	r.until("an answer", r.answers("c", address("10.96.0.9:80", corev1.ProtocolUDP), "a"))
	var conn net.Conn
	var err error
	must(t, lab.Hosts["c"].Do(func() { conn, err = net.Dial("udp", "10.96.0.9:80") }))
	must(t, err)
	defer conn.Close()
	met := func(name string) func() bool {
		return func() bool {
			_, _ = conn.Write([]byte("hello")) // a refusal of the last one shows here, and a drop in what is read
			got, err := proxytest.Receive(conn)
			must(t, err)
			return got.Name == name || name == "refused" && got.Refused
		}
	}
	r.until("an answer on the socket", met("a"))
	r.endpoints("dns", corev1.ProtocolUDP, "b")
	r.until("an answer of the new endpoint", met("b"))
	r.endpoints("dns", corev1.ProtocolUDP)
	r.until("refusal without endpoints", met("refused"))
	r.endpoints("dns", corev1.ProtocolUDP, "a")
	r.until("an answer of the first again", met("a"))
	r.delete("dns")
	r.until("refusal after deletion", met("refused"))
}

// TestRestartIsNotNoticed restarts the proxy while a client dials all the time, and Services come and go meanwhile.
func TestRestartIsNotNoticed(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			lab := proxytest.NewLab(t)
			api := fake.NewClientset()
			r := start(t, lab, api, open(t, lab, variant), time.Hour)
			r.create("stays", "10.96.0.5", corev1.ProtocolTCP, "a", "b")
			r.create("goes", "10.96.0.6", corev1.ProtocolTCP, "a")
			stays, goes, comes := address("10.96.0.5:80", corev1.ProtocolTCP), address("10.96.0.6:80", corev1.ProtocolTCP), address("10.96.0.7:80", corev1.ProtocolTCP)
			r.until("an answer", r.answers("c", stays, "a"))
			r.until("an answer", r.answers("c", goes, "a"))

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dialled, failed := make(chan int), make(chan string, 1)
			go func() {
				count := 0
				for ; ctx.Err() == nil; count++ {
					if got, err := lab.Hosts["c"].Dial(stays); err != nil || got.Name == "" {
						select {
						case failed <- got.String():
						default:
						}
					}
				}
				dialled <- count
			}()
			r.stop()
			r.delete("goes")
			r.create("comes", "10.96.0.7", corev1.ProtocolTCP, "b")
			r.until("the rules answer without the process", r.answers("c", goes, "a"))
			r = start(t, lab, api, open(t, lab, variant), time.Hour)
			r.until("refusal of what is gone", r.answers("c", goes, "refused"))
			r.until("an answer of what is new", r.answers("c", comes, "b"))
			cancel()
			if count := <-dialled; count < 3 {
				t.Errorf("only %d connections were made meanwhile", count)
			}
			select {
			case what := <-failed:
				t.Errorf("a connection met: %s", what)
			default:
			}
		})
	}
}

// TestTheCulpritIsIsolated puts a Service that this kernel cannot serve among others, in one batch at the
// start and alone later.
func TestTheCulpritIsIsolated(t *testing.T) {
	lab := proxytest.NewLab(t)
	api := fake.NewClientset()
	seed := &rig{t: t, lab: lab, api: api}
	for i, name := range []string{"one", "two", "three", "four", "five"} {
		seed.create(name, netip.AddrFrom4([4]byte{10, 96, 0, byte(1 + i)}).String(), corev1.ProtocolTCP, "a")
	}
	bad := service("bad", "fd00:96::5", corev1.ProtocolTCP)
	_, err := api.CoreV1().Services("default").Create(t.Context(), bad, metav1.CreateOptions{})
	must(t, err)
	plane, err := New(Config{PodCIDRs: lab.Node.PodCIDRs, ServiceCIDRs: lab.Node.ServiceCIDRs, Variant: NFT})
	must(t, err)
	t.Cleanup(func() { must(t, plane.Close(context.Background())) })
	r := start(t, lab, api, plane, time.Hour)
	for _, ip := range []string{"10.96.0.1:80", "10.96.0.3:80", "10.96.0.5:80"} {
		r.until("an answer of its neighbour", r.answers("c", address(ip, corev1.ProtocolTCP), "a"))
	}
	select {
	case event := <-r.events.Events:
		if !strings.Contains(event, "ProxySyncFailed") || !strings.Contains(event, "IPv6 off") {
			t.Errorf("the event is %q", event)
		}
	case <-time.After(10 * time.Second):
		t.Error("no event was written")
	}
	bad.Spec.ClusterIP, bad.Spec.ClusterIPs = "10.96.0.9", []string{"10.96.0.9"}
	_, err = api.CoreV1().Services("default").Update(t.Context(), bad, metav1.UpdateOptions{})
	must(t, err)
	r.until("the mended service in the table", func() bool {
		return slices.ContainsFunc(r.Table().Frontends, func(f proxy.Frontend) bool { return f.Service.Name == "bad" })
	})
}

func TestDriftGoesAwayByItself(t *testing.T) {
	lab := proxytest.NewLab(t)
	r := start(t, lab, fake.NewClientset(), open(t, lab, NFT), 100*time.Millisecond)
	web := address("10.96.0.5:80", corev1.ProtocolTCP)
	r.create("web", "10.96.0.5", corev1.ProtocolTCP, "a")
	r.until("an answer", r.answers("c", web, "a"))
	run(t, "iptables-nft", "-t", "nat", "-F")
	r.until("repair", r.answers("c", web, "a"))
	run(t, "iptables-nft", "-t", "nat", "-F")
	if lines, err := r.Repair(t.Context()); err != nil {
		t.Errorf("repairing: %v %v", lines, err)
	}
	if !r.answers("c", web, "a")() {
		t.Error("no answer after the repair that was asked for")
	}
}
