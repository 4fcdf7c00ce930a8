package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
)

// Claims reads claims and the volumes that they are bound to; an absent one is a NotFound API error.
type Claims interface {
	Claim(ctx context.Context, key types.NamespacedName) (*corev1.PersistentVolumeClaim, error)
	Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
}

// ClaimOf gives the name of the claim, in the pod's namespace, that a volume of the pod stands for; empty: none.
func ClaimOf(pod *corev1.Pod, v *corev1.Volume) (name string, readOnly bool) {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName, v.PersistentVolumeClaim.ReadOnly
	case v.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, v), false
	}
	return "", false
}

// setupClaim gives the path of the volume that a claim is bound to.
func (m *Manager) setupClaim(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, out *Mounted) (string, error) {
	name, readOnly := ClaimOf(pod, v)
	claim, err := m.cfg.Claims.Claim(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: name})
	if err != nil {
		return "", err
	}
	if v.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
			return "", err
		}
	}
	pv, err := m.volumeOf(ctx, claim)
	if err != nil {
		return "", err
	}
	out.readOnly[v.Name] = readOnly
	switch {
	case pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode != corev1.PersistentVolumeFilesystem:
		return "", fmt.Errorf("persistentvolume %q has volumeMode %s, and this node mounts file systems only; use volumeMode Filesystem",
			pv.Name, *pv.Spec.VolumeMode)
	case len(pv.Spec.MountOptions) > 0:
		return "", fmt.Errorf("persistentvolume %q has mountOptions, and a path of the host is not mounted with any; leave them out", pv.Name)
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path, checkHostPath(pv.Spec.HostPath)
	case pv.Spec.Local != nil:
		return pv.Spec.Local.Path, m.setupLocal(pod, v.Name, pv.Spec.Local, readOnly)
	}
	return "", fmt.Errorf("this node cannot mount persistentvolume %q: it is of type %s; use hostPath or local", pv.Name, kindOf(pv.Spec.PersistentVolumeSource))
}

// volumeOf gives the volume that a claim is bound to, if both sides say so.
func (m *Manager) volumeOf(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	if claim.Status.Phase != corev1.ClaimBound || claim.Spec.VolumeName == "" {
		return nil, fmt.Errorf("persistentvolumeclaim %q is not bound to a volume yet", claim.Name)
	}
	pv, err := m.cfg.Claims.Volume(ctx, claim.Spec.VolumeName)
	if err != nil {
		return nil, err
	}
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID {
		return nil, fmt.Errorf("persistentvolumeclaim %q is bound to persistentvolume %q, which is bound to another claim", claim.Name, pv.Name)
	}
	return pv, nil
}

// setupLocal looks at a local volume and gives it to the pod's fsGroup; upstream does that for local and not for hostPath.
// A directory among the pod's volumes notes that it is done: once for a pod, also over a restart.
func (m *Manager) setupLocal(pod *corev1.Pod, name string, src *corev1.LocalVolumeSource, readOnly bool) error {
	info, err := os.Stat(src.Path)
	if err != nil {
		return fmt.Errorf("looking at the local volume: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the local volume %s is not a directory, and this node mounts nothing else", src.Path)
	}
	gid := fsGroup(pod)
	if gid == nil || readOnly {
		return nil
	}
	done := filepath.Join(m.podDir(pod.UID), name)
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	policy := pod.Spec.SecurityContext.FSGroupChangePolicy
	if policy == nil || *policy != corev1.FSGroupChangeOnRootMismatch || !belongsTo(info, *gid) {
		if err := giveToGroup(src.Path, int(*gid)); err != nil {
			return fmt.Errorf("giving the volume to fsGroup %d: %w", *gid, err)
		}
	}
	return os.MkdirAll(done, 0o755)
}

const (
	groupMayWrite fs.FileMode = 0o660
	groupMayEnter             = fs.ModeSetgid | 0o110
)

// belongsTo says whether a volume's directory is as giveToGroup leaves it (fsGroupChangePolicy OnRootMismatch).
func belongsTo(info fs.FileInfo, gid int64) bool {
	wanted := groupMayWrite | groupMayEnter
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(stat.Gid) == gid && info.Mode()&wanted == wanted
}

// giveToGroup has everything below path belong to a group that may write it. Links are changed themselves, not followed.
// The root comes last: it tells that the rest is done.
func giveToGroup(path string, gid int) error {
	path = filepath.Clean(path)
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	give := func(name string, info fs.FileInfo) error {
		if err := root.Lchown(name, -1, gid); err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return err
		}
		mode := info.Mode() | groupMayWrite
		if info.IsDir() {
			mode |= groupMayEnter
		}
		return root.Chmod(name, mode)
	}
	err = filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		if at == path && err == nil {
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		if err == nil {
			err = give(strings.TrimPrefix(at[len(path):], "/"), info)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone meanwhile
		}
		return err
	})
	if err != nil {
		return err
	}
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	return give(".", info)
}
