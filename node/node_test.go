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
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestRegistersTheNodeAndItsLease(t *testing.T) {
	l := newLab(t)
	l.start()
	n, err := l.client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n.Spec.PodCIDR != "10.244.0.0/24" || n.Labels[corev1.LabelHostname] != "n1" || n.Labels[corev1.LabelOSStable] != "linux" {
		t.Errorf("node is %+v", n)
	}
	if got := n.Status.Capacity.Pods().Value(); got != 500 {
		t.Errorf("capacity is %d pods, want 500", got)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			t.Errorf("node is not ready: %s", c.Message)
		}
	}
	if got := n.Status.Images; len(got) != 2 || got[0].Names[0] != "app:2" || got[1].Names[0] != "app:1" || got[0].SizeBytes <= got[1].SizeBytes {
		t.Errorf("images are %+v, want the two that have a size, the larger one first", got)
	}
	lease, err := l.client.CoordinationV1().Leases("kube-node-lease").Get(context.Background(), "n1", metav1.GetOptions{})
	if err != nil || lease.Spec.RenewTime == nil {
		t.Errorf("lease: %v, %v", lease, err)
	}
}

func TestTheNodeKeepsItsIdentityWhenTheAddressChanges(t *testing.T) {
	l := newLab(t)
	l.start()
	l.stop()
	l.cfg.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.2")}
	l.start()
	list, err := l.client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d nodes, %v", len(list.Items), err)
	}
	if a := list.Items[0].Status.Addresses[0].Address; a != "127.0.0.2" {
		t.Errorf("address is %s", a)
	}
}

func TestAnotherPodNetworkIsRefused(t *testing.T) {
	l := newLab(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/16", PodCIDRs: []string{"10.1.0.0/16"}}})
	n := &Node{cfg: l.cfg}
	err := n.join(context.Background())
	if err == nil || !strings.Contains(err.Error(), "--pod-cidr 10.1.0.0/16") {
		t.Errorf("got %v", err)
	}
}

func TestAPodRunsAndIsReady(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web"))
	p := l.wantPod("web", isReady)
	s := p.Status
	if s.Phase != corev1.PodRunning || s.PodIP == "" || s.HostIP != "127.0.0.1" || s.StartTime == nil || s.ObservedGeneration != 1 {
		t.Errorf("status is %+v", s)
	}
	if c := s.ContainerStatuses[0]; !strings.HasPrefix(c.ContainerID, "fake://c") || c.Image != "app:1" || c.Started == nil || !*c.Started || c.RestartCount != 0 {
		t.Errorf("container status is %+v", c)
	}
	for _, e := range []string{
		`Normal Pulled Container image "app:1" already present on machine and can be accessed by the pod`,
		"Normal Created Container created", "Normal Started Container started",
	} {
		l.wantEvent(e)
	}
	if got := l.node.Figure(); got != "1 pods running" {
		t.Errorf("figure is %q", got)
	}
}

func TestWaitsForTheAPIService(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	master, err := l.client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.client.CoreV1().Services("default").Delete(ctx, "kubernetes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.create(pod("early"))
	l.start()
	l.wantPod("early", waitingFor("ContainerCreating"))
	if did := l.rt.did(); len(did) != 0 {
		t.Fatalf("the runtime was asked for %q before the API's Service was known", did)
	}
	if _, err := l.client.CoreV1().Services("default").Create(ctx, master, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.wantPod("early", isReady)
	if !slices.ContainsFunc(l.rt.config("app").Envs, func(e *runtimeapi.KeyValue) bool {
		return e.Key == "KUBERNETES_SERVICE_HOST" && string(e.Value) == "10.96.0.1"
	}) {
		t.Error("KUBERNETES_SERVICE_HOST is not in the environment")
	}
}

func TestACrashedContainerIsRestartedAndThenBacksOff(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web"))
	l.wantPod("web", isReady)
	crashed := time.Now()
	l.rt.crash("app", 3)
	p := l.wantPod("web", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if took := time.Since(crashed); took > 3*time.Second {
		t.Errorf("restarting took %v", took)
	}
	if last := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
		t.Errorf("last state is %+v", last)
	}
	l.rt.crash("app", 3)
	p = l.wantPod("web", waitingFor("CrashLoopBackOff"))
	want := "back-off 10s restarting failed container=app pod=web_default(uid-web)"
	if got := p.Status.ContainerStatuses[0].State.Waiting.Message; got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
	l.wantEvent("Warning BackOff Back-off restarting failed container app in pod web_default(uid-web)")
	if p.Status.Phase != corev1.PodRunning {
		t.Errorf("phase is %s", p.Status.Phase)
	}
}

func TestRestartPolicyDecidesTheFinalPhase(t *testing.T) {
	for _, c := range []struct {
		policy corev1.RestartPolicy
		code   int32
		phase  corev1.PodPhase
	}{
		{corev1.RestartPolicyNever, 0, corev1.PodSucceeded},
		{corev1.RestartPolicyNever, 1, corev1.PodFailed},
		{corev1.RestartPolicyOnFailure, 0, corev1.PodSucceeded},
	} {
		t.Run(string(c.policy), func(t *testing.T) {
			l := newLab(t)
			l.start()
			l.create(pod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = c.policy }))
			l.wantPod("job", isReady)
			l.rt.crash("app", c.code)
			l.wantPod("job", func(p *corev1.Pod) bool { return p.Status.Phase == c.phase && !isReady(p) })
			l.eventually("sandbox", func() string {
				if slices.Contains(l.rt.did(), "stop sandbox job") {
					return ""
				}
				return "was not stopped"
			})
			l.remove("job", 1)
			l.wantGone("job")
		})
	}
}

func TestInitContainersRunInOrderAndSidecarsStay(t *testing.T) {
	l := newLab(t)
	l.start()
	always := corev1.ContainerRestartPolicyAlways
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{
			{Name: "one", Image: "app:1"},
			{Name: "side", Image: "app:1", RestartPolicy: &always},
			{Name: "two", Image: "app:1"},
		}
	}))
	l.eventually("first init container", func() string {
		if slices.Contains(l.rt.did(), "start one") {
			return ""
		}
		return "was not started"
	})
	l.rt.crash("one", 0)
	l.eventually("second init container", func() string {
		if slices.Contains(l.rt.did(), "start two") {
			return ""
		}
		return "was not started"
	})
	l.wantPod("web", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodPending && len(p.Status.InitContainerStatuses) == 3
	})
	l.rt.crash("two", 0)
	l.wantPod("web", isReady)
	var starts []string
	for _, c := range l.rt.did() {
		if strings.HasPrefix(c, "start ") {
			starts = append(starts, c)
		}
	}
	if want := []string{"start one", "start side", "start two", "start app"}; !slices.Equal(starts, want) {
		t.Errorf("started %q, want %q", starts, want)
	}
	l.remove("web", 2)
	l.wantGone("web")
	did := l.rt.did()
	if app, side := slices.Index(did, "stop app 2"), slices.Index(did, "stop side 2"); app < 0 || side < app {
		t.Errorf("the sidecar must be stopped after the container: %q", did)
	}
}

