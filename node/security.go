package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
)

// containerLinux gives resources and security context of a container.
func (n *Node) containerLinux(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (*runtimeapi.LinuxContainerConfig, error) {
	security := securityContext(pod, c)
	var err error
	if security.NamespaceOptions, err = n.namespaceOptions(pod); err != nil {
		return nil, err
	}
	if security.Seccomp, err = n.seccomp(pod, c); err != nil {
		return nil, err
	}
	if err := n.checkNonRoot(ctx, pod, c, security); err != nil {
		return nil, err
	}
	return &runtimeapi.LinuxContainerConfig{Resources: n.cgroups.limits.Container(pod, c), SecurityContext: security}, nil
}

// securityContext merges the container's over the pod's, as the API documents for every field.
func securityContext(pod *corev1.Pod, c *corev1.Container) *runtimeapi.LinuxContainerSecurityContext {
	var proc *corev1.ProcMountType // Unmasked is for pods with user namespaces, as the API sees to
	if s := c.SecurityContext; s != nil {
		proc = s.ProcMount
	}
	out := &runtimeapi.LinuxContainerSecurityContext{
		MaskedPaths:   securitycontext.ConvertToRuntimeMaskedPaths(proc),
		ReadonlyPaths: securitycontext.ConvertToRuntimeReadonlyPaths(proc),
	}
	var user, group *int64
	if p := pod.Spec.SecurityContext; p != nil {
		user, group = p.RunAsUser, p.RunAsGroup
		out.SupplementalGroups = groups(p)
		if policy := p.SupplementalGroupsPolicy; policy != nil && *policy == corev1.SupplementalGroupsPolicyStrict {
			out.SupplementalGroupsPolicy = runtimeapi.SupplementalGroupsPolicy_Strict
		}
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			group = s.RunAsGroup
		}
		out.Privileged = s.Privileged != nil && *s.Privileged
		out.ReadonlyRootfs = s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
		out.NoNewPrivs = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
		if caps := s.Capabilities; caps != nil {
			out.Capabilities = &runtimeapi.Capability{AddCapabilities: capabilities(caps.Add), DropCapabilities: capabilities(caps.Drop)}
		}
	}
	if user != nil {
		out.RunAsUser = &runtimeapi.Int64Value{Value: *user}
	}
	if group != nil {
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *group}
	}
	return out
}

func capabilities(list []corev1.Capability) []string {
	var out []string
	for _, c := range list {
		out = append(out, string(c))
	}
	return out
}

// seccomp gives the profile of a container: its own, else the pod's, else what is the default on this node.
func (n *Node) seccomp(pod *corev1.Pod, c *corev1.Container) (*runtimeapi.SecurityProfile, error) {
	var p *corev1.SeccompProfile
	if sc := pod.Spec.SecurityContext; sc != nil {
		p = sc.SeccompProfile
	}
	if sc := c.SecurityContext; sc != nil && sc.SeccompProfile != nil {
		p = sc.SeccompProfile
	}
	switch {
	case p == nil && n.cfg.SeccompDefault, p != nil && p.Type == corev1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case p == nil || p.Type != corev1.SeccompProfileTypeLocalhost:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case p.LocalhostProfile == nil || *p.LocalhostProfile == "":
		return nil, errors.New("localhostProfile must be set if seccompProfile type is Localhost")
	case !filepath.IsLocal(*p.LocalhostProfile):
		return nil, fmt.Errorf("localhostProfile %q must be a path within the node's directory of seccomp profiles", *p.LocalhostProfile)
	}
	path := filepath.Join(n.cfg.SeccompDir, *p.LocalhostProfile)
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: path}, nil
}

// checkNonRoot holds runAsNonRoot: it looks at the user that the spec sets, else at the image's.
func (n *Node) checkNonRoot(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sc *runtimeapi.LinuxContainerSecurityContext) error {
	wanted := pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.RunAsNonRoot != nil && *pod.Spec.SecurityContext.RunAsNonRoot
	if s := c.SecurityContext; s != nil && s.RunAsNonRoot != nil {
		wanted = *s.RunAsNonRoot
	}
	if !wanted {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", podText(pod), c.Name)
	if sc.RunAsUser != nil {
		if sc.RunAsUser.Value == 0 {
			return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	resp, err := n.cfg.Images.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: c.Image}, false)
	if err != nil {
		return fmt.Errorf("asking which user image %q runs as: %w", c.Image, err)
	}
	switch image := resp.GetImage(); {
	case image.GetUid() != nil && image.Uid.Value != 0:
		return nil
	case image.GetUsername() != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", image.Username, where)
	}
	return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
}
