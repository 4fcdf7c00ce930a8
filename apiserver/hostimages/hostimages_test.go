package hostimages

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/apis/apps"
	"k8s.io/kubernetes/pkg/apis/core"
)

// isHost knows svcplane/host and an alias of it.
func isHost(ref string) bool { return ref == "svcplane/host" || ref == "nginx" }

// chain is the plugin between an API with some namespaces and pods.
type chain struct {
	t        *testing.T
	plugin   *plugin
	warnings []string
}

func newChain(t *testing.T, mode Mode, objects ...runtime.Object) *chain {
	t.Helper()
	for name, labels := range map[string]map[string]string{
		"plain": nil, "privileged": {"enforce": "privileged"}, "baseline": {"enforce": "baseline"}, "restricted": {"enforce": "restricted"},
		"pinned": {"enforce": "baseline", "enforce-version": "v1.20"}, "warned": {"warn": "baseline"}, "audited": {"audit": "baseline"},
	} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
		for key, value := range labels {
			ns.Labels["pod-security.kubernetes.io/"+key] = value
		}
		objects = append(objects, ns)
	}
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	p, err := newPlugin(Config{Mode: mode, IsHost: isHost})
	if err != nil {
		t.Fatal(err)
	}
	p.SetExternalKubeInformerFactory(factory)
	p.SetExternalKubeClientSet(client)
	if err := p.ValidateInitialization(); err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	return &chain{t: t, plugin: p}
}

// AddWarning makes the chain the recorder of warnings.
func (c *chain) AddWarning(_, text string) { c.warnings = append(c.warnings, text) }

// ask sends an object through admission and gives the refusal, or the warnings, or "".
func (c *chain) ask(kind, resource, sub string, object, old runtime.Object, namespace string) string {
	c.t.Helper()
	c.warnings = nil
	group := ""
	if resource == "deployments" {
		group = "apps"
	}
	operation := admission.Create
	if old != nil {
		operation = admission.Update
	}
	gv := schema.GroupVersion{Group: group, Version: "v1"}
	a := admission.NewAttributesRecord(object, old, gv.WithKind(kind), namespace, "x", gv.WithResource(resource), sub, operation, nil, false, &user.DefaultInfo{Name: "student"})
	ctx := warning.WithWarningRecorder(context.Background(), c)
	if err := c.plugin.Validate(ctx, a, nil); err != nil {
		return err.Error()
	}
	return strings.Join(c.warnings, "\n")
}

func (c *chain) pod(pod, old *core.Pod, sub, namespace string) string {
	c.t.Helper()
	if old == nil {
		return c.ask("Pod", "pods", sub, pod, nil, namespace)
	}
	return c.ask("Pod", "pods", sub, pod, old, namespace)
}

func podOf(image string) *core.Pod {
	return &core.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: core.PodSpec{Containers: []core.Container{{Name: "main", Image: image}}}}
}

const whole = `container "main" must not use image svcplane/host, whose root is the host's`

func TestHostImagesAreForTheLevelPrivileged(t *testing.T) {
	c := newChain(t, On)
	for _, image := range []string{"svcplane/host", "nginx"} {
		for namespace, want := range map[string]string{
			"plain": "", "privileged": "", "audited": "",
			"baseline": `pods "x" is forbidden: violates PodSecurity "baseline:latest": host images (` + whole + `)`,
			"pinned":   `pods "x" is forbidden: violates PodSecurity "baseline:v1.20": host images (` + whole + `)`,
			"warned":   `would violate PodSecurity "baseline:latest": host images (` + whole + `)`,
		} {
			if got := c.pod(podOf(image), nil, "", namespace); got != want {
				t.Errorf("%s in %s: got %q, want %q", image, namespace, got, want)
			}
		}
		if got := c.pod(podOf(image), nil, "", "restricted"); !strings.Contains(got, "host images ("+whole+")") || !strings.Contains(got, "runAsNonRoot") {
			t.Errorf("%s in restricted: %q", image, got)
		}
	}
	if got := c.pod(podOf("svcplane/echo"), nil, "", "baseline"); got != "" {
		t.Errorf("svcplane/echo in baseline: %q", got)
	}
}

