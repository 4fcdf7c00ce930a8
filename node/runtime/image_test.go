package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/image"
)

// smallImage writes an archive of an image that has some of this machine's programs and their libraries.
func smallImage(t *testing.T, config v1.Config) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(path string, mode int64, content []byte) {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]bool{}
	for _, program := range []string{"sh", "cat", "id", "ls", "sleep", "tty", "touch", "stty"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		add("bin/"+program, 0o755, content)
		libraries, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		for field := range strings.FieldsSeq(string(libraries)) {
			if filepath.IsAbs(field) {
				files[field] = true
			}
		}
	}
	for path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		add(path, 0o755, content)
	}
	add("etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\napp:x:1500:1600::/home/app:/bin/sh\n"))
	add("etc/group", 0o644, []byte("root:x:0:\nstaff:x:1700:\nextra:x:1800:app\n"))
	add("srv/file", 0o644, []byte("from the image"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archiveOf(t, buf.Bytes(), config)
}

func archiveOf(t *testing.T, layer []byte, config v1.Config) string {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", goruntime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(path, name.MustParseReference("small:1"), img); err != nil {
		t.Fatal(err)
	}
	return path
}

// importSmall imports as `svcplane image import` does beside a running server.
func (l *lab) importSmall(config v1.Config) {
	l.t.Helper()
	store := image.NewStore(filepath.Join(l.dir, "images"))
	if _, err := store.Import(context.Background(), "small:1", smallImage(l.t, config)); err != nil {
		l.t.Fatal(err)
	}
}

func TestImportedImageRuns(t *testing.T) {
	l := newLab(t)
	spec := &runtimeapi.ImageSpec{Image: "small:1"}
	if _, err := l.PullImage(context.Background(), spec, nil, nil); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "svcplane image import small:1 ARCHIVE") {
		t.Errorf("an image that is not there: %v", err)
	}
	l.importSmall(v1.Config{
		Env: []string{"PATH=/bin", "FROM=image"}, Entrypoint: []string{"sh", "-c"}, Cmd: []string{"echo $FROM; cat file; id -u; sleep 1000"},
		WorkingDir: "/srv", User: "app:staff",
	})
	if _, err := l.PullImage(context.Background(), spec, nil, nil); err != nil {
		t.Fatal(err)
	}
	pod := l.sandbox(podConfig("imaged"))
	id := l.run(pod, containerConfig("small:1"))
	eventually(t, "it wrote", func() bool { return strings.Contains(l.log("imaged"), "1500") })
	if got := l.log("imaged"); got != "image\nfrom the image1500\n" {
		t.Errorf("the image's command wrote %q", got)
	}
	if got := l.sh(id, "id -u; id -g; echo $HOME; cat /proc/1/comm; echo by exec >/proc/1/fd/1; cat /etc/hostname; ls /"); got != "1500\n1700\n/home/app\nsh\nimaged\nbin\ndev\netc\nlib\nlib64\nproc\nsrv\nsys" {
		t.Errorf("in the container: %q", got)
	}
	eventually(t, "the log has what an exec wrote to the first process' output", func() bool { return strings.HasSuffix(l.log("imaged"), "by exec\n") })
	if got := l.sh(id, "ls /dev; echo x > /dev/null && ls /sys/class/net"); !strings.Contains(got, "urandom") || !strings.HasSuffix(got, "eth0\nlo") {
		t.Errorf("devices and links: %q", got)
	}
	if err := l.RemoveImage(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "is used by container main") {
		t.Errorf("removing an image in use: %v", err)
	}
	if err := l.RemovePodSandbox(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveImage(context.Background(), spec); err != nil {
		t.Errorf("removing an image nobody uses: %v", err)
	}
}

func TestImageContainersDoNotShareWhatTheyWrite(t *testing.T) {
	l := newLab(t)
	l.importSmall(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep", "1000"}})
	first := l.run(l.sandbox(podConfig("first")), containerConfig("small:1"))
	second := l.run(l.sandbox(podConfig("second")), containerConfig("small:1"))
	l.sh(first, "echo changed > /srv/file; touch /new")
	if got := l.sh(second, "cat /srv/file; ls /"); strings.Contains(got, "changed") || strings.Contains(got, "new") {
		t.Errorf("the second container sees the first one's changes: %q", got)
	}
	config := containerConfig("small:1")
	config.Linux.SecurityContext.ReadonlyRootfs = true
	config.Mounts = []*runtimeapi.Mount{{HostPath: t.TempDir(), ContainerPath: "/data/volume"}}
	readOnly := l.run(l.sandbox(podConfig("third")), config)
	if got := l.sh(readOnly, "touch /x 2>&1 || touch /data/volume/y && ls /data/volume"); !strings.HasSuffix(got, "y") || !strings.Contains(got, "Read-only") {
		t.Errorf("with a read-only root: %q", got)
	}
}

func TestImageAsAVolume(t *testing.T) {
	l := newLab(t)
	l.importSmall(v1.Config{})
	config := containerConfig("svcplane/host", "sleep", "1000")
	volume := &runtimeapi.ImageSpec{Image: "small:1", UserSpecifiedImage: "small:1"}
	config.Mounts = []*runtimeapi.Mount{
		{ContainerPath: "/srv/all", Image: volume, Readonly: true},
		{ContainerPath: "/srv/part", Image: volume, ImageSubPath: "srv", Readonly: true},
	}
	pod := l.sandbox(podConfig("reader"))
	id := l.run(pod, config)
	if got := l.sh(id, "cat /srv/all/srv/file; echo; cat /srv/part/file"); got != "from the image\nfrom the image" {
		t.Errorf("its files are %q", got)
	}
	if got := l.sh(id, "touch /srv/all/x 2>&1 || /srv/all/bin/ls 2>&1 || true"); !strings.Contains(got, "Read-only file system") || !strings.Contains(got, "Permission denied") {
		t.Errorf("writing and executing: %q", got)
	}
	config.Mounts[1].ImageSubPath = "nowhere"
	broken, err := l.CreateContainer(context.Background(), pod, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.StartContainer(context.Background(), broken); err == nil || !strings.Contains(err.Error(), "the image has no nowhere") {
		t.Errorf("a part that is not there: %v", err)
	}
	if err := l.RemoveImage(context.Background(), volume); err == nil || !strings.Contains(err.Error(), "is used by container main") {
		t.Errorf("removing an image that is mounted: %v", err)
	}
}
