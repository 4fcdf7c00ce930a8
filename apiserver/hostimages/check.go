package hostimages

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// IsHost says whether an image reference stands for svcplane/host.
type IsHost func(reference string) bool

// check is PodSecurity's about svcplane/host: like privileged containers it is for the level privileged only, and
// whom a container runs as changes nothing.
func (is IsHost) check() policy.Check {
	return policy.Check{
		ID:    "svcplane_hostImages",
		Level: api.LevelBaseline,
		Versions: []policy.VersionedCheck{{
			MinimumVersion: api.MajorMinorVersion(1, 0),
			CheckPod: func(_ *metav1.ObjectMeta, spec *corev1.PodSpec) policy.CheckResult {
				if bad := is.containers(spec, nil); len(bad) > 0 {
					return policy.CheckResult{ForbiddenReason: "host images", ForbiddenDetail: mustNot(bad)}
				}
				return policy.CheckResult{Allowed: true}
			},
		}},
	}
}

func mustNot(containers []string) string {
	what := "container"
	if len(containers) > 1 {
		what = "containers"
	}
	return fmt.Sprintf("%s %s must not use image svcplane/host, whose root is the host's", what, strings.Join(containers, ", "))
}

// violations says what of a pod, that was not so before, is power over the host: images and volumes.
func (is IsHost) violations(spec, before *corev1.PodSpec) string {
	var all []string
	if bad := is.containers(spec, before); len(bad) > 0 {
		all = append(all, mustNot(bad))
	}
	if bad := hostPaths(spec, before); len(bad) > 0 {
		all = append(all, fmt.Sprintf("hostPath volumes (%s) are files of the host", strings.Join(bad, ", ")))
	}
	return strings.Join(all, "; ")
}

// hostPaths names a pod's volumes of type hostPath. They stay as they are made, so an update brings none.
func hostPaths(spec, before *corev1.PodSpec) []string {
	var found []string
	for i := range spec.Volumes {
		if spec.Volumes[i].HostPath != nil && before == nil {
			found = append(found, fmt.Sprintf("%q", spec.Volumes[i].Name))
		}
	}
	return found
}

// containers names those of a pod that run svcplane/host and did not in before, which may be nil.
func (is IsHost) containers(spec, before *corev1.PodSpec) []string {
	known := map[string]string{}
	each(before, func(name, image string) { known[name] = image })
	var found []string
	each(spec, func(name, image string) {
		if was, ok := known[name]; (!ok || was != image) && is(image) {
			found = append(found, fmt.Sprintf("%q", name))
		}
	})
	return found
}

// each visits every container of a pod: init, own and ephemeral ones.
func each(spec *corev1.PodSpec, visit func(name, image string)) {
	if spec == nil {
		return
	}
	for i := range spec.InitContainers {
		visit(spec.InitContainers[i].Name, spec.InitContainers[i].Image)
	}
	for i := range spec.Containers {
		visit(spec.Containers[i].Name, spec.Containers[i].Image)
	}
	for i := range spec.EphemeralContainers {
		visit(spec.EphemeralContainers[i].Name, spec.EphemeralContainers[i].Image)
	}
}
