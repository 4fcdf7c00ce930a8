package diagnose

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var refused = &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

func testPod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", UID: "u1", Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.244.0.5", PodIPs: []corev1.PodIP{{IP: "10.244.0.5"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func testService(target intstr.IntOrString, selector map[string]string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: selector, Ports: []corev1.ServicePort{{Name: "main", Port: 80, TargetPort: target, Protocol: corev1.ProtocolTCP}},
	}}
}

func TestService(t *testing.T) {
	app := map[string]string{"app": "web"}
	notReady := func(p *corev1.Pod) {
		p.Status.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "containers with unready status: [c]"}
	}
	at := func(s string, err error) map[netip.AddrPort]error {
		return map[netip.AddrPort]error{netip.MustParseAddrPort(s): err}
	}
	for name, tt := range map[string]struct {
		service *corev1.Service
		pods    []*corev1.Pod
		probes  map[types.UID]string
		tried   map[netip.AddrPort]error
		want    []string
	}{
		"all well":            {testService(intstr.FromInt32(8080), app), []*corev1.Pod{testPod(nil)}, nil, at("10.244.0.5:8080", nil), nil},
		"not tried":           {testService(intstr.FromInt32(8081), app), []*corev1.Pod{testPod(nil)}, nil, nil, nil},
		"no selector":         {testService(intstr.FromInt32(8081), nil), nil, nil, nil, nil},
		"wrong number":        {testService(intstr.FromInt32(8081), app), []*corev1.Pod{testPod(nil)}, nil, at("10.244.0.5:8081", refused), []string{"nothing listens on 10.244.0.5:8081, the targetPort of port main (80) (connection refused): pod web-1 declares 8080/TCP (http)"}},
		"wrong default":       {testService(intstr.IntOrString{}, app), []*corev1.Pod{testPod(nil)}, nil, at("10.244.0.5:80", refused), []string{"nothing listens on 10.244.0.5:80, the targetPort of port main (80) (connection refused): pod web-1 declares 8080/TCP (http)"}},
		"wrong name":          {testService(intstr.FromString("htpp"), app), []*corev1.Pod{testPod(nil)}, nil, nil, []string{`the targetPort of port main (80) is "htpp", and no container of pod web-1 declares a port of that name; declared are 8080/TCP (http)`}},
		"declared and silent": {testService(intstr.FromString("http"), app), []*corev1.Pod{testPod(nil)}, nil, at("10.244.0.5:8080", refused), []string{"nothing listens on 10.244.0.5:8080, the targetPort of port main (80) (connection refused): pod web-1 declares that port, but its program does not listen on the pod's address"}},
		"no reply":            {testService(intstr.FromInt32(8080), app), []*corev1.Pod{testPod(nil)}, nil, at("10.244.0.5:8080", os.ErrDeadlineExceeded), []string{"10.244.0.5:8080, the targetPort of port main (80), does not answer (no reply to a connection from the node)"}},
		"one label wrong":     {testService(intstr.FromInt32(8080), map[string]string{"app": "web", "tier": "back"}), []*corev1.Pod{testPod(nil)}, nil, nil, []string{"no pod of namespace default has the labels app=web,tier=back; pod web-1 comes nearest: it has tier=front"}},
		"nothing alike":       {testService(intstr.FromInt32(8080), map[string]string{"x": "y"}), []*corev1.Pod{testPod(nil)}, nil, nil, []string{"no pod of namespace default has the labels x=y"}},
		"probe":               {testService(intstr.FromInt32(8080), app), []*corev1.Pod{testPod(notReady)}, map[types.UID]string{"u1": "Readiness probe failed: HTTP probe failed with statuscode: 503"}, nil, []string{"pod web-1 is not ready: Readiness probe failed: HTTP probe failed with statuscode: 503"}},
		"no image": {testService(intstr.FromInt32(8080), app), []*corev1.Pod{testPod(func(p *corev1.Pod) {
			notReady(p)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}}}}
		})}, nil, nil, []string{"pod web-1 is not ready: container c waits (ImagePullBackOff): no such image"}},
		"not scheduled": {testService(intstr.FromInt32(8080), app), []*corev1.Pod{testPod(func(p *corev1.Pod) {
			p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "Insufficient cpu"}}}
		})}, nil, nil, []string{"pod web-1 is not ready: Insufficient cpu"}},
		"a gate": {testService(intstr.FromInt32(8080), app), []*corev1.Pod{testPod(func(p *corev1.Pod) {
			notReady(p)
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "lb/ready"}}
		})}, nil, nil, []string{"pod web-1 is not ready: nobody has set its readiness gate lb/ready"}},
		"it ends": {testService(intstr.FromInt32(8080), app), []*corev1.Pod{testPod(func(p *corev1.Pod) {
			notReady(p)
			now := metav1.Now()
			p.DeletionTimestamp = &now
		})}, nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := Evidence{Service: tt.service, Pods: tt.pods, Probes: tt.probes, Tried: tt.tried}
			if got := e.Mistakes(); !slices.Equal(got, tt.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
		})
	}
}

