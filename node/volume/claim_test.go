package volume

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// drawer holds claims and volumes by name.
type drawer struct {
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
}

func (d drawer) Claim(_ context.Context, key types.NamespacedName) (*corev1.PersistentVolumeClaim, error) {
	if c := d.claims[key.Name]; c != nil && key.Namespace == "team" {
		return c, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("persistentvolumeclaims"), key.Name)
}

func (d drawer) Volume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	if pv := d.volumes[name]; pv != nil {
		return pv, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("persistentvolumes"), name)
}

// store has a claim "data" bound to a volume of that source.
func store(source corev1.PersistentVolumeSource, changes ...func(*corev1.PersistentVolumeClaim, *corev1.PersistentVolume)) drawer {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data", UID: "c"},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv"},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: source, ClaimRef: &corev1.ObjectReference{UID: "c"}},
	}
	for _, change := range changes {
		change(claim, pv)
	}
	return drawer{claims: map[string]*corev1.PersistentVolumeClaim{"data": claim, "web-v": claim}, volumes: map[string]*corev1.PersistentVolume{"pv": pv}}
}

func local(path string) corev1.PersistentVolumeSource {
	return corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}}
}

func hostPathVolume(path string, kind corev1.HostPathType) corev1.PersistentVolumeSource {
	return corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}
}

func claimed(readOnly bool) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data", ReadOnly: readOnly}}
}

func TestAClaimIsThePathOfItsVolume(t *testing.T) {
	dir := t.TempDir()
	for name, source := range map[string]corev1.PersistentVolumeSource{
		"local": local(dir), "hostPath": hostPathVolume(dir+"/made", corev1.HostPathDirectoryOrCreate),
	} {
		for _, readOnly := range []bool{false, true} {
			l := newLab(t)
			l.cfg.Claims = store(source)
			m, path := l.setup(t, pod(claimed(readOnly)))
			if info, err := os.Stat(path); err != nil || !info.IsDir() || !strings.HasPrefix(path, dir) || m.ReadOnly("v") != readOnly {
				t.Errorf("%s: %s, read-only %v, %v", name, path, m.ReadOnly("v"), err)
			}
			if err := os.WriteFile(path+"/kept", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := l.Teardown("u"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path + "/kept"); err != nil {
				t.Errorf("%s: what is in the volume must stay: %v", name, err)
			}
		}
	}
}

func TestAnEphemeralVolumeIsThePodsOwn(t *testing.T) {
	l := newLab(t)
	claims := store(local(t.TempDir()))
	l.cfg.Claims = claims
	f := pod(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}})
	if _, err := l.Setup(t.Context(), f); err == nil || !strings.Contains(err.Error(), "was not created for pod team/web") {
		t.Errorf("with a claim of somebody else: %v", err)
	}
	claims.claims["web-v"].OwnerReferences = []metav1.OwnerReference{{UID: "u", Controller: ptr.To(true)}}
	l.setup(t, f)
}

func TestClaimsThatCannotBeMounted(t *testing.T) {
	type both = func(*corev1.PersistentVolumeClaim, *corev1.PersistentVolume)
	change := func(f func(c *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume)) []both { return []both{f} }
	for text, claims := range map[string]drawer{
		`persistentvolumeclaims "data" not found`: {},
		`persistentvolumeclaim "data" is not bound`: store(local("/"), change(func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			c.Status.Phase = corev1.ClaimPending
		})...),
		`persistentvolumes "gone" not found`: store(local("/"), change(func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) { c.Spec.VolumeName = "gone" })...),
		`which is bound to another claim`:    store(local("/"), change(func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) { pv.Spec.ClaimRef.UID = "x" })...),
		`has volumeMode Block, and this node`: store(local("/"), change(func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) {
			pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		})...),
		`has mountOptions`: store(local("/"), change(func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) {
			pv.Spec.MountOptions = []string{"ro"}
		})...),
		`this node cannot mount persistentvolume "pv": it is of type nfs; use hostPath or local`: store(corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{}}),
		`is of type csi`:                 store(corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{}}),
		`/nowhere/at/all: no such file`:  store(local("/nowhere/at/all")),
		`/etc/passwd is not a directory`: store(local("/etc/passwd")),
		`/nowhere/at/all does not exist`: store(hostPathVolume("/nowhere/at/all", corev1.HostPathDirectory)),
	} {
		l := newLab(t)
		l.cfg.Claims = claims
		if _, err := l.Setup(t.Context(), pod(claimed(false))); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(text)) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}

// A local volume is given to the pod's group once for each pod; a hostPath is not (Kubernetes: fsGroup).
func TestFSGroupOwnsALocalVolume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("run as root, as make test does: giving files to a group needs it")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "file")
	fill := func() {
		t.Helper()
		if err := os.MkdirAll(dir+"/deep", 0o700); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir + "/deep/file", outside} {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if err := os.Symlink(outside, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.cfg.Claims = store(local(dir))
	f := pod(claimed(false))
	f.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](4321)}
	l.setup(t, f)
	wantGroup(t, dir, 4321, os.ModeDir|os.ModeSetgid|0o775)
	wantGroup(t, dir+"/deep", 4321, os.ModeDir|os.ModeSetgid|0o770)
	wantGroup(t, dir+"/deep/file", 4321, 0o660)
	wantGroup(t, outside, os.Getgid(), 0o600)

	if err := os.Chown(dir+"/deep/file", -1, 99); err != nil {
		t.Fatal(err)
	}
	l.setup(t, f)
	wantGroup(t, dir+"/deep/file", 99, 0o660) // done for this pod
	if err := l.Teardown("u"); err != nil {
		t.Fatal(err)
	}
	f.Pod.Spec.SecurityContext.FSGroupChangePolicy = ptr.To(corev1.FSGroupChangeOnRootMismatch)
	l.setup(t, f)
	wantGroup(t, dir+"/deep/file", 99, 0o660) // the root is as it should be
	f.Pod.Spec.SecurityContext.FSGroupChangePolicy = nil
	if err := l.Teardown("u"); err != nil {
		t.Fatal(err)
	}
	l.setup(t, f)
	wantGroup(t, dir+"/deep/file", 4321, 0o660)
}

func TestFSGroupLeavesAHostPath(t *testing.T) {
	dir := t.TempDir()
	l := newLab(t)
	l.cfg.Claims = store(hostPathVolume(dir, corev1.HostPathDirectory))
	f := pod(claimed(false))
	f.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](4321)}
	l.setup(t, f)
	wantGroup(t, dir, os.Getgid(), os.ModeDir|0o755)
}

func wantGroup(t *testing.T, path string, gid int, mode os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Gid; int(got) != gid || info.Mode() != mode {
		t.Errorf("%s: group %d, mode %v; want %d, %v", filepath.Base(path), got, info.Mode(), gid, mode)
	}
}

// Who may write the volume may write the sub-paths that are made in it, whatever the umask.
func TestSubPathsAreMadeLikeTheVolume(t *testing.T) {
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.cfg.Claims = store(local(dir))
	m, _ := l.setup(t, pod(claimed(false)))
	if err := os.Mkdir(dir+"/a", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Path("v", "a/b/c"); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{"a": 0o700, "a/b": 0o777, "a/b/c": 0o777} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %o", path, info, err, mode)
		}
	}
}
