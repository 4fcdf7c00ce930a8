package volume

import (
	"context"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Place is where the files of a volume of a pod are.
type Place struct {
	Volume, Path string
	Claim        string // in the pod's namespace; empty: it is the pod's own
	Memory       bool   // a file system of its own, in memory
}

// Places lists those volumes of a pod that can be measured: its own, and those of claims. What is mounted of the host, and what
// images hold, is not the pod's.
func (m *Manager) Places(ctx context.Context, pod *corev1.Pod) []Place {
	var all []Place
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.EmptyDir != nil:
			all = append(all, Place{Volume: v.Name, Path: m.dir(pod.UID, v.Name), Memory: v.EmptyDir.Medium == corev1.StorageMediumMemory})
		case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
			all = append(all, Place{Volume: v.Name, Path: m.dir(pod.UID, v.Name)})
		case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
			name, _ := ClaimOf(pod, v)
			if path := m.claimPath(ctx, pod.Namespace, name); path != "" {
				all = append(all, Place{Volume: v.Name, Path: path, Claim: name})
			}
		}
	}
	return all
}

func (m *Manager) dir(uid types.UID, name string) string { return filepath.Join(m.podDir(uid), name) }

// claimPath is empty for a claim without a volume on this machine.
func (m *Manager) claimPath(ctx context.Context, namespace, name string) string {
	claim, err := m.cfg.Claims.Claim(ctx, types.NamespacedName{Namespace: namespace, Name: name})
	if err != nil {
		return ""
	}
	pv, err := m.volumeOf(ctx, claim)
	switch {
	case err != nil:
		return ""
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path
	case pv.Spec.Local != nil:
		return pv.Spec.Local.Path
	}
	return ""
}