// TestToTry: only addresses where a connection can be made, each once, and of few pods.
func TestToTry(t *testing.T) {
	s := testService(intstr.FromString("http"), map[string]string{"app": "web"})
	s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 8080, Protocol: corev1.ProtocolTCP}, corev1.ServicePort{Port: 53, Protocol: corev1.ProtocolUDP})
	var pods []*corev1.Pod
	for i := range 5 {
		pods = append(pods, testPod(func(p *corev1.Pod) {
			p.Name, p.Status.PodIP = fmt.Sprintf("web-%d", 5-i), fmt.Sprintf("10.244.0.%d", 5-i)
		}))
	}
	pods = append(pods, testPod(func(p *corev1.Pod) { p.Name, p.Status.Phase = "web-0", corev1.PodPending }))
	got := fmt.Sprint(Evidence{Service: s, Pods: pods}.ToTry())
	if got != "[10.244.0.1:8080 10.244.0.2:8080]" {
		t.Error(got)
	}
}

func TestName(t *testing.T) {
	services := []types.NamespacedName{{Namespace: "shop", Name: "web"}, {Namespace: "default", Name: "toad-svc"}, {Namespace: "default", Name: "a"}}
	for _, tt := range []struct{ name, namespace, want string }{
		{"web", "default", "service web is in namespace shop: ask for web.shop"},
		{"web.default", "default", "service web is in namespace shop: ask for web.shop"},
		{"web.default.svc.cluster.local.", "", "service web is in namespace shop: ask for web.shop.svc.cluster.local"},
		{"_http._tcp.web.default.svc", "default", "service web is in namespace shop: ask for web.shop"},
		{"WEB.shop", "default", ""},
		{"toad-scv", "default", "did you mean toad-svc?"},
		{"toad-scv.default", "shop", "did you mean toad-svc.default?"},
		{"toad_svc", "", "did you mean toad-svc.default.svc.cluster.local?"},
		{"toadsvc.default.svc.cluster.local", "", "did you mean toad-svc.default.svc.cluster.local?"},
		{"www.example.com", "default", ""},
		{"zzz", "default", ""},
		{".", "default", ""},
	} {
		if got := strings.Join(Name(tt.name, tt.namespace, "cluster.local", services), "; "); got != tt.want {
			t.Errorf("%s from %q: %q, want %q", tt.name, tt.namespace, got, tt.want)
		}
	}
}

// TestKey: the answer is what the command takes.
func TestKey(t *testing.T) {
	services := []types.NamespacedName{{Namespace: "shop", Name: "web"}, {Namespace: "default", Name: "toad-svc"}}
	for _, tt := range []struct{ namespace, name, want string }{
		{"default", "toad-svx", "did you mean toad-svc?"},
		{"default", "web", "service web is in namespace shop: ask for shop/web"},
		{"shop", "wbe", "did you mean shop/web?"},
		{"shop", "toad-svx", ""},
		{"shop", "web", ""},
	} {
		if got := strings.Join(Key(types.NamespacedName{Namespace: tt.namespace, Name: tt.name}, services), "; "); got != tt.want {
			t.Errorf("%s/%s: %q, want %q", tt.namespace, tt.name, got, tt.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	commands := []string{"cleanup", "completion", "dns", "image", "ingress", "kubectl", "proxy", "server", "status", "version"}
	for _, tt := range []struct {
		word  string
		among []string
		want  string
	}{
		{"stauts", commands, "status"},   // neighbours swapped
		{"serve", commands, "server"},    // one is missing
		{"proxyy", commands, "proxy"},    // one too many
		{"Status", commands, "status"},   // the case
		{"comp", commands, "completion"}, // its beginning
		{"dsn", commands, "dns"},
		{"kubeclt", commands, "kubectl"},
		{"nonsense", commands, ""},
		{"", commands, ""},
		{"d", commands, ""},
		{"toad", []string{"toad-lb", "toad-svc"}, ""}, // the beginning of two
		{"b", []string{"a"}, ""},                      // all of it would be another
		{"web-9", []string{"web-2", "web-1"}, "web-1"},
		{"toad-svx", []string{"toad-lb", "toad-svc"}, "toad-svc"},
		{"nodename", []string{"node-name", "node-ip"}, "node-name"},
		{"x", nil, ""},
	} {
		if got := DidYouMean(tt.word, tt.among); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.word, got, tt.want)
		}
	}
	if got := Hint("nodename", []string{"node-name"}, "--"); got != ": did you mean --node-name?" {
		t.Error(got)
	}
	if got := Hint("zzz", commands); got != "" {
		t.Error(got)
	}
}
