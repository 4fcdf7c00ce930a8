package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"
)

// cluster is the API server that all contenders follow, and the Services in it.
type cluster struct {
	dir, ns    string
	server     *process
	client     kubernetes.Interface
	services   []string // ClusterIPs, by number
	generation map[int]int32
	endpoints  int // of each Service
	specials   []special
}

// Ports on which the pods answer: the first two say with a byte which one it is.
const (
	portOld      = 8080
	portNew      = 8081
	portStream   = 8082
	portExchange = 8083
	portDNS      = 8053
)

// Ports of the special Services.
const (
	dialStream   = 82
	dialExchange = 83
	dialDNS      = 53
)

const (
	endpoints     = 4  // of a Service
	manyEndpoints = 10 // when it comes to memory
)

// special is a Service that the others are measured through: a stream, exchanges over TCP and UDP, a NodePort.
type special struct {
	ip       string
	nodePort uint16 // of dialExchange
}

// specialServices are several, so that with rules in an order one stands near their middle.
const specialServices = 5

func newCluster(binary string) (*cluster, error) {
	dir, err := os.MkdirTemp("", "svcplane-bench.")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, ns: fmt.Sprintf("spb-%06x-api", rand.IntN(1<<24)), generation: map[int]int32{}, endpoints: endpoints}
	err = script(fmt.Sprintf("ip netns add %[1]s; ip -n %[1]s link set lo up; ip -n %[1]s link add br0 type bridge; ip -n %[1]s addr add %[2]s/24 dev br0; ip -n %[1]s link set br0 up", c.ns, apiAddr))
	if err != nil {
		return c, err
	}
	log := filepath.Join(dir, "server.log")
	if c.server, err = start(c.ns, log, binary, "server", "--data-dir", c.data(), "--node-ip", apiAddr, "--disable", "dns,ingress,proxy,node"); err != nil {
		return c, err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		text, _ := os.ReadFile(log)
		if strings.Contains(string(text), "svcplane ready") {
			break
		}
		if time.Now().After(deadline) || c.server.ended() {
			return c, fmt.Errorf("the API server did not come up:\n%s", text)
		}
	}
	// the administrator's file names the loopback address, which is another one in the contenders' namespaces
	text, err := os.ReadFile(filepath.Join(c.data(), "kubeconfig"))
	if err == nil {
		err = os.WriteFile(c.kubeconfig(), []byte(strings.ReplaceAll(string(text), "127.0.0.1", apiAddr)), 0o600)
	}
	if err != nil {
		return c, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig())
	if err != nil {
		return c, err
	}
	config.QPS, config.Burst = -1, -1
	config.Dial = func(_ context.Context, network, address string) (conn net.Conn, err error) {
		return conn, within(c.ns, func() error { conn, err = net.Dial(network, address); return err })
	}
	c.client, err = kubernetes.NewForConfig(config)
	return c, err
}

func (c *cluster) data() string       { return filepath.Join(c.dir, "data") }
func (c *cluster) kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

func (c *cluster) down() {
	if c.server != nil {
		if c.server.ended() {
			text, _ := os.ReadFile(filepath.Join(c.dir, "server.log"))
			fmt.Fprintf(os.Stderr, "bench: the API server ended early; it said:\n%.4000s\n", text)
			_ = os.WriteFile(filepath.Join(os.TempDir(), "svcplane-bench-server.log"), text, 0o600)
		}
		c.server.end()
	}
	_ = script("ip netns del " + c.ns)
	os.RemoveAll(c.dir)
}

// addNode makes the Node object that kube-proxy looks for.
func (c *cluster) addNode(ctx context.Context, name, ip string) error {
	nodes := c.client.CoreV1().Nodes()
	_, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/16", PodCIDRs: []string{"10.244.0.0/16"}}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := nodes.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: name}}
		_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err
	})
}

// grow makes Services until there are n.
func (c *cluster) grow(ctx context.Context, n int) error {
	from := len(c.services)
	c.services = append(c.services, make([]string, n-from)...)
	return inParallel(n-from, func(i int) error { return c.create(ctx, from+i) })
}

