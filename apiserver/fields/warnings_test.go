package fields

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

var podResource = schema.GroupResource{Resource: "pods"}

// plain is a pod as most are, with what defaulting adds.
func plain() *corev1.Pod {
	container := corev1.Container{
		Name: "c", Image: "svcplane/echo", TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		ImagePullPolicy: corev1.PullIfNotPresent, Ports: []corev1.ContainerPort{{ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: []corev1.VolumeMount{{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
		Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
		ResizePolicy: []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}},
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", Annotations: map[string]string{"example.com/note": "x"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{container, container}, RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			SchedulerName: corev1.DefaultSchedulerName, SecurityContext: &corev1.PodSecurityContext{}, Priority: ptr.To(int32(0)),
			PreemptionPolicy: ptr.To(corev1.PreemptLowerPriority), EnableServiceLinks: ptr.To(true),
			Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}},
		},
	}
}

func limit(c *corev1.Container) {
	c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
}

// was gives the object before a change.
func was(pod *corev1.Pod) func() any { return func() any { return pod } }

// change is one of a plain pod, with the beginnings of the Warnings that it brings.
type change struct {
	name  string
	apply func(*corev1.Pod)
	want  []string
}

func changes() []change {
	return []change{
		{name: "defaults", apply: func(*corev1.Pod) {}},
		{
			name: "limits of two containers", apply: func(p *corev1.Pod) { limit(&p.Spec.Containers[0]); limit(&p.Spec.Containers[1]) },
			want: []string{"spec.containers[0].resources (and 1 more): the limits of svcplane/echo are not enforced"},
		},
		{
			name: "limits of another image, and claims, which are below them",
			apply: func(p *corev1.Pod) {
				p.Spec.Containers[0].Image = "svcplane/host"
				limit(&p.Spec.Containers[0])
				p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}}
			},
			want: []string{"spec.containers[0].resources.claims: "},
		},
		{
			name: "an init container",
			apply: func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Image: "svcplane/echo:1"}}
				limit(&p.Spec.InitContainers[0])
			},
			want: []string{"spec.initContainers[0].resources: "},
		},
		{
			name: "an ephemeral container, whose fields are inlined",
			apply: func(p *corev1.Pod) {
				p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
					SecurityContext: &corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"}},
				}}}
			},
			want: []string{"spec.ephemeralContainers[0].securityContext.seLinuxOptions: "},
		},
		{
			name: "seccomp",
			apply: func(p *corev1.Pod) {
				p.Spec.SecurityContext.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
				p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
			},
		},
		{
			name: "annotations",
			apply: func(p *corev1.Pod) {
				p.Annotations["kubernetes.io/egress-bandwidth"], p.Annotations["k8s.v1.cni.cncf.io/networks"] = "1M", "storage"
			},
			want: []string{"metadata.annotations[k8s.v1.cni.cncf.io/networks]: ", "metadata.annotations[kubernetes.io/egress-bandwidth]: "},
		},
	}
}

func TestWarnings(t *testing.T) {
	table := New()
	for _, tt := range changes() {
		pod := plain()
		tt.apply(pod)
		got := table.Warnings(podResource, pod, nil)
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if again := table.Warnings(podResource, pod, was(pod.DeepCopy())); len(again) > 0 {
			t.Errorf("%s, not changed: %q", tt.name, again)
		}
	}
}

func TestWarningsOfWhatAChangeBrings(t *testing.T) {
	before, now := plain(), plain()
	limit(&before.Spec.Containers[0])
	limit(&now.Spec.Containers[0])
	now.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("128Mi")
	now.Spec.SchedulerName = "other"
	want := []string{"spec.containers[0].resources: ", "spec.schedulerName: "}
	if got := New().Warnings(podResource, now, was(before)); !slices.EqualFunc(slices.Sorted(slices.Values(got)), want, strings.HasPrefix) {
		t.Errorf("%q, want %q", got, want)
	}
	// the same amount in other words is no change
	now = before.DeepCopy()
	now.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("65536Ki")
	if got := New().Warnings(podResource, now, was(before)); len(got) > 0 {
		t.Errorf("the same amount: %q", got)
	}
}

func TestWarningsInATemplateAndOfAWholeObject(t *testing.T) {
	d := &appsv1.Deployment{}
	d.Spec.Template.Spec = plain().Spec
	limit(&d.Spec.Template.Spec.Containers[1])
	got := New().Warnings(schema.GroupResource{Group: "apps", Resource: "deployments"}, d, nil)
	if len(got) != 1 || !strings.HasPrefix(got[0], "spec.template.spec.containers[1].resources: ") {
		t.Errorf("a Deployment: %q", got)
	}
	policy := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}}
	got = New().Warnings(schema.GroupResource{Group: "networking.k8s.io", Resource: "networkpolicies"}, policy, nil)
	if len(got) != 1 || !strings.HasPrefix(got[0], "spec: not enforced") {
		t.Errorf("a NetworkPolicy: %q", got)
	}
	if _, ok := New().Version(schema.GroupResource{Resource: "configmaps"}); ok {
		t.Error("ConfigMaps would be converted and looked at")
	}
}

// TestCostWithoutFindings holds that a pod of which there is nothing to say costs next to nothing.
func TestCostWithoutFindings(t *testing.T) {
	table, pod := New(), plain()
	if n := testing.AllocsPerRun(100, func() { table.Warnings(podResource, pod, nil) }); n > 3 {
		t.Errorf("%.0f allocations for a pod without findings", n)
	}
}

func BenchmarkWithoutFindings(b *testing.B) {
	table, pod := New(), plain()
	b.ReportAllocs()
	for b.Loop() {
		table.Warnings(podResource, pod, nil)
	}
}
