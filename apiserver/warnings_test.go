package apiserver

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/utils/ptr"

	"svcplane/apiserver/fields"
)

// checkResources holds that somebody has said of every resource that the API serves who carries it out.
func checkResources(t *testing.T, client kubernetes.Interface) {
	_, lists, err := client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	table, served := fields.New(), 0
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue
			}
			served++
			if _, ok := table.Resource(schema.GroupResource{Group: gv.Group, Resource: r.Name}); !ok {
				t.Errorf("%s in %s is served, and apiserver/fields does not say who carries it out", r.Name, gv)
			}
		}
	}
	if served < 50 {
		t.Errorf("only %d resources are served", served)
	}
}

// heard collects Warnings.
type heard struct {
	mu    sync.Mutex
	texts []string
}

func (h *heard) HandleWarningHeader(_ int, _, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts = append(h.texts, text)
}

func (h *heard) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	texts := h.texts
	h.texts = nil
	return texts
}

// warned is a client that is told, and what it was told.
type warned struct {
	kubernetes.Interface
	*heard
}

func warnedBy(config *rest.Config) warned {
	h := &heard{}
	config = rest.CopyConfig(config)
	config.WarningHandler = h
	return warned{kubernetes.NewForConfigOrDie(config), h}
}

// expect looks at what the last request was answered with: Warnings with these beginnings and no others.
func (w warned) expect(t *testing.T, what string, err error, want ...string) {
	t.Helper()
	if got := w.take(); err != nil || !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s: %v, warned %q, want %q", what, err, got, want)
	}
}

const (
	ofLimits  = "spec.containers[0].resources: the limits of svcplane/echo"
	ofSELinux = "spec.securityContext.seLinuxOptions: "
)

func unsupported() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "unsupported"},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Type: "t"}},
			Containers: []corev1.Container{{
				Name: "c", Image: "svcplane/echo",
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}},
			}},
		},
	}
}

func checkWarnings(ctx context.Context, t *testing.T, admin, house *rest.Config) {
	client, create := warnedBy(admin), metav1.CreateOptions{}
	_, err := client.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, create)
	client.expect(t, "a service account", err)
	checkPodWarnings(ctx, t, client)
	checkTemplateWarnings(ctx, t, client)
	checkPolicyWarnings(ctx, t, client)

	_, err = client.StorageV1().CSIDrivers().Create(ctx, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "csi.example.com"}}, create)
	client.expect(t, "what nobody carries out", err, "csidrivers.storage.k8s.io: no CSI driver runs")
	_, err = client.AutoscalingV1().HorizontalPodAutoscalers("default").Create(ctx, &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "h"},
		Spec:       autoscalingv1.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}, MaxReplicas: 2},
	}, create)
	client.expect(t, "an older version of what is carried out", err)

	own := warnedBy(house)
	pod := unsupported()
	pod.Name = "copied"
	_, err = own.CoreV1().Pods("default").Create(ctx, pod, create)
	own.expect(t, "what a controller of the house writes", err)
}

func checkPodWarnings(ctx context.Context, t *testing.T, client warned) {
	pods := client.CoreV1().Pods("default")
	made, err := pods.Create(ctx, unsupported(), metav1.CreateOptions{})
	client.expect(t, "a pod", err, ofLimits, ofSELinux)
	_, err = pods.Patch(ctx, made.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	client.expect(t, "another label", err)
	_, err = pods.Patch(ctx, made.Name, types.MergePatchType, []byte(`{"status":{"message":"x"}}`), metav1.PatchOptions{}, "status")
	client.expect(t, "the status", err)
	resize := `{"spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"128Mi"},"requests":{"memory":"32Mi"}}}]}}`
	_, err = pods.Patch(ctx, made.Name, types.StrategicMergePatchType, []byte(resize), metav1.PatchOptions{}, "resize")
	client.expect(t, "a resize", err)
	debug := `{"spec":{"ephemeralContainers":[{"name":"d","image":"svcplane/echo","securityContext":{"seLinuxOptions":{"type":"t"}}}]}}`
	_, err = pods.Patch(ctx, made.Name, types.StrategicMergePatchType, []byte(debug), metav1.PatchOptions{}, "ephemeralcontainers")
	client.expect(t, "an ephemeral container", err, "spec.ephemeralContainers[0].securityContext.seLinuxOptions: ")
}

func checkTemplateWarnings(ctx context.Context, t *testing.T, client warned) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "d"}}
	d.Spec.Template.Labels = d.Spec.Selector.MatchLabels
	d.Spec.Template.Spec = unsupported().Spec
	d.Spec.Template.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
	d.Spec.Template.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGQUIT)}
	made, err := client.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{})
	got := client.take()
	slices.Sort(got)
	want := []string{"spec.template.spec.containers[0].lifecycle.stopSignal: dropped", "spec.template." + ofLimits, "spec.template." + ofSELinux}
	if err != nil || !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("a Deployment: %v, warned %q, want %q", err, got, want)
	}
	if err == nil && made.Spec.Template.Spec.Containers[0].Lifecycle != nil && made.Spec.Template.Spec.Containers[0].Lifecycle.StopSignal != nil {
		t.Error("stopSignal is kept: the row that says that it is dropped is wrong")
	}
	_, err = client.AppsV1().Deployments("default").Patch(ctx, "d", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{})
	client.expect(t, "more replicas", err)
}

func checkPolicyWarnings(ctx context.Context, t *testing.T, client warned) {
	policies := client.NetworkingV1().NetworkPolicies("default")
	_, err := policies.Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "deny"}}, metav1.CreateOptions{})
	client.expect(t, "a NetworkPolicy", err, "spec: not enforced: every pod")
	_, err = policies.Patch(ctx, "deny", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	client.expect(t, "a label of it", err)
	_, err = policies.Patch(ctx, "deny", types.MergePatchType, []byte(`{"spec":{"policyTypes":["Egress"]}}`), metav1.PatchOptions{})
	client.expect(t, "a change of it", err, "spec: not enforced: every pod")
}

// BenchmarkAdmitNothingToSay is what a pod without such fields costs, conversion included.
func BenchmarkAdmitNothingToSay(b *testing.B) {
	pod := unsupported()
	pod.Spec.SecurityContext, pod.Spec.Containers[0].Resources = nil, corev1.ResourceRequirements{}
	internal, err := legacyscheme.Scheme.ConvertToVersion(pod, core.SchemeGroupVersion)
	if err != nil {
		b.Fatal(err)
	}
	w := &warnings{fields.New()}
	a := admission.NewAttributesRecord(internal, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "default", "p",
		corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, nil, false, &user.DefaultInfo{Name: "admin"})
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Admit(b.Context(), a, nil); err != nil {
			b.Fatal(err)
		}
	}
}
