package iptables

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

func hints(zone string) *discoveryv1.EndpointHints {
	return &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
}

// event waits for one that has these words.
func (r *rig) event(words ...string) {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case event := <-r.events.Events:
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(event, w) }) {
				return
			}
		case <-deadline:
			r.t.Errorf("no event with %q was written", words)
			return
		}
	}
}

// TestTheNodeObjectCounts: its zone decides where hinted endpoints are used, and its end what load balancers hear.
func TestTheNodeObjectCounts(t *testing.T) {
	lab := proxytest.NewLab(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: lab.Node.Name, Labels: map[string]string{corev1.LabelTopologyZone: "zone-a"}}}
	api := fake.NewClientset(node)
	r := start(t, lab, api, open(t, lab, NFT), time.Hour)
	r.create("web", "10.96.0.5", corev1.ProtocolTCP, "a", "b")
	hinted := slice(lab, "web", corev1.ProtocolTCP, "a", "b")
	hinted.Endpoints[0].Hints = hints("zone-a")
	hinted.Endpoints[1].Hints = hints("zone-b")
	_, err := api.DiscoveryV1().EndpointSlices("default").Update(t.Context(), hinted, metav1.UpdateOptions{})
	must(t, err)
	web := address("10.96.0.5:80", corev1.ProtocolTCP)
	only := func(name string) func() bool {
		return func() bool {
			for range 40 { // it is tried many times
				if !r.answers("c", web, name)() {
					return false
				}
			}
			return true
		}
	}
	r.until("answers of zone a only", only("a"))
	status := func(path string) int {
		resp, err := http.Get("http://127.0.0.1:10256" + path)
		must(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := status("/healthz"); got != http.StatusOK {
		t.Errorf("/healthz is %d", got)
	}
	node = node.DeepCopy()
	node.Labels[corev1.LabelTopologyZone] = "zone-b"
	node.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}
	_, err = api.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{})
	must(t, err)
	r.until("answers of zone b only", only("b"))
	r.until("the node is not eligible", func() bool { return status("/healthz") == http.StatusServiceUnavailable })
	if got := status("/livez"); got != http.StatusOK {
		t.Errorf("/livez is %d of a node that is going away", got)
	}
	r.stop()
	if _, err := http.Get("http://127.0.0.1:10256/livez"); err == nil {
		t.Error("the health port is open after the end")
	}
}

// TestNodePortsBesideProcesses: on loopback by request, reported where a process has the port.
func TestNodePortsBesideProcesses(t *testing.T) {
	lab := proxytest.NewLab(t)
	api := fake.NewClientset()
	r := start(t, lab, api, open(t, lab, NFT), time.Hour)
	l, err := net.Listen("tcp", lab.Node.Addrs[0].String()+":30081")
	must(t, err)
	defer l.Close()
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		svc := service("web-"+strings.ToLower(string(protocol)), map[corev1.Protocol]string{corev1.ProtocolTCP: "10.96.0.5", corev1.ProtocolUDP: "10.96.0.6"}[protocol], protocol)
		svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
		_, err := api.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{})
		must(t, err)
		s := slice(lab, svc.Name, protocol, "a")
		_, err = api.DiscoveryV1().EndpointSlices("default").Create(t.Context(), s, metav1.CreateOptions{})
		must(t, err)
		at := proxy.Address{AddrPort: address("127.0.0.1:30080", protocol).AddrPort, Protocol: protocol}
		// a listener in user space accepts before it knows whether anybody is there, and resets then
		meets := func(name string) func() bool {
			return func() bool {
				got, err := lab.Hosts["node"].Dial(at)
				return err == nil && (got.Name == name || name == "refused" && got.Refused)
			}
		}
		r.until("an answer on loopback", meets("a"))
		must(t, api.CoreV1().Services("default").Delete(t.Context(), svc.Name, metav1.DeleteOptions{}))
		r.until("refusal on loopback", meets("refused"))
	}
	taken := service("taken", "10.96.0.7", corev1.ProtocolTCP)
	taken.Spec.Type, taken.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30081
	_, err = api.CoreV1().Services("default").Create(t.Context(), taken, metav1.CreateOptions{})
	must(t, err)
	r.event("NodePortInUse", "192.0.2.1:30081/TCP")
}

// TestHealthCheckNodePort asks as a load balancer does.
func TestHealthCheckNodePort(t *testing.T) {
	lab := proxytest.NewLab(t)
	api := fake.NewClientset()
	r := start(t, lab, api, open(t, lab, NFT), time.Hour)
	svc := service("web", "10.96.0.5", corev1.ProtocolTCP)
	svc.Spec.Type, svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, 30099
	_, err := api.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{})
	must(t, err)
	is := func(status int, weight string) func() bool {
		return func() bool {
			resp, err := http.Get("http://192.0.2.1:30099/")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == status && resp.Header.Get("X-Load-Balancing-Endpoint-Weight") == weight
		}
	}
	r.until("nobody is here", is(http.StatusServiceUnavailable, "0"))
	s := slice(lab, "web", corev1.ProtocolTCP, "a", "b", "c")
	here, there := "node", "other"
	s.Endpoints[0].NodeName, s.Endpoints[1].NodeName, s.Endpoints[2].NodeName = &here, &here, &there
	_, err = api.DiscoveryV1().EndpointSlices("default").Create(t.Context(), s, metav1.CreateOptions{})
	must(t, err)
	r.until("two are here", is(http.StatusOK, "2"))
	must(t, api.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	r.until("the port is closed", func() bool {
		_, err := http.Get("http://192.0.2.1:30099/")
		return err != nil
	})
}

// TestCounts holds connections open and looks at what passed over them.
func TestCounts(t *testing.T) {
	lab := proxytest.NewLab(t)
	r := start(t, lab, fake.NewClientset(), open(t, lab, NFT), time.Hour)
	r.create("web", "10.96.0.5", corev1.ProtocolUDP, "a")
	must(t, r.Count(true))
	r.until("an answer", r.answers("c", address("10.96.0.5:80", corev1.ProtocolUDP), "a"))
	counts, err := r.Counts(t.Context())
	must(t, err)
	i := slices.IndexFunc(counts, func(c proxy.Tally) bool {
		return c.Origin == "default/web:main" && c.Endpoint.Addr() == lab.Hosts["a"].IPv4
	})
	if i < 0 || counts[i].Open == 0 || counts[i].Sent.Packets+counts[i].Received.Packets < 2 || counts[i].Sent.Bytes+counts[i].Received.Bytes < 50 {
		t.Errorf("counted %+v", counts)
	}
	must(t, r.Count(false))
}
