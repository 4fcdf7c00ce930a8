package node

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// gate is a data plane that has dropped a pod when the test says so.
type gate struct {
	asked chan netip.Addr
	open  chan struct{}
}

func (g *gate) Drained(ctx context.Context, addr netip.Addr) error {
	g.asked <- addr
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestDrainThenKill(t *testing.T) {
	l := newLab(t)
	g := &gate{asked: make(chan netip.Addr, 1), open: make(chan struct{})}
	l.cfg.Catalog = g
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"bye"}}}}
	}))
	ip := l.wantPod("web", isReady).Status.PodIP
	l.remove("web", 30)
	select {
	case addr := <-g.asked:
		if addr.String() != ip {
			t.Errorf("waited for %s to drain, the pod has %s", addr, ip)
		}
	case <-time.After(patience):
		t.Fatal("the pod is not drained")
	}
	if did := l.rt.did(); slices.ContainsFunc(did, func(c string) bool { return strings.HasPrefix(c, "stop") || strings.HasPrefix(c, "exec") }) {
		t.Fatalf("something was stopped before the data planes dropped the pod: %q", did)
	}
	close(g.open)
	l.wantGone("web")
	want := []string{"sandbox web", "start app", "exec [bye]", "stop app 30", "stop sandbox web", "remove sandbox web"}
	if did := l.rt.did(); !slices.Equal(did, want) {
		t.Errorf("did %q, want %q", did, want)
	}
	l.wantEvent("Normal Killing Stopping container app")
}

func TestDrainIsBoundedByHalfTheGracePeriod(t *testing.T) {
	l := newLab(t)
	l.cfg.Catalog = &gate{asked: make(chan netip.Addr, 1), open: make(chan struct{})} // never opens
	l.start()
	l.create(pod("web"))
	l.wantPod("web", isReady)
	begin := time.Now()
	l.remove("web", 2)
	l.wantGone("web")
	if took := time.Since(begin); took < time.Second || took > 3*time.Second {
		t.Errorf("took %v, want about one second", took)
	}
}

func TestAShorterGracePeriodCutsTheWait(t *testing.T) {
	l := newLab(t)
	l.rt.stubborn = true
	l.start()
	l.create(pod("web"))
	l.wantPod("web", isReady)
	l.remove("web", 600)
	l.eventually("container", func() string {
		if slices.Contains(l.rt.did(), "stop app 600") {
			return ""
		}
		return "is not being stopped"
	})
	begin := time.Now()
	l.remove("web", 1)
	l.wantGone("web")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestForcedDeletionLeavesNothingBehind(t *testing.T) {
	l := newLab(t)
	l.rt.stubborn = true
	l.start()
	l.create(pod("web"))
	l.wantPod("web", isReady)
	if err := l.client.CoreV1().Pods("default").Delete(context.Background(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.wantGone("web")
	if !slices.Contains(l.rt.did(), "stop app 2") {
		t.Errorf("did %q", l.rt.did())
	}
}

func TestANameThatBelongsToAnotherPodByNowIsLeftAlone(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web"))
	l.wantPod("web", isReady)
	if err := l.client.CoreV1().Pods("default").Delete(context.Background(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.create(pod("web", func(p *corev1.Pod) { p.UID = "second" }))
	p := l.wantPod("web", isReady)
	l.eventually("sandboxes", func() string {
		l.rt.mu.Lock()
		defer l.rt.mu.Unlock()
		if len(l.rt.sandboxes) != 1 {
			return "more than one"
		}
		return ""
	})
	if now := l.get("web"); now == nil || now.UID != p.UID || p.UID != "second" {
		t.Errorf("the second pod is gone or changed: %v", now)
	}
}

func TestAPodThatDoesNotStartCanBeDeleted(t *testing.T) {
	l := newLab(t)
	l.rt.sandboxErr = context.DeadlineExceeded
	l.start()
	l.create(pod("web"))
	l.wantEvent("Warning FailedCreatePodSandBox Failed to create pod sandbox: context deadline exceeded")
	l.remove("web", 30)
	l.wantGone("web")
}

func TestActiveDeadline(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](1) }))
	p := l.wantPod("web", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "DeadlineExceeded" {
		t.Errorf("reason is %q", p.Status.Reason)
	}
	l.eventually("container", func() string {
		if slices.Contains(l.rt.did(), "stop sandbox web") {
			return ""
		}
		return "still runs"
	})
}

func TestFinalStatusOfADeletedPodSaysHowItEnded(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) { p.Finalizers = []string{"example.com/keep"} }))
	l.wantPod("web", isReady)
	// The fake API deletes at once and knows no finalizers; the last update is what counts.
	updates, err := l.client.CoreV1().Pods("default").Watch(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer updates.Stop()
	l.remove("web", 5)
	l.wantGone("web")
	var last corev1.PodStatus
	for deadline := time.After(patience); ; {
		select {
		case e := <-updates.ResultChan():
			p, ok := e.Object.(*corev1.Pod)
			if !ok || p.Name != "web" {
				continue
			}
			last = p.Status
			if e.Type != "DELETED" {
				continue
			}
		case <-deadline:
			t.Fatal("the deletion was not seen")
		}
		break
	}
	if last.Phase != corev1.PodFailed || last.ContainerStatuses[0].State.Terminated == nil || last.ContainerStatuses[0].State.Terminated.ExitCode != 143 {
		t.Errorf("last status is %+v", last)
	}
}
