package localpath

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"svcplane/controllers/controllertest"
)

// bench is a Provisioner at work on a fake API.
type bench struct {
	*testing.T
	api    *fake.Clientset
	events *record.FakeRecorder
	dir    string
}

func start(t *testing.T, dir string, objects ...runtime.Object) *bench {
	t.Helper()
	b := &bench{T: t, api: fake.NewClientset(append(objects, class())...), events: record.NewFakeRecorder(100), dir: dir}
	factory := informers.NewSharedInformerFactory(b.api, 0)
	p, err := New(Config{Client: b.api, Factory: factory, Recorder: b.events, NodeName: "n", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	controllertest.Run(t, factory, p.Run, nil)
	return b
}

// eventually waits until look gives "".
func (b *bench) eventually(look func(ctx context.Context) string) {
	b.Helper()
	var last string
	err := wait.PollUntilContextTimeout(b.Context(), time.Millisecond, controllertest.Deadline, true, func(ctx context.Context) (bool, error) {
		last = look(ctx)
		return last == "", nil
	})
	if err != nil {
		b.Fatal(last)
	}
}

func (b *bench) volume(ctx context.Context) (*corev1.PersistentVolume, error) {
	return b.api.CoreV1().PersistentVolumes().Get(ctx, "pvc-u", metav1.GetOptions{})
}

func (b *bench) wantEvent(part string) {
	b.Helper()
	controllertest.WantEvent(b.T, b.events, part)
}

func TestAClaimGetsADirectory(t *testing.T) {
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	b := start(t, filepath.Join(t.TempDir(), "volumes"), claim())
	b.wantEvent("Normal ProvisioningSucceeded Successfully provisioned volume pvc-u")
	pv, err := b.volume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := pv.Spec.HostPath.Path; got != filepath.Join(b.dir, "pvc-u") {
		t.Errorf("path %s", got)
	}
	if ref := pv.Spec.ClaimRef; ref.Namespace != "team" || ref.Name != "data" || ref.UID != "u" {
		t.Errorf("claimRef %v", ref)
	}
	if size := pv.Spec.Capacity[corev1.ResourceStorage]; size.String() != "1Gi" || pv.Spec.StorageClassName != "local-path" {
		t.Errorf("spec %+v", pv.Spec)
	}
	info, err := os.Stat(pv.Spec.HostPath.Path)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	if info, err := os.Stat(b.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of volumes: %v, %v", info, err)
	}
}

func TestARefusedClaimIsToldWhy(t *testing.T) {
	b := start(t, t.TempDir(), claim(modes(corev1.ReadWriteMany)))
	b.wantEvent(`Warning ProvisioningFailed failed to provision volume with StorageClass "local-path": svcplane.io/local-path volumes are on one node`)
	if left, err := os.ReadDir(b.dir); err != nil || len(left) > 0 {
		t.Errorf("it has a directory all the same: %v, %v", left, err)
	}
	if _, err := b.volume(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("it has a volume: %v", err)
	}
}

// ours is a volume with data in dir.
func ours(t *testing.T, dir string, changes ...volumeChange) *corev1.PersistentVolume {
	t.Helper()
	pv := volume(changes...)
	pv.Spec.HostPath.Path = filepath.Join(dir, pv.Name)
	if err := os.MkdirAll(filepath.Join(pv.Spec.HostPath.Path, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pv.Spec.HostPath.Path, "deep/file"), []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	return pv
}

// What a link in a volume points at is not the volume's.
func TestAReleasedVolumeIsRemoved(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pv := ours(t, dir)
	if err := os.Symlink(other, filepath.Join(pv.Spec.HostPath.Path, "link")); err != nil {
		t.Fatal(err)
	}
	b := start(t, dir, pv)
	pv.Status.Phase = corev1.VolumeReleased
	if _, err := b.api.CoreV1().PersistentVolumes().UpdateStatus(t.Context(), pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually(func(ctx context.Context) string {
		if _, err := b.volume(ctx); err == nil {
			return "the volume is still there"
		}
		return ""
	})
	if _, err := os.Stat(pv.Spec.HostPath.Path); !os.IsNotExist(err) {
		t.Errorf("the directory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(other, "precious")); err != nil {
		t.Errorf("what a link pointed at: %v", err)
	}
}

// A crash after the directory was removed, or after the deletion began, leaves what the next process goes on with.
func TestRemovalGoesOnAfterACrash(t *testing.T) {
	b := start(t, t.TempDir(), volume(phase(corev1.VolumeReleased), deleted, func(pv *corev1.PersistentVolume) {
		pv.Spec.HostPath.Path = "/nowhere"
	}))
	b.wantEvent("Warning VolumeFailedDelete the directory of this volume is not " + b.dir + "/pvc-u, and nothing else is removed here")

	dir := t.TempDir()
	pv := volume(phase(corev1.VolumeReleased), deleted)
	pv.Spec.HostPath.Path = filepath.Join(dir, pv.Name)
	b = start(t, dir, pv)
	b.eventually(func(ctx context.Context) string {
		if pv, err := b.volume(ctx); err == nil && len(pv.Finalizers) > 0 {
			return "the volume is held"
		}
		return ""
	})
}

func TestARetainedVolumeKeepsItsData(t *testing.T) {
	dir := t.TempDir()
	pv := ours(t, dir, retained, deleted, phase(corev1.VolumeReleased))
	b := start(t, dir, pv)
	b.eventually(func(ctx context.Context) string {
		if pv, err := b.volume(ctx); err == nil && len(pv.Finalizers) > 0 {
			return "the volume is held"
		}
		return ""
	})
	if _, err := os.Stat(filepath.Join(pv.Spec.HostPath.Path, "deep/file")); err != nil {
		t.Error(err)
	}
}

// Only what is empty and nobody's goes: a crash left it, before there was a volume.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	pv := volume()
	pv.Spec.HostPath.Path = filepath.Join(dir, pv.Name)
	for _, d := range []string{"pvc-crashed", "pvc-u", "pvc-kept/data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b := start(t, dir, pv)
	b.eventually(func(context.Context) string {
		if _, err := os.Stat(filepath.Join(dir, "pvc-crashed")); err == nil {
			return "it is still there"
		}
		return ""
	})
	for _, d := range []string{"pvc-u", "pvc-kept/data"} {
		if _, err := os.Stat(filepath.Join(dir, d)); err != nil {
			t.Error(err)
		}
	}
}

func TestNewWantsAnAbsolutePath(t *testing.T) {
	api := fake.NewClientset()
	_, err := New(Config{Client: api, Factory: informers.NewSharedInformerFactory(api, 0), Recorder: record.NewFakeRecorder(1), NodeName: "n", Dir: "volumes"})
	if err == nil || !strings.Contains(err.Error(), `"volumes", must be an absolute path`) {
		t.Errorf("New = %v", err)
	}
}

// TestOtherNodesAreLeftAlone: what another node has on its disk is not made or forgotten here. Of a node that is no more it is.
func TestOtherNodesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	there := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "m"}}
	released := func(name, node string) *corev1.PersistentVolume {
		return ours(t, dir, phase(corev1.VolumeReleased), func(pv *corev1.PersistentVolume) {
			pv.Name, pv.Spec.NodeAffinity = name, onNode(node)
		})
	}
	wants := claim(selected("m"))
	b := start(t, dir, there, wants, released("pvc-theirs", "m"), released("pvc-lost", "gone"), released("pvc-ours", "n"))
	volumes := b.api.CoreV1().PersistentVolumes()
	for _, name := range []string{"pvc-lost", "pvc-ours"} {
		b.eventually(func(ctx context.Context) string {
			if _, err := volumes.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return name + " is still there"
			}
			return ""
		})
	}
	if _, err := volumes.Get(t.Context(), "pvc-theirs", metav1.GetOptions{}); err != nil {
		t.Errorf("the volume of another node: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pvc-theirs", "deep/file")); err != nil {
		t.Errorf("its directory: %v", err)
	}
	if _, err := b.volume(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("a claim of another node has a volume: %v", err)
	}
	select {
	case e := <-b.events.Events:
		t.Errorf("an Event about it: %s", e)
	default:
	}
}
