package volume

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestVolumesWithinAReadOnlyOneHaveAPlace(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", VolumeMounts: []corev1.VolumeMount{
		{Name: "cache", MountPath: "/etc/app/cache/x"}, {Name: "settings", MountPath: "/etc/app/"}, {Name: "file", MountPath: "/etc/app/y", SubPath: "y"},
		{Name: "apart", MountPath: "/etc/application"},
	}}}}}
	if got := mountPoints(pod, "settings"); len(got) != 1 || got[0] != "cache/x" {
		t.Fatalf("the mount points are %v, want cache/x alone", got)
	}
	m, dir := New(Config{}), filepath.Join(t.TempDir(), "settings")
	for _, key := range []string{"colour", "size"} { // the second time it is refreshed
		if err := m.write(dir, map[string]file{key: {data: []byte("x"), mode: 0o644}}, nil); err != nil {
			t.Fatal(err)
		}
		if err := makeMountPoints(dir, mountPoints(pod, "settings")); err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(filepath.Join(dir, "cache/x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.write(dir, map[string]file{key + "2": {data: []byte("x"), mode: 0o644}}, nil); err != nil {
			t.Fatal(err)
		}
		after, err := os.Stat(filepath.Join(dir, "cache/x"))
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("a refresh took the mount point away: %v", err)
		}
	}
}
