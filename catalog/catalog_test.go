package catalog

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

func service(name string, mutate ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeClusterIP,
			ClusterIP:  "10.96.0.5",
			ClusterIPs: []string{"10.96.0.5"},
			Ports:      []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
	for _, m := range mutate {
		m(svc)
	}
	return svc
}

func slice(name, svc string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: svc}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
		Endpoints:   endpoints,
	}
}

func endpoint(addr string, ready, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{addr},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: &terminating},
	}
}

func TestBuildResolvesConditionsAndPorts(t *testing.T) {
	nilConditions := discoveryv1.Endpoint{Addresses: []string{"10.244.0.9"}}
	s := Build(service("web"), []*discoveryv1.EndpointSlice{
		slice("b", "web", endpoint("10.244.0.3", false, true)),
		slice("a", "web", nilConditions, endpoint("10.244.0.3", true, false)),
	})
	if len(s.Ports) != 1 || len(s.Ports[0].Endpoints) != 2 {
		t.Fatalf("got %+v, want one port with two endpoints", s.Ports)
	}
	first, second := s.Ports[0].Endpoints[0], s.Ports[0].Endpoints[1]
	if first.AddrPort != netip.MustParseAddrPort("10.244.0.3:8080") || !first.Ready || first.Terminating {
		t.Errorf("an address in two slices keeps the better condition; got %+v", first)
	}
	if !second.Ready || !second.Serving || second.Terminating {
		t.Errorf("nil conditions mean ready and serving; got %+v", second)
	}
	if len(s.Hosts) != 2 || s.Hosts[0].Port() != 0 {
		t.Errorf("hosts %+v, want two addresses without port", s.Hosts)
	}
}

func TestBuildByType(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	for name, tc := range map[string]struct {
		svc  *corev1.Service
		want func(*Service) bool
	}{
		"headless takes ports from slices": {
			service("h", func(s *corev1.Service) {
				s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Ports = "None", []string{"None"}, nil
			}),
			func(s *Service) bool {
				return s.Headless && len(s.ClusterIPs) == 0 && len(s.Ports) == 1 && s.Ports[0].Name == "http"
			},
		},
		"external name": {
			service("x", func(s *corev1.Service) {
				s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "db.example."
			}),
			func(s *Service) bool { return s.ExternalName == "db.example" && s.Ports == nil && s.ClusterIPs == nil },
		},
		"load balancer skips ipMode Proxy": {
			service("l", func(s *corev1.Service) {
				s.Spec.Type = corev1.ServiceTypeLoadBalancer
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {IP: "192.0.2.2", IPMode: new(corev1.LoadBalancerIPModeProxy)}}
			}),
			func(s *Service) bool {
				return slices.Equal(s.LoadBalancerIPs, []netip.Addr{netip.MustParseAddr("192.0.2.1")})
			},
		},
		"unreadable source range admits nobody": {
			service("r", func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"everyone"} }),
			func(s *Service) bool { return len(s.SourceRanges) == 1 && s.SourceRanges[0].IsSingleIP() },
		},
		"source ranges of the annotation": {
			service("r", func(s *corev1.Service) {
				s.Spec.Type = corev1.ServiceTypeLoadBalancer
				s.Annotations = map[string]string{"service.beta.kubernetes.io/load-balancer-source-ranges": " 10.9.0.0/16, 192.0.2.7/24"}
			}),
			func(s *Service) bool {
				return slices.Equal(s.SourceRanges, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("192.0.2.0/24")})
			},
		},
		"the field counts before the annotation": {
			service("r", func(s *corev1.Service) {
				s.Spec.Type = corev1.ServiceTypeLoadBalancer
				s.Spec.LoadBalancerSourceRanges = []string{"10.8.0.0/16"}
				s.Annotations = map[string]string{"service.beta.kubernetes.io/load-balancer-source-ranges": "everyone"}
			}),
			func(s *Service) bool {
				return slices.Equal(s.SourceRanges, []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")})
			},
		},
		"affinity, policies, foreign proxy": {
			service("p", func(s *corev1.Service) {
				s.Labels = map[string]string{labelServiceProxyName: "other"}
				s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				s.Spec.InternalTrafficPolicy = &local
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}),
			func(s *Service) bool {
				return s.Affinity == 3*time.Hour && s.InternalLocal && s.ExternalLocal && s.ForeignProxy
			},
		},
	} {
		if s := Build(tc.svc, []*discoveryv1.EndpointSlice{slice("s", tc.svc.Name, endpoint("10.244.0.3", true, false))}); !tc.want(s) {
			t.Errorf("%s: got %+v", name, s)
		}
	}
}

