package node

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
)

// safeSysctls are those of a pod's own namespaces that do no harm to other pods, as the kubelet has them. All kernels that
// svcplane runs on keep them by namespace.
var safeSysctls = [...]string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
}

// sysctls are what pods may set.
type sysctls struct{ patterns []string }

// CheckSysctls says what is wrong with a list of names and patterns.
func CheckSysctls(unsafe []string) error {
	_, err := newSysctls(unsafe)
	return err
}

func newSysctls(unsafe []string) (*sysctls, error) {
	// The names of validation's IsValidSysctlPattern, with dots or slashes.
	valid := regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]$`)
	s := &sysctls{patterns: safeSysctls[:]}
	for _, pattern := range unsafe {
		if len(pattern) > 253 || !valid.MatchString(pattern) {
			return nil, fmt.Errorf("sysctl %q must be a name such as net.core.somaxconn, or its beginning with * at the end", pattern)
		}
		name := sysctl.NormalizeName(pattern)
		if namespace, _, _ := sysctl.GetNamespace(name); namespace == sysctl.UnknownNamespace {
			return nil, fmt.Errorf("the sysctls %q are not known to be namespaced: a pod would set them for the whole machine", pattern)
		}
		s.patterns = append(slices.Clip(s.patterns), name)
	}
	return s, nil
}

// check says which of a pod's sysctls it may not set, in the kubelet's words.
func (s *sysctls) check(pod *corev1.Pod) error {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, set := range pod.Spec.SecurityContext.Sysctls {
		name := sysctl.NormalizeName(set.Name)
		if !slices.ContainsFunc(s.patterns, func(pattern string) bool {
			beginning, any := strings.CutSuffix(pattern, "*")
			return name == pattern || any && strings.HasPrefix(name, beginning)
		}) {
			return fmt.Errorf("%q not allowlisted", name)
		}
		namespace, _, _ := sysctl.GetNamespace(name)
		if namespace == sysctl.NetNamespace && pod.Spec.HostNetwork || namespace == sysctl.IPCNamespace && pod.Spec.HostIPC {
			return fmt.Errorf("%q not allowed with host %s enabled", name, namespace)
		}
	}
	return nil
}