func TestWhatRunsIsAdoptedAndOrphansEnd(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("keeps"))
	l.create(pod("orphan", func(p *corev1.Pod) { p.Spec.Containers[0].Name = "other" }))
	before := l.wantPod("keeps", isReady)
	l.wantPod("orphan", isReady)
	l.stop()
	if err := l.client.CoreV1().Pods("default").Delete(context.Background(), "orphan", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var unready []string
	l.start()
	l.eventually("orphan", func() string {
		if p := l.get("keeps"); !isReady(p) {
			unready = append(unready, p.Status.String())
		}
		did := l.rt.did()
		if slices.Contains(did, "remove sandbox orphan") {
			return ""
		}
		return "is still in the runtime"
	})
	if len(unready) > 0 {
		t.Errorf("the adopted pod was unready: %s", unready[0])
	}
	after := l.get("keeps")
	if before.Status.ContainerStatuses[0].ContainerID != after.Status.ContainerStatuses[0].ContainerID || before.Status.PodIP != after.Status.PodIP {
		t.Errorf("the pod was restarted: %+v", after.Status)
	}
	if n := count(l.rt.did(), "start app"); n != 1 {
		t.Errorf("the container was started %d times", n)
	}
}

func count(list []string, what string) int {
	n := 0
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

func TestImageThatIsNotThere(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nowhere" }))
	l.wantEvent(`Warning Failed Failed to pull image "nowhere:latest": image nowhere:latest is not in the store`)
	l.wantEvent("Warning Failed Error: ErrImagePull")
	p := l.wantPod("web", func(p *corev1.Pod) bool {
		return waitingFor("ErrImagePull")(p) || waitingFor("ImagePullBackOff")(p)
	})
	if !strings.Contains(p.Status.ContainerStatuses[0].State.Waiting.Message, "not in the store") || p.Status.Phase != corev1.PodPending {
		t.Errorf("status is %+v", p.Status)
	}
}

func TestMissingConfigMapStopsTheStartUntilItIsThere(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	}))
	p := l.wantPod("web", waitingFor("CreateContainerConfigError"))
	if got := p.Status.ContainerStatuses[0].State.Waiting.Message; got != `configmaps "settings" not found` {
		t.Errorf("message is %q", got)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{"COLOUR": "green"}}
	if _, err := l.client.CoreV1().ConfigMaps("default").Create(context.Background(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.wantPod("web", isReady)
}

func TestVolumeThatCannotBeMounted(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nfs", Path: "/"}}}}
	}))
	l.wantEvent(`Warning FailedMount MountVolume.SetUp failed for volume "data" : this node cannot mount a volume of type nfs`)
	l.wantPod("web", waitingFor("ContainerCreating"))
	l.remove("web", 0)
	l.wantGone("web")
}

// A pod waits for its claim, and goes on as soon as that is bound.
func TestAPodWaitsForItsClaim(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	}))
	l.wantEvent(`Warning FailedMount MountVolume.SetUp failed for volume "data" : persistentvolumeclaims "x" not found`)
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x", UID: "uid-x"}}
	claims := l.client.CoreV1().PersistentVolumeClaims("default")
	if _, err := claims.Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.wantEvent(`persistentvolumeclaim "x" is not bound to a volume yet`)
	l.wantPod("web", waitingFor("ContainerCreating"))
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: "x", UID: "uid-x"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: t.TempDir()}},
	}}
	if _, err := l.client.CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim.Spec.VolumeName, claim.Status.Phase = "v", corev1.ClaimBound
	if _, err := claims.Update(t.Context(), claim, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.wantPod("web", isReady)
}

func TestASandboxThatDiedIsReplaced(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web"))
	before := l.wantPod("web", isReady)
	l.rt.mu.Lock()
	var id string
	for id = range l.rt.sandboxes {
	}
	l.rt.mu.Unlock()
	if err := l.rt.StopPodSandbox(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	after := l.wantPod("web", func(p *corev1.Pod) bool { return isReady(p) && p.Status.PodIP != before.Status.PodIP })
	if after.Status.ContainerStatuses[0].RestartCount != 1 || len(after.Status.PodIPs) != 1 {
		t.Errorf("status is %+v", after.Status)
	}
	l.wantEvent("Normal SandboxChanged Pod sandbox changed, it will be killed and re-created.")
}