// started runs a catalog over a fake API until the test ends.
func started(t *testing.T, client *fake.Clientset) *Catalog {
	t.Helper()
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(factory)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	factory.Start(ctx.Done())
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		factory.Shutdown()
	})
	<-c.Ready()
	return c
}

func takeUntil(t *testing.T, s *Subscription, want Key) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case <-s.Dirty():
			keys := s.Take()
			if slices.Contains(keys, want) {
				return
			}
			s.Done(keys...)
		case <-deadline:
			t.Fatalf("%s never became dirty", want)
		}
	}
}

func TestDrainedWaitsForEverySubscriber(t *testing.T) {
	addr := netip.MustParseAddr("10.244.0.3")
	before := slice("web-1", "web", endpoint(addr.String(), true, false))
	client := fake.NewClientset(service("web"), before)
	c := started(t, client)
	sub := c.Subscribe()
	defer sub.Close()
	key := Key{Namespace: "default", Name: "web"}
	takeUntil(t, sub, key)
	sub.Done(key)

	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	go func() { result <- c.Drained(ctx, addr) }()

	after := before.DeepCopy()
	after.Endpoints[0] = endpoint(addr.String(), false, true)
	if _, err := client.DiscoveryV1().EndpointSlices("default").Update(ctx, after, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	takeUntil(t, sub, key)
	if got, _ := c.Get(key); !got.Ports[0].Endpoints[0].Terminating {
		t.Fatalf("a dirty key must be readable in its new state; got %+v", got.Ports[0].Endpoints)
	}
	select {
	case err := <-result:
		t.Fatalf("drained (%v) while a subscriber had not applied the change", err)
	default:
	}
	sub.Retry(key)
	if c.applied(c.seq) {
		t.Fatal("a key that is to be retried counts as applied")
	}
	takeUntil(t, sub, key)
	sub.Done(key)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func TestDrainedEndsWithContext(t *testing.T) {
	c := started(t, fake.NewClientset(service("web"), slice("web-1", "web", endpoint("10.244.0.3", true, false))))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := c.Drained(ctx, netip.MustParseAddr("10.244.0.3")); err == nil {
		t.Fatal("drained although the endpoint is in service")
	}
}

// TestBuildKeepsTheNewestTriggerTime: what the latencies of programming are measured from.
func TestBuildKeepsTheNewestTriggerTime(t *testing.T) {
	at := func(name, text string) *discoveryv1.EndpointSlice {
		s := slice(name, "web")
		s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: text}
		return s
	}
	s := Build(service("web"), []*discoveryv1.EndpointSlice{
		at("a", "2026-01-02T03:04:05Z"), at("b", "2026-01-02T03:04:06.5Z"), at("c", "yesterday"), slice("d", "web"),
	})
	if want := time.Date(2026, 1, 2, 3, 4, 6, 5e8, time.UTC); !s.Triggered.Equal(want) {
		t.Errorf("triggered at %s, expected %s", s.Triggered, want)
	}
	if s := Build(service("web"), []*discoveryv1.EndpointSlice{slice("d", "web")}); !s.Triggered.IsZero() {
		t.Errorf("triggered at %s by nothing", s.Triggered)
	}
}

func TestSlicesForHeadlessServicesDoNotBalance(t *testing.T) {
	plain, headless := slice("plain", "web", endpoint("10.244.0.1", true, false)), slice("headless", "web", endpoint("10.244.0.2", true, false))
	headless.Labels[corev1.IsHeadlessService] = ""
	both := []*discoveryv1.EndpointSlice{plain, headless}
	for _, c := range []struct {
		clusterIP string
		want      []string
	}{{"10.96.0.5", []string{"10.244.0.1:8080"}}, {corev1.ClusterIPNone, []string{"10.244.0.1:8080", "10.244.0.2:8080"}}} {
		s := Build(service("web", func(svc *corev1.Service) { svc.Spec.ClusterIP = c.clusterIP }), both)
		var got []string
		for _, e := range s.Ports[0].Endpoints {
			got = append(got, e.AddrPort.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with cluster IP %s the endpoints are %q, want %q", c.clusterIP, got, c.want)
		}
	}
	if len(both) != 2 || both[0] != plain || both[1] != headless {
		t.Error("the caller's slice was changed")
	}
}
