package resources

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestGrant(t *testing.T) {
	p := pod(both("cpu", "1"), both("memory", "1Mi"))
	p.Spec.Containers[0].Name, p.Spec.Containers[1].Name = "a", "b"
	given := Asked(p)
	if out, differs := given.Apply(p); differs || out != p {
		t.Error("what a pod asks for is not what it was given")
	}
	p.Spec.Containers[0].Resources = both("cpu", "2")
	out, differs := given.Apply(p)
	if cpu := out.Spec.Containers[0].Resources.Limits["cpu"]; !differs || cpu.String() != "1" {
		t.Errorf("differs: %t, cpu %s; want 1", differs, cpu.String())
	}
	if cpu := p.Spec.Containers[0].Resources.Limits["cpu"]; cpu.String() != "2" {
		t.Error("the pod itself was changed")
	}
}

func TestShort(t *testing.T) {
	node := list("cpu", "2", "memory", "1Gi")
	other := []*corev1.Pod{pod(both("cpu", "500m", "memory", "512Mi"))}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
		ever bool
	}{
		"fits":  {pod(both("cpu", "1500m", "memory", "512Mi")), "", true},
		"later": {pod(both("cpu", "1600m")), "Node didn't have enough resource: cpu, requested: 1600, used: 500, capacity: 2000", true},
		"never": {pod(both("memory", "2Gi")), "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824", false},
	} {
		if got, ever := Short(c.pod, other, node); got != c.want || ever != c.ever {
			t.Errorf("%s: %q, %t; want %q, %t", name, got, ever, c.want, c.ever)
		}
	}
}

func TestRestarts(t *testing.T) {
	c := &corev1.Container{ResizePolicy: []corev1.ContainerResizePolicy{
		{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}, {ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}}
	from := both("cpu", "1", "memory", "1Mi")
	for name, w := range map[string]struct {
		to               corev1.ResourceRequirements
		restart, changed bool
	}{
		"nothing": {both("cpu", "1000m", "memory", "1024Ki"), false, false}, "cpu": {both("cpu", "2", "memory", "1Mi"), false, true},
		"memory": {both("cpu", "1", "memory", "2Mi"), true, true}, "a request of memory": {corev1.ResourceRequirements{
			Requests: list("cpu", "1"), Limits: list("cpu", "1", "memory", "1Mi")}, true, true},
	} {
		if restart, changed := Restarts(c, from, w.to); restart != w.restart || changed != w.changed {
			t.Errorf("%s: restart %t, changed %t; want %+v", name, restart, changed, w)
		}
	}
}

func TestEffective(t *testing.T) {
	own := corev1.ResourceRequirements{Limits: list("cpu", "1")}
	whole := &corev1.ResourceRequirements{Limits: list("cpu", "2", "memory", "1Mi")}
	got := Effective(whole, own)
	cpu, memory := got.Limits["cpu"], got.Limits["memory"]
	if cpu.String() != "1" || memory.String() != "1Mi" || len(own.Limits) != 1 {
		t.Errorf("%v of %v", got, own)
	}
	if got := Effective(nil, own); len(got.Limits) != 1 {
		t.Error(got)
	}
}

func TestUpper(t *testing.T) {
	a := Grant{Containers: map[string]corev1.ResourceRequirements{"a": both("cpu", "2", "memory", "1Mi")}}
	b := Grant{Containers: map[string]corev1.ResourceRequirements{"a": {Requests: list("cpu", "1", "memory", "2Mi"), Limits: list("cpu", "1", "memory", "2Mi", "x", "1")}}}
	got := Upper(a, b).Containers["a"]
	for name, want := range map[corev1.ResourceName]string{"cpu": "2", "memory": "2Mi"} {
		request, limit := got.Requests[name], got.Limits[name]
		if request.String() != want || limit.String() != want {
			t.Errorf("%s: %s and %s, want %s", name, request.String(), limit.String(), want)
		}
	}
	if _, limited := got.Limits["x"]; limited {
		t.Error("what was not limited is")
	}
}

func TestResizeMessage(t *testing.T) {
	p := pod(both("cpu", "1"))
	p.Spec.Containers[0].Name = "a"
	const want = `Pod resize started: {"containers":[{"name":"a","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}}}],"generation":3}`
	if got := ResizeMessage("Pod resize started", p, 3, ""); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := ResizeMessage("x", p, 3, "no"); !strings.HasSuffix(got, `"error":"no"}`) {
		t.Error(got)
	}
}
