package loadbalancer

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"svcplane/controllers/controllertest"
)

// bench is a Controller at work on a fake API; its node has 127.83.2.1, so that real sockets can be in the way.
type bench struct {
	*testing.T
	api     *fake.Clientset
	control *Controller
	events  *record.FakeRecorder
}

const nodeAddr = "127.83.2.1"

func start(t *testing.T, objects ...runtime.Object) *bench {
	t.Helper()
	b := &bench{T: t, api: fake.NewClientset(), events: record.NewFakeRecorder(100)}
	for _, o := range objects {
		if err := b.api.Tracker().Add(o); err != nil {
			t.Fatal(err)
		}
	}
	factory := informers.NewSharedInformerFactory(b.api, 0)
	c, err := New(Config{Client: b.api, Factory: factory, Recorder: b.events, NodeName: "n", Addrs: []netip.Addr{netip.MustParseAddr(nodeAddr)}})
	if err != nil {
		t.Fatal(err)
	}
	b.control = c
	controllertest.Run(t, factory, c.Run, c.Ready())
	return b
}

func (b *bench) create(svc *corev1.Service) {
	b.Helper()
	if _, err := b.api.CoreV1().Services(svc.Namespace).Create(context.Background(), svc, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// update changes the Service as it is now.
func (b *bench) update(name string, apply change) {
	b.Helper()
	services := b.api.CoreV1().Services("default")
	svc, err := services.Get(context.Background(), name, metav1.GetOptions{})
	if err == nil {
		apply(svc)
		_, err = services.Update(context.Background(), svc, metav1.UpdateOptions{})
	}
	if err != nil {
		b.Fatal(err)
	}
}

// has waits until the Service has the address; empty: none.
func (b *bench) has(name, want string) {
	b.Helper()
	var got string
	err := wait.PollUntilContextTimeout(context.Background(), time.Millisecond, controllertest.Deadline, true, func(ctx context.Context) (bool, error) {
		svc, err := b.api.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		got = ""
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if got += in.IP; in.IPMode == nil || *in.IPMode != corev1.LoadBalancerIPModeVIP {
				got += " without ipMode VIP"
			}
		}
		return got == want, nil
	})
	if err != nil {
		b.Fatalf("service %s has address %q, want %q: %v", name, got, want, err)
	}
}

// event waits for the next one.
func (b *bench) event(want string) {
	b.Helper()
	controllertest.WantEvent(b.T, b.events, want)
}

func TestAddressIsGivenAndTakenBack(t *testing.T) {
	b := start(t)
	b.create(service("web", 1))
	b.has("web", nodeAddr)
	b.event("Normal EnsuredLoadBalancer")
	b.update("web", typed(corev1.ServiceTypeClusterIP))
	b.has("web", "")
}

// TestAddressFollowsTheNode: also over a restart, and also for a Service on a port that a local process has got since.
func TestAddressFollowsTheNode(t *testing.T) {
	b := start(t, service("before", 9, ports(81), having("192.0.2.7"))) // given by an earlier process
	b.has("before", nodeAddr)
	b.create(service("web", 1))
	b.has("web", nodeAddr)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.control.SetAddrs([]netip.Addr{netip.MustParseAddr("127.83.2.9")})
	b.has("web", "127.83.2.9")
	b.has("before", "127.83.2.9")
	b.create(service("late", 0, ports(int32(port(t, l.Addr()))))) // has held nothing
	b.control.SetAddrs([]netip.Addr{netip.MustParseAddr(nodeAddr)})
	b.has("web", nodeAddr)
	b.has("late", "")
}

func TestYoungerWaitsForOlder(t *testing.T) {
	b := start(t, service("old", 9, having(nodeAddr)), service("young", 1))
	b.event("Warning LoadBalancerAddressNotAvailable port 80/TCP of " + nodeAddr + " is taken by the load balancer of Service default/old")
	b.has("young", "")
	b.update("old", ports(81))
	b.event("Normal EnsuredLoadBalancer")
	b.has("young", nodeAddr)
	b.update("old", ports(80)) // back again: older wins
	b.has("young", "")
	if err := b.api.CoreV1().Services("default").Delete(context.Background(), "old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.has("young", nodeAddr)
}

func TestForeignClassIsLeftAlone(t *testing.T) {
	b := start(t, service("theirs", 9, class("example.com/x"), having("192.0.2.7"), func(svc *corev1.Service) {
		vip := corev1.LoadBalancerIPModeVIP
		svc.Status.LoadBalancer.Ingress[0].IPMode = &vip
	}))
	b.create(service("ours", 1))
	b.has("ours", nodeAddr) // so the other was looked at: the queue is in order
	b.has("theirs", "192.0.2.7")
}

func TestLocalProcessIsNamedAndWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp4", nodeAddr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := start(t)
	b.create(service("web", 1, ports(int32(port(t, l.Addr())))))
	b.event("is taken by process " + comm(t))
	b.has("web", "")
	l.Close()
	b.has("web", nodeAddr)
	b.event("Normal EnsuredLoadBalancer")
}

func TestGivenBeforeTheRestartStays(t *testing.T) {
	l, err := net.Listen("tcp4", nodeAddr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	web := service("web", 9, ports(int32(port(t, l.Addr()))), having(nodeAddr))
	b := start(t, web)
	b.has("web", nodeAddr) // now with its ipMode: it was written
	b.create(service("other", 1, asking("192.0.2.1")))
	b.event("spec.loadBalancerIP") // and none before it: nothing was new about web
}

// TestOtherNodesAreLeftAlone: what another node has given of its own stays, what nobody has any more goes.
func TestOtherNodesAreLeftAlone(t *testing.T) {
	vip := corev1.LoadBalancerIPModeVIP
	web := service("web", 9)
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.8", IPMode: &vip}, {IP: "192.0.2.9", IPMode: &vip}}
	there := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "m"},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.8"}}},
	}
	b := start(t, there, web)
	b.has("web", nodeAddr+"192.0.2.8")
	b.update("web", typed(corev1.ServiceTypeClusterIP))
	b.has("web", "")
}
