package hostimages

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
)

// Mode is what --host-images says.
type Mode string

// The modes. On leaves it to PodSecurity, whose level is privileged where a namespace has no label.
const (
	On                   Mode = "on"
	Off                  Mode = "off"
	PrivilegedNamespaces Mode = "privileged-namespaces"
)

// ParseMode reads a flag, also as Kubernetes' switches have it: false is off.
func ParseMode(text string) (Mode, error) {
	switch m := Mode(text); m {
	case On, Off, PrivilegedNamespaces:
		return m, nil
	case "true":
		return On, nil
	case "false":
		return Off, nil
	}
	return "", fmt.Errorf("must be %s, %s or %s", On, Off, PrivilegedNamespaces)
}

// Refused says why the mode itself keeps the pods of a namespace from the host's root and from volumes of type hostPath, or nil.
func (m Mode) Refused(ns *corev1.Namespace) error {
	switch {
	case m == Off:
		return fmt.Errorf("this server runs with --host-images=%s", m)
	case m == PrivilegedNamespaces && ns.Labels[api.EnforceLevelLabel] != string(api.LevelPrivileged):
		return fmt.Errorf("with --host-images=%s, namespace %q needs the label %s=%s", m, ns.Name, api.EnforceLevelLabel, api.LevelPrivileged)
	}
	return nil
}

// Access says why the pods of a namespace may not have the host's root, or nil: by the mode, and by the level that
// PodSecurity enforces there now.
func (m Mode) Access(ns *corev1.Namespace) error {
	if err := m.Refused(ns); err != nil {
		return err
	}
	policy, errs := api.PolicyToEvaluate(ns.Labels, defaultPolicy())
	if len(errs) > 0 {
		return fmt.Errorf("reading the PodSecurity labels of namespace %q: %w", ns.Name, errs.ToAggregate())
	}
	if policy.Enforce.Level != api.LevelPrivileged {
		return fmt.Errorf("namespace %q enforces PodSecurity %q", ns.Name, policy.Enforce.String())
	}
	return nil
}

// defaultPolicy is upstream's for a namespace without labels.
func defaultPolicy() api.Policy {
	all := api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()}
	return api.Policy{Enforce: all, Audit: all, Warn: all}
}
