package volume

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"svcplane/node/downward"
)

type shelf struct {
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
}

func (s shelf) ConfigMap(_ context.Context, key types.NamespacedName) (*corev1.ConfigMap, error) {
	if cm := s.maps[key.Name]; cm != nil {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), key.Name)
}

func (s shelf) Secret(_ context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	if o := s.secrets[key.Name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
}

type lab struct {
	*Manager
	shelf
	asked int           // tokens
	life  time.Duration // of tokens
}

func newLab(t *testing.T) *lab {
	l := &lab{life: time.Hour, shelf: shelf{
		maps:    map[string]*corev1.ConfigMap{"settings": {Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {0}}}},
		secrets: map[string]*corev1.Secret{"keys": {Data: map[string][]byte{"token": []byte("s")}}},
	}}
	l.Manager = New(Config{Dir: t.TempDir(), Objects: l.shelf, Tokens: func(context.Context, *corev1.Pod, string, int64) (string, time.Time, error) {
		l.asked++
		return "jwt", time.Now().Add(l.life), nil
	}})
	t.Cleanup(func() {
		if err := l.Teardown("u"); err != nil {
			t.Error(err)
		}
	})
	return l
}

// pod has one volume, v.
func pod(src corev1.VolumeSource) downward.Facts {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID = "team", "web", "u"
	p.Labels = map[string]string{"app": "web"}
	p.Spec.Containers = []corev1.Container{{Name: "app"}}
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: src}}
	return downward.Facts{Pod: p, HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}
}

func (l *lab) setup(t *testing.T, f downward.Facts) (Mounted, string) {
	t.Helper()
	m, err := l.Setup(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	path, err := m.Path("v", "")
	if err != nil {
		t.Fatal(err)
	}
	return m, path
}

func want(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != content {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), data, err, content)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm() != mode {
		t.Errorf("%s has mode %o, want %o", filepath.Base(path), info.Mode().Perm(), mode)
	}
}

func TestConfigMapIsReplacedAtOnce(t *testing.T) {
	l := newLab(t)
	f := pod(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, DefaultMode: ptr.To[int32](0o640)}})
	_, dir := l.setup(t, f)
	want(t, dir+"/a", "1", 0o640)
	want(t, dir+"/c", "\x00", 0o640)
	first, err := os.Readlink(dir + "/..data")
	if err != nil {
		t.Fatal(err)
	}
	l.setup(t, f)
	if again, _ := os.Readlink(dir + "/..data"); again != first {
		t.Error("nothing changed, and the files were written again")
	}
	inside, err := os.OpenRoot(dir) // a container that has the directory mounted
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	l.maps["settings"].Data = map[string]string{"a": "new", "d/e": "deep"}
	l.setup(t, pod(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
		Items: []corev1.KeyToPath{{Key: "a", Path: "a"}, {Key: "d/e", Path: "sub/e", Mode: ptr.To[int32](0o400)}}}}))
	if data, err := inside.ReadFile("a"); err != nil || string(data) != "new" {
		t.Errorf("inside it is %q, %v", data, err)
	}
	want(t, dir+"/sub/e", "deep", 0o400)
	for _, gone := range []string{"b", "c", first} {
		if _, err := os.Lstat(filepath.Join(dir, gone)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", gone)
		}
	}
}

func TestARestartDoesNotRewrite(t *testing.T) {
	l := newLab(t)
	f := pod(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}})
	_, dir := l.setup(t, f)
	first, err := os.Readlink(dir + "/..data")
	if err != nil {
		t.Fatal(err)
	}
	l.Manager = New(l.cfg)
	l.setup(t, f)
	if again, _ := os.Readlink(dir + "/..data"); again != first {
		t.Error("the files were written again")
	}
}

func TestProjectedServiceAccount(t *testing.T) {
	l := newLab(t)
	l.maps["kube-root-ca.crt"] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": "CA"}}
	f := pod(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr.To[int32](0o644), Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](3607)}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
	}}})
	m, dir := l.setup(t, f)
	want(t, dir+"/token", "jwt", 0o644)
	want(t, dir+"/ca.crt", "CA", 0o644)
	want(t, dir+"/namespace", "team", 0o644)
	if in := time.Until(m.Refresh); in < 47*time.Minute || in > 48*time.Minute {
		t.Errorf("to be refreshed in %v, want four fifths of an hour", in)
	}
	l.setup(t, f)
	if l.asked != 1 {
		t.Errorf("asked for %d tokens, want 1", l.asked)
	}
	l.Manager.tokens = map[tokenKey]token{}
	l.life = time.Nanosecond
	l.setup(t, f)
	l.setup(t, f)
	if l.asked != 3 {
		t.Errorf("an old token must be replaced; asked for %d, want 3", l.asked)
	}
}

