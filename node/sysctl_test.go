package node

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSysctlsThatPodsMaySet(t *testing.T) {
	for _, c := range []struct {
		unsafe []string
		name   string
		change func(*corev1.PodSpec)
		want   string
	}{
		{name: "net.ipv4.ip_unprivileged_port_start"},
		{name: "net/ipv4/tcp_rmem"},
		{name: "kernel.shm_rmid_forced"},
		{name: "net.core.somaxconn", want: `"net.core.somaxconn" not allowlisted`},
		{name: "vm.swappiness", want: `"vm.swappiness" not allowlisted`},
		{unsafe: []string{"net.core.*"}, name: "net.core.somaxconn"},
		{unsafe: []string{"net/core/somaxconn"}, name: "net.core.somaxconn"},
		{unsafe: []string{"kernel.msg*"}, name: "kernel.msgmax"},
		{unsafe: []string{"net.core.*"}, name: "net.ipv4.ip_forward", want: "not allowlisted"},
		{name: "net.ipv4.tcp_syncookies", change: func(s *corev1.PodSpec) { s.HostNetwork = true }, want: `"net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		{name: "kernel.shm_rmid_forced", change: func(s *corev1.PodSpec) { s.HostIPC = true }, want: `"kernel.shm_rmid_forced" not allowed with host IPC enabled`},
		{unsafe: []string{"net.*"}, name: "net.core.somaxconn", change: func(s *corev1.PodSpec) { s.HostNetwork = true }, want: "not allowed with host Net enabled"},
	} {
		allowed, err := newSysctls(c.unsafe)
		if err != nil {
			t.Fatal(err)
		}
		p := pod("p", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: c.name, Value: "1"}}}
			if c.change != nil {
				c.change(&p.Spec)
			}
		})
		if err := allowed.check(p); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %v: %v, want %q", c.name, c.unsafe, err, c.want)
		}
	}
	for _, wrong := range []string{"vm.swappiness", "kernel.*", "net.*.x", "", "NET.x"} {
		if err := CheckSysctls([]string{wrong}); err == nil {
			t.Errorf("pods may set %q", wrong)
		}
	}
}
