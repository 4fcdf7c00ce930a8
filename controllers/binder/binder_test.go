package binder

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"svcplane/controllers/controllertest"
)

// bench is a Binder at work on a fake API that binds pods as the real one does, after failing the first bindings.
type bench struct {
	*testing.T
	api    *fake.Clientset
	events *record.FakeRecorder
	binds  atomic.Int32
}

func start(t *testing.T, failing int32, objects ...runtime.Object) *bench {
	t.Helper()
	b := &bench{T: t, api: fake.NewClientset(objects...), events: record.NewFakeRecorder(100)}
	b.api.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "binding" {
			return false, nil, nil
		}
		binding := action.(clienttesting.CreateAction).GetObject().(*corev1.Binding)
		if b.binds.Add(1) <= failing {
			return true, nil, errors.New("the store is away")
		}
		return true, binding, b.put(binding)
	})
	factory := informers.NewSharedInformerFactory(b.api, 0)
	binder, err := New(Config{Client: b.api, Factory: factory, Recorder: b.events})
	if err != nil {
		t.Fatal(err)
	}
	controllertest.Run(t, factory, binder.Run, binder.Ready())
	return b
}

func (b *bench) put(binding *corev1.Binding) error {
	o, err := b.api.Tracker().Get(corev1.SchemeGroupVersion.WithResource("pods"), binding.Namespace, binding.Name)
	if err != nil {
		return err
	}
	p := o.(*corev1.Pod).DeepCopy()
	p.Spec.NodeName = binding.Target.Name
	return b.api.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), p, p.Namespace)
}

func (b *bench) create(p *corev1.Pod) {
	b.Helper()
	if _, err := b.api.CoreV1().Pods(p.Namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) get(name string) *corev1.Pod {
	b.Helper()
	p, err := b.api.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// eventually waits until the pod is as ok wants it.
func (b *bench) eventually(name, what string, ok func(*corev1.Pod) bool) {
	b.Helper()
	b.poll(func() (any, bool) {
		p := b.get(name)
		return p, ok(p)
	}, "pod "+name+" is not "+what)
}

// poll looks until it is right, and fails with what was seen last.
func (b *bench) poll(look func() (seen any, right bool), wrong string) {
	b.Helper()
	var last any
	err := wait.PollUntilContextTimeout(context.Background(), time.Millisecond, controllertest.Deadline, true, func(context.Context) (bool, error) {
		seen, right := look()
		last = seen
		return right, nil
	})
	if err != nil {
		b.Fatalf("%s: %+v", wrong, last)
	}
}

func bound(p *corev1.Pod) bool { return p.Spec.NodeName != "" }

func unschedulable(p *corev1.Pod) bool {
	return strings.HasPrefix(unschedulableFor(p), "0/1 nodes are available: ")
}

func TestFailedBindingIsTriedAgain(t *testing.T) {
	b := start(t, 3, node("n"))
	b.create(pod("p", wants("2", "0"))) // it fits only if the broken promises were taken back
	b.eventually("p", "bound", bound)
	if n := b.binds.Load(); n != 4 {
		t.Errorf("%d bindings, want 3 that fail and 1", n)
	}
}

func TestRoomIsUsedWhenItComes(t *testing.T) {
	for _, tc := range []struct {
		name string
		room func(b *bench)
	}{
		{"a pod is deleted", func(b *bench) {
			if err := b.api.CoreV1().Pods("default").Delete(context.Background(), "first", metav1.DeleteOptions{}); err != nil {
				b.Fatal(err)
			}
		}},
		{"a pod finishes", func(b *bench) {
			p := b.get("first")
			p.Status.Phase = corev1.PodSucceeded
			if _, err := b.api.CoreV1().Pods("default").UpdateStatus(context.Background(), p, metav1.UpdateOptions{}); err != nil {
				b.Fatal(err)
			}
		}},
		{"a node comes", func(b *bench) {
			if _, err := b.api.CoreV1().Nodes().Create(context.Background(), node("m"), metav1.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := start(t, 0, node("n"))
			b.create(pod("first", wants("2", "0")))
			b.eventually("first", "bound", bound)
			b.create(pod("second", wants("1", "0")))
			b.eventually("second", "unschedulable", unschedulable)
			tc.room(b)
			b.eventually("second", "bound", bound)
		})
	}
}

func TestOthersAreLeftAlone(t *testing.T) {
	b := start(t, 0, node("n"))
	b.create(pod("theirs", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }))
	b.create(pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}} }))
	b.create(pod("placed", func(p *corev1.Pod) { p.Spec.NodeName = "elsewhere" }))
	b.create(pod("ours"))
	b.eventually("ours", "bound", bound) // so the others were looked at: their events came first
	if b.get("theirs").Spec.NodeName != "" || b.get("gated").Spec.NodeName != "" || b.get("placed").Spec.NodeName != "elsewhere" {
		t.Error("a pod that is not ours was bound")
	}
	gated := b.get("gated")
	gated.Spec.SchedulingGates = nil
	if _, err := b.api.CoreV1().Pods("default").Update(context.Background(), gated, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually("gated", "bound without its gate", bound)
}

// Many pods at once must not be put where only one has room: what is promised counts before the watch shows it.
func TestPromisesCount(t *testing.T) {
	b := start(t, 0, node("n"))
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		b.create(pod(name, wants("1", "0")))
	}
	placed := 0
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		b.eventually(name, "bound or unschedulable", func(p *corev1.Pod) bool { return bound(p) || unschedulable(p) })
		if bound(b.get(name)) {
			placed++
		}
	}
	if placed != 2 {
		t.Errorf("%d pods of 1 cpu were bound to a node of 2", placed)
	}
}

func TestAPodOfAnEndingNamespaceIsNotTriedAgain(t *testing.T) {
	ending := apierrors.NewForbidden(corev1.Resource("pods"), "p", errors.New("the namespace is being terminated"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for _, c := range []struct {
		err  error
		want int
	}{{ending, 0}, {errors.New("the store is away"), 1}} {
		api := fake.NewClientset()
		api.PrependReactor("create", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, c.err })
		binder, err := New(Config{Client: api, Factory: informers.NewSharedInformerFactory(api, 0), Recorder: record.NewFakeRecorder(1)})
		if err != nil {
			t.Fatal(err)
		}
		binder.bind(context.Background(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ending", Name: "p", UID: "1"}}, "n")
		if got := binder.queue.NumRequeues(types.NamespacedName{Namespace: "ending", Name: "p"}); got != c.want {
			t.Errorf("%v: queued again %d times, want %d", c.err, got, c.want)
		}
	}
}