func TestDownwardFiles(t *testing.T) {
	l := newLab(t)
	_, dir := l.setup(t, pod(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
		{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "app", Resource: "limits.cpu"}},
	}}}))
	want(t, dir+"/labels", `app="web"`, 0o644)
	want(t, dir+"/cpu", "2", 0o644)
}

func TestWhatCannotBeProvided(t *testing.T) {
	l := newLab(t)
	missing := corev1.LocalObjectReference{Name: "none"}
	hostPath := func(kind corev1.HostPathType, path string) corev1.VolumeSource {
		return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}
	}
	for text, src := range map[string]corev1.VolumeSource{
		`configmaps "none" not found`:              {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: missing}},
		`secrets "none" not found`:                 {Secret: &corev1.SecretVolumeSource{SecretName: "none"}},
		`references non-existent configmap key: x`: {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Items: []corev1.KeyToPath{{Key: "x", Path: "x"}}}},
		`must be relative and stay below`:          {Secret: &corev1.SecretVolumeSource{SecretName: "keys", Items: []corev1.KeyToPath{{Key: "token", Path: "../x"}}}},
		`type nfs; use emptyDir`:                   {NFS: &corev1.NFSVolumeSource{}},
		`is not a directory`:                       hostPath(corev1.HostPathDirectory, "/etc/passwd"),
		`is not a socket file`:                     hostPath(corev1.HostPathSocket, "/etc"),
		`/nowhere/at/all does not exist`:           hostPath(corev1.HostPathFile, "/nowhere/at/all"),
		`medium "HugePages" is not offered`:        {EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}},
	} {
		_, err := l.Setup(context.Background(), pod(src))
		var one *Error
		if !errors.As(err, &one) || one.Volume != "v" || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	optional := pod(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: missing, Optional: ptr.To(true)}})
	if _, err := l.Setup(context.Background(), optional); err != nil {
		t.Errorf("an optional one: %v", err)
	}
}

func TestHostPathTypes(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	socket, err := net.Listen("unix", dir+"/sock")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for path, kind := range map[string]corev1.HostPathType{
		dir: corev1.HostPathDirectory, dir + "/made": corev1.HostPathDirectoryOrCreate, dir + "/file": corev1.HostPathFileOrCreate,
		dir + "/sock": corev1.HostPathSocket, "/dev/null": corev1.HostPathCharDev, dir + "/any": corev1.HostPathUnset,
	} {
		_, got := l.setup(t, pod(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}))
		if _, err := os.Stat(got); got != path || err != nil {
			t.Errorf("%s as %q: got %s, %v", path, kind, got, err)
		}
	}
	if err := l.Teardown("u"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/file"); err != nil {
		t.Errorf("the host's files must stay: %v", err)
	}
}

func TestEmptyDirInMemory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("run as root, as make test does: mounting needs it")
	}
	l := newLab(t)
	limit := resource.MustParse("1Mi")
	f := pod(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &limit}})
	_, dir := l.setup(t, f)
	if err := os.WriteFile(dir+"/x", make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/y", make([]byte, 2<<20), 0o600); err == nil {
		t.Error("more than the limit was written")
	}
	l.setup(t, f)
	if _, err := os.Stat(dir + "/x"); err != nil {
		t.Errorf("setting up again lost what was written: %v", err)
	}
	if err := l.Teardown("u"); err != nil {
		t.Fatal(err)
	}
	if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), dir) {
		t.Errorf("still mounted, %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestSubPaths(t *testing.T) {
	l := newLab(t)
	m, dir := l.setup(t, pod(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}))
	if got, err := m.Path("v", "a/b"); err != nil || got != filepath.Join(dir, "a/b") {
		t.Errorf("got %s, %v", got, err)
	}
	if err := os.Symlink("/etc", dir+"/out"); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"../x", "/etc", "out", "out/passwd"} {
		if got, err := m.Path("v", bad); err == nil {
			t.Errorf("%s gave %s", bad, got)
		}
	}
	m, dir = newLab(t).setup(t, pod(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}))
	got, err := m.Path("v", "a")
	if err != nil || !strings.HasPrefix(got, dir) {
		t.Fatalf("got %s, %v", got, err)
	}
	want(t, got, "1", 0o644)
}

func TestFSGroupOwnsTheFiles(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("run as root, as make test does: giving files to a group needs it")
	}
	l := newLab(t)
	f := pod(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys", DefaultMode: ptr.To[int32](0o400)}})
	f.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](4321)}
	_, dir := l.setup(t, f)
	want(t, dir+"/token", "s", 0o440)
}
