package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// roots are the three kinds of file systems that a container, or an exec, can have.
var roots = []struct {
	name   string
	image  string
	closed bool
}{
	{"host", "svcplane/host", false}, {"image", "small:1", false}, {"echo", "svcplane/echo", false}, {"view", "svcplane/echo", true},
}

// TestVolumesMayCoverAnything mounts a volume where the data directory lies, above it, and over what building the
// container's file system needs; other volumes are mounted in it, named before it.
func TestVolumesMayCoverAnything(t *testing.T) {
	l := newLab(t) // its data directory is below /tmp
	l.importSmall(v1.Config{})
	for _, root := range roots {
		for _, path := range []string{"/tmp", l.dir, "/run", "/var", "/etc", "/sys", "/dev", "/data", "/var/run", "/usr/share"} {
			t.Run(root.name+path, func(t *testing.T) {
				l.cfg.HostAccess = nil
				if root.closed {
					l.cfg.HostAccess = closedTo
				}
				covered(t, l, root.image, path)
			})
		}
	}
}

func covered(t *testing.T, l *lab, image, path string) {
	name := "c" + newID()[:8]
	pod := l.sandbox(podConfig(name))
	defer func() {
		if err := l.RemovePodSandbox(context.Background(), pod); err != nil {
			t.Error(err)
		}
	}()
	outer, inner, message := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "message")
	for file, text := range map[string]string{outer + "/outer": "out", inner + "/inner": "in", message: ""} {
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	config := protected(containerConfig(image))
	if image != "svcplane/echo" {
		config.Command = []string{"sleep", "1000"}
	}
	config.WorkingDir = path + "/nested/work"
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: inner, ContainerPath: path + "/nested/work"},
		{HostPath: message, ContainerPath: path + "/termination-log"},
		{HostPath: outer, ContainerPath: path},
	}
	id := l.run(pod, config)
	script := fmt.Sprintf("cat inner %[1]s/outer; echo bye > %[1]s/termination-log", path)
	if got := l.sh(id, script); got != "inout" {
		t.Errorf("the volumes hold %q, want inout", got)
	}
	if raw, err := os.ReadFile(message); err != nil || string(raw) != "bye\n" {
		t.Errorf("the message is %q, %v", raw, err)
	}
	if left, err := filepath.Glob(filepath.Join(l.dir, "containers", id, "stage", "*")); err != nil || len(left) > 0 {
		t.Errorf("on the host there is %v, %v", left, err)
	}
}

func TestVolumesCannotReplaceTheRootOrProc(t *testing.T) {
	l := newLab(t)
	l.importSmall(v1.Config{})
	for _, root := range roots {
		for path, want := range map[string]string{"/": "whole root", "/tmp/..": "whole root", "/proc": "/proc can't be covered", "/proc/sys/x": "/proc can't be covered"} {
			l.cfg.HostAccess = nil
			if root.closed {
				l.cfg.HostAccess = closedTo
			}
			pod := l.sandbox(podConfig("c" + newID()[:8]))
			config := protected(containerConfig(root.image, "sleep", "1000"))
			config.Mounts = []*runtimeapi.Mount{{HostPath: t.TempDir(), ContainerPath: path}}
			id, err := l.CreateContainer(context.Background(), pod, config, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err = l.StartContainer(context.Background(), id); err == nil && root.image == "svcplane/echo" {
				_, _, err = l.ExecSync(context.Background(), id, []string{"true"}, 0)
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with a volume at %s: %v", root.name, path, err)
			}
		}
	}
}

func TestPodFilesYieldToAReadOnlyVolume(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("etc"))
	volume := t.TempDir()
	if err := os.WriteFile(volume+"/mine", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	config := containerConfig("svcplane/host", "sleep", "1000")
	config.Mounts = []*runtimeapi.Mount{{HostPath: volume, ContainerPath: "/etc", Readonly: true}}
	id := l.run(pod, config)
	if got := l.sh(id, "ls /etc"); got != "mine" {
		t.Errorf("/etc holds %q, want the volume's file alone", got)
	}
	if left, _ := os.ReadDir(volume); len(left) != 1 {
		t.Errorf("the volume holds %v now", left)
	}
}

func TestNothingIsMadeInTheHostsMounts(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("host"))
	config := containerConfig("svcplane/host", "sleep", "1000")
	// The first needs a new top directory, the second one in a mount of the host that is kept below it.
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: t.TempDir(), ContainerPath: "/svcplane-test-top"}, {HostPath: t.TempDir(), ContainerPath: "/run/netns/svcplane-test"},
	}
	id := l.run(pod, config)
	l.sh(id, "touch /svcplane-test-top/x /run/netns/svcplane-test/x")
	for _, path := range []string{"/svcplane-test-top", "/run/netns/svcplane-test"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the host", path)
		}
	}
}
