package node

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// lab is an API, a runtime and a node between them.
type lab struct {
	t      *testing.T
	client *fake.Clientset
	rt     *fakeRuntime
	events *record.FakeRecorder
	dir    string
	cfg    Config
	node   *Node
	stop   func() // ends the node and waits for it

	mu  sync.Mutex
	log []string // Events so far
}

func newLab(t *testing.T, objects ...k8sruntime.Object) *lab {
	master := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
	}
	l := &lab{t: t, client: fake.NewClientset(append(objects, master)...), rt: newFakeRuntime(), events: record.NewFakeRecorder(1000), dir: t.TempDir()}
	l.client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, k8sruntime.Object, error) {
		if a.GetSubresource() != "token" {
			return false, nil, nil
		}
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{Token: "a-token", ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}}, nil
	})
	l.client.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, k8sruntime.Object, error) {
		var patch corev1.Pod
		if err := json.Unmarshal(a.(clienttesting.PatchAction).GetPatch(), &patch); err != nil {
			return true, nil, err
		}
		return l.conflict(a, &patch.UID)
	})
	l.client.PrependReactor("delete", "pods", func(a clienttesting.Action) (bool, k8sruntime.Object, error) {
		if p := a.(clienttesting.DeleteAction).GetDeleteOptions().Preconditions; p != nil {
			return l.conflict(a, p.UID)
		}
		return false, nil, nil
	})
	l.cfg = Config{
		Client: l.client, Runtime: l.rt, Images: fakeImages{rt: l.rt}, Recorder: l.events,
		Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
		DNSAddrs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Domain: "cluster.local", Dir: l.dir, Version: "v1.36.3",
		ServerAddr: netip.MustParseAddrPort("127.0.0.1:0"), ClientCAs: x509.NewCertPool(),
	}
	go l.collect()
	return l
}

// conflict refuses what is meant for another pod of the same name, as the real API does and the fake does not.
func (l *lab) conflict(a clienttesting.Action, uid *types.UID) (bool, k8sruntime.Object, error) {
	name := a.(interface{ GetName() string }).GetName()
	o, err := l.client.Tracker().Get(a.GetResource(), a.GetNamespace(), name)
	if err == nil && uid != nil && *uid != "" && o.(*corev1.Pod).UID != *uid {
		return true, nil, apierrors.NewConflict(corev1.Resource("pods"), name, errors.New("the UID differs"))
	}
	return false, nil, nil
}

func (l *lab) collect() {
	for e := range l.events.Events {
		l.mu.Lock()
		l.log = append(l.log, e)
		l.mu.Unlock()
	}
}

// start runs a node until the test ends or stop is called; a second start is a restart.
func (l *lab) start() {
	l.t.Helper()
	l.cfg.Factory = informers.NewSharedInformerFactory(l.client, 0)
	n, err := New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l.cfg.Factory.Start(ctx.Done())
	go func() { ended <- n.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the node ended with %v", err)
		}
	})
	l.t.Cleanup(l.stop)
	l.node = n
	select {
	case <-n.Ready():
	case <-time.After(patience):
		l.t.Fatal("the node does not become ready")
	}
}

// pod makes a pod of one container app with image app:1, bound to the node.
func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			TerminationGracePeriodSeconds: ptr.To[int64](4),
			Containers: []corev1.Container{{
				Name: "app", Image: "app:1", ImagePullPolicy: corev1.PullIfNotPresent,
				TerminationMessagePath: "/dev/termination-log",
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func (l *lab) create(p *corev1.Pod) {
	l.t.Helper()
	if _, err := l.client.CoreV1().Pods(p.Namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) get(name string) *corev1.Pod {
	l.t.Helper()
	p, err := l.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

// remove asks for a graceful deletion, as the API server records it.
func (l *lab) remove(name string, grace int64) {
	l.t.Helper()
	p := l.get(name)
	p.DeletionTimestamp = ptr.To(metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second)))
	p.DeletionGracePeriodSeconds = &grace
	if _, err := l.client.CoreV1().Pods("default").Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}

// eventually waits until check gives "".
func (l *lab) eventually(what string, check func() string) {
	l.t.Helper()
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if last = check(); last == "" {
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Fatalf("%s: %s\nruntime: %q\nevents: %q", what, last, l.rt.did(), l.log)
}

func (l *lab) wantPod(name string, check func(*corev1.Pod) bool) *corev1.Pod {
	l.t.Helper()
	var p *corev1.Pod
	l.eventually("pod "+name, func() string {
		if p = l.get(name); p == nil {
			return "is not there"
		}
		if !check(p) {
			return fmt.Sprintf("has the status %+v", p.Status)
		}
		return ""
	})
	return p
}

func (l *lab) wantEvent(part string) {
	l.t.Helper()
	l.eventually("events", func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		if slices.ContainsFunc(l.log, func(e string) bool { return strings.Contains(e, part) }) {
			return ""
		}
		return "none has " + part
	})
}

func (l *lab) wantGone(name string) {
	l.t.Helper()
	l.eventually("pod "+name, func() string {
		if l.get(name) != nil {
			return "is still there"
		}
		l.rt.mu.Lock()
		defer l.rt.mu.Unlock()
		if len(l.rt.containers)+len(l.rt.sandboxes) > 0 {
			return "is still in the runtime"
		}
		return ""
	})
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func waitingFor(reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		if len(p.Status.ContainerStatuses) == 0 {
			return false
		}
		w := p.Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == reason
	}
}