func inParallel(n int, f func(int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, 1)
	work := make(chan int)
	for range 4 { // more of them only wait for one another: ClusterIPs are allocated in one object
		wg.Go(func() {
			for i := range work {
				if err := f(i); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	close(errs)
	return <-errs
}

func serviceName(i int) string { return fmt.Sprintf("svc-%d", i) }

func (c *cluster) create(ctx context.Context, i int) error {
	svc, err := c.client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "main", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	c.services[i] = svc.Spec.ClusterIP
	_, err = c.client.DiscoveryV1().EndpointSlices("default").Create(ctx, c.slice(i, portOld), metav1.CreateOptions{})
	return err
}

// endpoint is the address of one of a Service's endpoints. No two Services have the same set of them.
func endpoint(i, j int) netip.Addr {
	n := (i + 3001*j) % 32000
	return netip.AddrFrom4([4]byte{10, 244, byte(n / 250), byte(1 + n%250)})
}

// slice is the endpoints of a Service, all on one port.
func (c *cluster) slice(i int, port int32) *discoveryv1.EndpointSlice {
	return c.sliceOf(serviceName(i), i, map[string]int32{"main": port})
}

// sliceOf gives a Service the i-th set of endpoints, under ports by name; the port for DNS is UDP's.
func (c *cluster) sliceOf(service string, i int, ports map[string]int32) *discoveryv1.EndpointSlice {
	ready := true
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "bench"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		port, protocol := ports[name], corev1.ProtocolTCP
		if port == portDNS {
			protocol = corev1.ProtocolUDP
		}
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &port})
	}
	for j := range c.endpoints {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{endpoint(i, j).String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return s
}

// firstSpecial is the set of endpoints of the first special Service: the others come before it.
const firstSpecial = 30000

func (c *cluster) createSpecials(ctx context.Context) error {
	for n := range specialServices {
		name := fmt.Sprintf("special-%d", n)
		svc, err := c.client.CoreV1().Services("default").Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{
				{Name: "exchange", Port: dialExchange, Protocol: corev1.ProtocolTCP},
				{Name: "stream", Port: dialStream, Protocol: corev1.ProtocolTCP},
				{Name: "dns", Port: dialDNS, Protocol: corev1.ProtocolUDP},
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		c.specials = append(c.specials, special{svc.Spec.ClusterIP, uint16(svc.Spec.Ports[0].NodePort)})
		ports := map[string]int32{"exchange": portExchange, "stream": portStream, "dns": portDNS}
		_, err = c.client.DiscoveryV1().EndpointSlices("default").Create(ctx, c.sliceOf(name, firstSpecial+n, ports), metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	return nil
}

// behind is the first endpoint of what answers at a ClusterIP and port: who dials that needs no Service.
func (c *cluster) behind(dialled netip.AddrPort) netip.AddrPort {
	ip := dialled.Addr().String()
	ports := map[uint16]uint16{dialExchange: portExchange, dialStream: portStream, dialDNS: portDNS}
	for n, s := range c.specials {
		if s.ip == ip {
			return netip.AddrPortFrom(endpoint(firstSpecial+n, 0), ports[dialled.Port()])
		}
	}
	i := slices.Index(c.services, ip)
	return netip.AddrPortFrom(endpoint(i, 0), uint16(c.portOf(i)))
}

// portOf is where the endpoints of a Service answer.
func (c *cluster) portOf(i int) int32 {
	if c.generation[i] == portNew {
		return portNew
	}
	return portOld
}

// letterOf is what its endpoints say.
func (c *cluster) letterOf(i int) byte {
	if c.portOf(i) == portNew {
		return 'n'
	}
	return 'o'
}

// move puts the endpoints of a Service on a port.
func (c *cluster) move(ctx context.Context, i int, port int32) error {
	_, err := c.client.DiscoveryV1().EndpointSlices("default").Update(ctx, c.slice(i, port), metav1.UpdateOptions{})
	c.generation[i] = port
	return err
}

// widen gives every Service many endpoints.
func (c *cluster) widen(ctx context.Context) error {
	c.endpoints = manyEndpoints
	return inParallel(len(c.services), func(i int) error {
		_, err := c.client.DiscoveryV1().EndpointSlices("default").Update(ctx, c.slice(i, c.portOf(i)), metav1.UpdateOptions{})
		return err
	})
}
