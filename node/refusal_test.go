package node

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

// TestARestrictionThatCannotBeHadKeepsAPodFromRunning holds that such a pod is failed, and not run without it.
func TestARestrictionThatCannotBeHadKeepsAPodFromRunning(t *testing.T) {
	profile := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	l := newLab(t)
	l.start()
	for reason, change := range map[string]func(*corev1.PodSpec){
		"PodOSNotSupported": func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} },
		"SupplementalGroupsPolicyNotSupported": func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{SupplementalGroupsPolicy: ptr.To(corev1.SupplementalGroupsPolicyStrict)}
		},
		"SysctlForbidden": func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1"}}}
		},
		"AppArmor": func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: profile}
		},
	} {
		name := strings.ToLower(reason)
		l.create(pod(name, func(p *corev1.Pod) { change(&p.Spec) }))
		failed := l.wantPod(name, func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodPending })
		if failed.Status.Phase != corev1.PodFailed || failed.Status.Reason != reason {
			t.Errorf("%s: the pod is %s (%s)", reason, failed.Status.Phase, failed.Status.Reason)
		}
		if n := len(failed.Status.ContainerStatuses); n > 0 {
			t.Errorf("%s: %d containers have a status, which kubectl would show in place of the reason", reason, n)
		}
	}
	l.create(pod("fine", func(p *corev1.Pod) {
		p.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
		p.Spec.SecurityContext = &corev1.PodSecurityContext{
			SupplementalGroupsPolicy: ptr.To(corev1.SupplementalGroupsPolicyMerge),
			AppArmorProfile:          &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
		}
	}))
	l.wantPod("fine", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
}

// TestTheRuntimeIsToldOfClassAndUserNamespace holds that the runtime gets to refuse what it has not.
func TestTheRuntimeIsToldOfClassAndUserNamespace(t *testing.T) {
	l := newLab(t, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "gvisor"}, Handler: "runsc"})
	l.start()
	for class, want := range map[string]string{"gvisor": "runsc", "": ""} {
		p := pod("p")
		if class != "" {
			p.Spec.RuntimeClassName = &class
		}
		if got, err := l.node.handler(t.Context(), p); err != nil || got != want {
			t.Errorf("class %q: handler %q, %v", class, got, err)
		}
	}
	missing := pod("p", func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("none") })
	if got, err := l.node.handler(t.Context(), missing); err == nil {
		t.Errorf("a class that is not there has the handler %q", got)
	}
	for _, tt := range []struct {
		hostUsers *bool
		own       bool
	}{{nil, false}, {ptr.To(true), false}, {ptr.To(false), true}} {
		all, err := l.node.namespaceOptions(pod("p", func(p *corev1.Pod) { p.Spec.HostUsers = tt.hostUsers }))
		if err != nil {
			t.Fatal(err)
		}
		options := all.UsernsOptions
		if own := options != nil && options.Mode == runtimeapi.NamespaceMode_POD; own != tt.own {
			t.Errorf("hostUsers %v: a user namespace of its own: %v", tt.hostUsers, own)
		}
	}
}
