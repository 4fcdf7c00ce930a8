package node

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/exec"

	"svcplane/metrics/metricstest"
)

// switched is an HTTP server that is healthy while on is set.
func switched(t *testing.T) (on *atomic.Bool, probe corev1.ProbeHandler) {
	on = &atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !on.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return on, corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: host, Port: intstr.FromInt(number), Scheme: corev1.URISchemeHTTP}}
}

func every(second int32, h corev1.ProbeHandler) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: h, PeriodSeconds: second, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 1}
}

func TestReadinessFollowsTheProbe(t *testing.T) {
	on, h := switched(t)
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = every(1, h) }))
	p := l.wantPod("web", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	if isReady(p) {
		t.Error("ready before the probe succeeded")
	}
	l.wantEvent("Warning Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 503")
	on.Store(true)
	l.wantPod("web", isReady)
	counted := metricstest.Gather(t, l.node.probes)
	for _, result := range []string{"failed", "successful"} {
		if n := counted.Value(t, "prober_probe_total", "probe_type=Readiness", "result="+result, "container=app", "pod=web", "namespace=default"); n < 1 {
			t.Errorf("%v probes %s", n, result)
		}
	}
	on.Store(false)
	p = l.wantPod("web", func(p *corev1.Pod) bool { return !isReady(p) })
	if p.Status.ContainerStatuses[0].RestartCount != 0 || p.Status.Phase != corev1.PodRunning {
		t.Errorf("an unready container must go on running: %+v", p.Status)
	}
}

func TestAReadyPodWithALongPeriodIsFoundSoon(t *testing.T) {
	on, h := switched(t)
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = every(600, h) }))
	l.wantPod("web", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	on.Store(true)
	l.wantPod("web", isReady) // long before the ten minutes of its period
}

func TestLivenessRestarts(t *testing.T) {
	on, h := switched(t)
	on.Store(true)
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) { p.Spec.Containers[0].LivenessProbe = every(1, h) }))
	l.wantPod("web", isReady)
	on.Store(false)
	l.wantEvent("Normal Killing Container app failed liveness probe, will be restarted")
	on.Store(true)
	l.wantPod("web", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount >= 1 })
}

func TestStartupProbeHoldsTheOthersBack(t *testing.T) {
	startup, h := switched(t)
	alive, dead := switched(t)
	alive.Store(false) // would restart the container, if it were asked
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.StartupProbe, c.LivenessProbe = every(1, h), every(1, dead)
		c.StartupProbe.FailureThreshold = 30
	}))
	l.wantEvent("Warning Unhealthy Startup probe failed")
	p := l.wantPod("web", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	if *p.Status.ContainerStatuses[0].Started || isReady(p) {
		t.Error("started before the startup probe succeeded")
	}
	alive.Store(true)
	startup.Store(true)
	p = l.wantPod("web", isReady)
	if !*p.Status.ContainerStatuses[0].Started || p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("status is %+v", p.Status.ContainerStatuses[0])
	}
}

func TestExecProbe(t *testing.T) {
	var fails atomic.Bool
	fails.Store(true)
	l := newLab(t)
	l.rt.exec = func([]string) error {
		if fails.Load() {
			return exec.CodeExitError{Code: 1}
		}
		return nil
	}
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "WHAT", Value: "there"}}
		p.Spec.Containers[0].ReadinessProbe = every(1, corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"is", "$(WHAT)"}}})
	}))
	l.wantEvent("Warning Unhealthy Readiness probe failed")
	fails.Store(false)
	l.wantPod("web", isReady)
	if count(l.rt.did(), "exec [is there]") == 0 {
		t.Errorf("did %q", l.rt.did())
	}
}

func TestAdoptedReadinessStandsUntilAProbeSaysOtherwise(t *testing.T) {
	on, h := switched(t)
	on.Store(true)
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = every(1, h)
		p.Spec.Containers[0].ReadinessProbe.InitialDelaySeconds = 2
	}))
	l.wantPod("web", isReady)
	l.stop()
	l.start()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !isReady(l.get("web")) {
			t.Fatal("the restart of the node took a ready pod out of service")
		}
	}
	on.Store(false)
	l.wantPod("web", func(p *corev1.Pod) bool { return !isReady(p) })
}
