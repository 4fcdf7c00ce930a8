package env

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"svcplane/node/downward"
)

// shelf holds ConfigMaps and Secrets of namespace team, by name.
type shelf struct {
	maps    map[string]map[string]string
	secrets map[string]map[string][]byte
}

func (s shelf) ConfigMap(_ context.Context, key types.NamespacedName) (*corev1.ConfigMap, error) {
	data, ok := s.maps[key.Name]
	if !ok || key.Namespace != "team" {
		return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), key.Name)
	}
	return &corev1.ConfigMap{Data: data}, nil
}

func (s shelf) Secret(_ context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	data, ok := s.secrets[key.Name]
	if !ok || key.Namespace != "team" {
		return nil, apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
	}
	return &corev1.Secret{Data: data}, nil
}

var objects = shelf{
	maps:    map[string]map[string]string{"settings": {"COLOUR": "green", "SIZE": "small"}},
	secrets: map[string]map[string][]byte{"keys": {"TOKEN": []byte("t0k")}},
}

func facts() downward.Facts {
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.UID = "team", "web-1", "u-1"
	pod.Labels = map[string]string{"app": "web"}
	pod.Spec.NodeName, pod.Spec.ServiceAccountName = "n1", "robot"
	return downward.Facts{
		Pod:         pod,
		PodIPs:      []netip.Addr{netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("fd00::5")},
		HostIPs:     []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")},
	}
}

func ref(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func field(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

func TestBuild(t *testing.T) {
	c := &corev1.Container{
		Name:      "app",
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}},
		EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("settings")}},
			{Prefix: "MY_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("keys")}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("absent"), Optional: ptr.To(true)}},
		},
		Env: []corev1.EnvVar{
			{Name: "SIZE", Value: "large"},
			{Name: "URL", Value: "http://$(API_SERVICE_HOST)/$(SIZE)/$$(SIZE)/$(NOBODY)"},
			{Name: "EMPTY"},
			{Name: "IP", ValueFrom: field("status.podIP")},
			{Name: "IPS", ValueFrom: field("status.podIPs")},
			{Name: "HOST", ValueFrom: field("status.hostIP")},
			{Name: "APP", ValueFrom: field("metadata.labels['app']")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "ACCOUNT", ValueFrom: field("spec.serviceAccountName")},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "MIB", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
			{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("keys"), Key: "TOKEN"}}},
			{Name: "MAYBE", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("settings"), Key: "X", Optional: ptr.To(true)}}},
		},
	}
	vars, err := Build(context.Background(), facts(), c, map[string]string{"API_SERVICE_HOST": "10.96.0.9", "SIZE": "of a service"}, objects)
	if err != nil {
		t.Fatal(err)
	}
	got := asMap(vars)
	want := map[string]string{
		"COLOUR": "green", "MY_TOKEN": "t0k", "SIZE": "large", "URL": "http://10.96.0.9/large/$(SIZE)/$(NOBODY)", "EMPTY": "",
		"IP": "10.244.0.5", "IPS": "10.244.0.5,fd00::5", "HOST": "192.0.2.1", "APP": "web", "NODE": "n1", "ACCOUNT": "robot",
		"CPU": "4", "MIB": "64", "KEY": "t0k", "API_SERVICE_HOST": "10.96.0.9",
	}
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %q, want %q", name, v, value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d variables, want %d: %v", len(got), len(want), got)
	}
	if !slices.IsSortedFunc(vars, func(a, b Var) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
}

func TestBuildSaysWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		want string
		c    corev1.Container
	}{
		{`configmaps "none" not found`, corev1.Container{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("none")}}}}},
		{`couldn't find key X in ConfigMap team/settings`, corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("settings"), Key: "X"}}}}}},
		{`couldn't find key X in Secret team/keys`, corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("keys"), Key: "X"}}}}}},
		{`which pod web-1 does not have`, corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "x", Resource: "limits.cpu"}}}}}},
	} {
		_, err := Build(context.Background(), facts(), &c.c, nil, objects)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	noAddress := facts()
	noAddress.PodIPs = nil
	if _, err := Build(context.Background(), noAddress, &corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: field("status.podIP")}}}, nil, objects); err == nil {
		t.Error("an address that is not known must be an error")
	}
}

func service(namespace, name, ip string) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}}
	s.Namespace, s.Name = namespace, name
	return s
}

func TestForServices(t *testing.T) {
	master := types.NamespacedName{Namespace: "default", Name: "kubernetes"}
	all := []*corev1.Service{
		service("default", "kubernetes", "10.96.0.1"), service("default", "elsewhere", "10.96.0.2"),
		service("team", "toad-svc", "10.96.0.3"), service("team", "headless", corev1.ClusterIPNone), service("team", "external", ""),
	}
	got := ForServices(all, master, "team", true)
	for name, want := range map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "TOAD_SVC_SERVICE_HOST": "10.96.0.3", "TOAD_SVC_SERVICE_PORT": "80",
		"TOAD_SVC_SERVICE_PORT_HTTP": "80", "TOAD_SVC_PORT": "tcp://10.96.0.3:80", "TOAD_SVC_PORT_80_TCP_ADDR": "10.96.0.3",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "ELSEWHERE") || strings.HasPrefix(name, "HEADLESS") || strings.HasPrefix(name, "EXTERNAL") {
			t.Errorf("%s must not be there", name)
		}
	}
	for name := range ForServices(all, master, "team", false) {
		if !strings.HasPrefix(name, "KUBERNETES_") {
			t.Errorf("without links %s must not be there", name)
		}
	}
	own := append(all, service("kube-other", "kubernetes", "10.96.0.66"))
	if got := ForServices(own, master, "kube-other", true)["KUBERNETES_SERVICE_HOST"]; got != "10.96.0.66" {
		t.Errorf("a Service of that name in the pod's own namespace must win, got %q", got)
	}
}

func TestExpand(t *testing.T) {
	vars := []Var{{"A", "1"}, {"B", ""}}
	if got := Expand([]string{"$(A)-$(X)", "$$(A)"}, vars); !slices.Equal(got, []string{"1-$(X)", "$(A)"}) {
		t.Errorf("got %q", got)
	}
	if got, err := ExpandStrict("d/$(A)", vars); err != nil || got != "d/1" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"$(X)", "$(B)"} {
		if _, err := ExpandStrict(text, vars); err == nil {
			t.Errorf("%s must be refused", text)
		}
	}
}