func TestEveryWayToRunAnImageIsChecked(t *testing.T) {
	uid := int64(1000)
	asUser := podOf("svcplane/host")
	asUser.Spec.Containers[0].SecurityContext = &core.SecurityContext{RunAsUser: &uid}
	init := podOf("svcplane/echo")
	init.Spec.InitContainers = []core.Container{{Name: "first", Image: "svcplane/host"}}
	debug := podOf("svcplane/echo")
	debug.Spec.EphemeralContainers = []core.EphemeralContainer{{EphemeralContainerCommon: core.EphemeralContainerCommon{Name: "debugger", Image: "svcplane/host"}}}
	labelled := podOf("svcplane/host")
	labelled.Labels = map[string]string{"a": "b"}
	for _, mode := range []struct {
		Mode
		namespace string
	}{{On, "baseline"}, {Off, "privileged"}, {PrivilegedNamespaces, "plain"}} {
		c := newChain(t, mode.Mode)
		for what, got := range map[string]string{
			"another user": c.pod(asUser, nil, "", mode.namespace),
			"init":         c.pod(init, nil, "", mode.namespace),
			"ephemeral":    c.pod(debug, podOf("svcplane/echo"), "ephemeralcontainers", mode.namespace),
			"patched":      c.pod(podOf("svcplane/host"), podOf("svcplane/echo"), "", mode.namespace),
		} {
			if !strings.Contains(got, "is forbidden") || !strings.Contains(got, "must not use image svcplane/host") {
				t.Errorf("%s, %s: %q", mode.Mode, what, got)
			}
		}
		for what, got := range map[string]string{
			"labels":  c.pod(labelled, podOf("svcplane/host"), "", mode.namespace),
			"status":  c.pod(podOf("svcplane/host"), podOf("svcplane/host"), "status", mode.namespace),
			"binding": c.ask("Binding", "pods", "binding", &core.Binding{}, nil, mode.namespace),
			"exec":    c.ask("PodExecOptions", "pods", "exec", &core.PodExecOptions{}, nil, mode.namespace),
		} {
			if got != "" {
				t.Errorf("%s: an update of %s is answered with %q", mode.Mode, what, got)
			}
		}
	}
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		mode      Mode
		namespace string
		want      string
	}{
		{Off, "plain", "this server runs with --host-images=off"},
		{Off, "privileged", "this server runs with --host-images=off"},
		{PrivilegedNamespaces, "privileged", ""},
		{PrivilegedNamespaces, "plain", `with --host-images=privileged-namespaces, namespace "plain" needs the label pod-security.kubernetes.io/enforce=privileged`},
	} {
		want := c.want
		if want != "" {
			want = `pods "x" is forbidden: ` + whole + ": " + want
		}
		if got := newChain(t, c.mode).pod(podOf("nginx"), nil, "", c.namespace); got != want {
			t.Errorf("%s in %s: got %q, want %q", c.mode, c.namespace, got, want)
		}
	}
	for text, want := range map[string]Mode{"true": On, "false": Off, "off": Off} {
		if got, err := ParseMode(text); got != want || err != nil {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "yes", "ON"} {
		if _, err := ParseMode(text); err == nil {
			t.Errorf("%q is a mode", text)
		}
	}
}

// TestModesAreAboutHostPathsToo: baseline refuses them in upstream's words, and the mode in ours.
func TestModesAreAboutHostPathsToo(t *testing.T) {
	mounting := podOf("svcplane/echo")
	mounting.Spec.Volumes = []core.Volume{
		{Name: "etc", VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: "/etc"}}},
		{Name: "scratch", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}},
	}
	labelled := mounting.DeepCopy()
	labelled.Labels = map[string]string{"a": "b"}
	both := mounting.DeepCopy()
	both.Spec.Containers[0].Image = "nginx"
	const volume = `hostPath volumes ("etc") are files of the host`
	for _, c := range []struct {
		mode      Mode
		pod, old  *core.Pod
		namespace string
		want      string
	}{
		{On, mounting, nil, "plain", ""},
		{On, mounting, nil, "baseline", `violates PodSecurity "baseline:latest": hostPath volumes (volume "etc")`},
		{Off, mounting, nil, "privileged", volume + ": this server runs with --host-images=off"},
		{Off, both, nil, "plain", whole + "; " + volume + ": this server"},
		{Off, labelled, mounting, "plain", ""},
		{PrivilegedNamespaces, mounting, nil, "plain", volume + `: with --host-images=privileged-namespaces, namespace "plain" needs the label`},
		{PrivilegedNamespaces, mounting, nil, "privileged", ""},
	} {
		if got := newChain(t, c.mode).pod(c.pod, c.old, "", c.namespace); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s in %s: got %q, want %q", c.mode, c.namespace, got, c.want)
		}
	}
}

func TestWorkloadsAreWarnedOf(t *testing.T) {
	deployment := &apps.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	deployment.Spec.Template.Spec = podOf("nginx").Spec
	for _, c := range []struct {
		mode            Mode
		namespace, want string
	}{
		{On, "plain", ""},
		{On, "baseline", `would violate PodSecurity "baseline:latest": host images (` + whole + `)`},
		{Off, "plain", "the pods will be refused: " + whole + ": this server runs with --host-images=off"},
	} {
		chain := newChain(t, c.mode)
		if got := chain.ask("Deployment", "deployments", "", deployment, nil, c.namespace); got != c.want {
			t.Errorf("%s in %s: got %q, want %q", c.mode, c.namespace, got, c.want)
		}
		if got := chain.ask("Deployment", "deployments", "", deployment, deployment, c.namespace); got != c.want {
			t.Errorf("%s in %s, update: got %q, want %q", c.mode, c.namespace, got, c.want)
		}
	}
}

func TestALevelThatPodsViolateIsWarnedOf(t *testing.T) {
	running := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "clock", Namespace: "plain"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "nginx"}}}}
	c := newChain(t, On, running)
	old := &core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "plain"}}
	next := old.DeepCopy()
	next.Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
	want := "existing pods in namespace \"plain\" violate the new PodSecurity enforce level \"baseline:latest\"\nclock: host images"
	if got := c.ask("Namespace", "namespaces", "", next, old, "plain"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAccess(t *testing.T) {
	const label = "pod-security.kubernetes.io/enforce"
	for _, c := range []struct {
		mode   Mode
		labels map[string]string
		want   bool
	}{
		{On, nil, true},
		{On, map[string]string{label: "privileged"}, true},
		{On, map[string]string{"pod-security.kubernetes.io/warn": "restricted"}, true},
		{On, map[string]string{label: "baseline"}, false},
		{On, map[string]string{label: "restricted"}, false},
		{On, map[string]string{label: "Privileged"}, false}, // not a level: closed
		{On, map[string]string{label: "privileged", label + "-version": "soon"}, false},
		{PrivilegedNamespaces, nil, false},
		{PrivilegedNamespaces, map[string]string{label: "privileged"}, true},
		{PrivilegedNamespaces, map[string]string{label: "baseline"}, false},
		{Off, map[string]string{label: "privileged"}, false},
	} {
		err := c.mode.Access(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: c.labels}})
		if (err == nil) != c.want {
			t.Errorf("%s with %s: %v", c.mode, fmt.Sprint(c.labels), err)
		}
	}
}
