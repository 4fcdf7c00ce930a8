package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/image"
)

// member is one entry of a layer.
type member struct {
	name, text string
	kind       byte
	link       string
	mode       int64
}

func layer(t *testing.T, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		h := &tar.Header{Typeflag: m.kind, Name: m.name, Linkname: m.link, Mode: m.mode, Size: int64(len(m.text))}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// importLayers imports small:1 with more layers over it.
func (l *lab) importLayers(config v1.Config, layers ...[]byte) {
	l.t.Helper()
	img, err := tarball.ImageFromPath(smallImage(l.t, config), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, raw := range layers {
		upper, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
		if err != nil {
			l.t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, upper); err != nil {
			l.t.Fatal(err)
		}
	}
	path := filepath.Join(l.t.TempDir(), "layers.tar")
	if err := tarball.WriteToFile(path, name.MustParseReference("small:1"), img); err != nil {
		l.t.Fatal(err)
	}
	if _, err := image.NewStore(filepath.Join(l.dir, "images")).Import(context.Background(), "small:1", path); err != nil {
		l.t.Fatal(err)
	}
}

// storeLayers are two layers with what layers can have.
func storeLayers(t *testing.T) [][]byte {
	return [][]byte{
		layer(t, member{name: "data/gone", text: "1"}, member{name: "data/kept", text: "kept"}, member{name: "old/a", text: "1"}, member{name: "old/b", text: "1"},
			member{name: "tree/x/y", text: "1"}, member{name: "file", text: "1"}, member{name: "became", kind: tar.TypeSymlink, link: "/data"},
			member{name: "one", text: "same"}, member{name: "two", kind: tar.TypeLink, link: "one"},
			member{name: "su", text: "x", mode: 0o4755}, member{name: "sticky/", kind: tar.TypeDir, mode: 0o1777}, member{name: "zeros", text: strings.Repeat("\x00", 8<<20)},
			member{name: "pipe", kind: tar.TypeFifo}),
		layer(t, member{name: "data/.wh.gone"}, member{name: "old/.wh..wh..opq"}, member{name: "old/c", text: "new"}, member{name: ".wh.tree"},
			member{name: "file/", kind: tar.TypeDir}, member{name: "file/in", text: "dir"}, member{name: "became/", kind: tar.TypeDir}, member{name: "became/real", text: "r"}),
	}
}

// storeContract is what a container sees of an image, and what it does to it, over overlayfs or without.
func storeContract(t *testing.T, l *lab) {
	t.Helper()
	l.importLayers(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep", "1000"}}, storeLayers(t)...)
	pod := l.sandbox(podConfig("first"))
	first := l.run(pod, containerConfig("small:1"))
	for command, want := range map[string]string{
		"ls /data /old; cat /data/kept":                                 "/data:\nkept\n\n/old:\nc\nkept",
		"ls /tree 2>&1; cat /file/in; ls /became":                       "ls: cannot access '/tree': No such file or directory\ndirreal",
		"[ /one -ef /two ] && cat /two":                                 "same",
		"[ -u /su ] && [ -k /sticky ] && [ -p /pipe ] && cat /srv/file": "from the image",
	} {
		if got := l.sh(first, command+" || true"); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	l.sh(first, "echo changed > /data/kept; touch /new; echo x > /old/d")
	second := l.run(l.sandbox(podConfig("second")), containerConfig("small:1"))
	if got := l.sh(second, "cat /data/kept; ls /old; ls /new 2>&1 || true"); got != "keptc\nls: cannot access '/new': No such file or directory" {
		t.Errorf("the second container sees the first one's changes: %q", got)
	}
	config := containerConfig("small:1")
	config.Linux.SecurityContext.ReadonlyRootfs = true
	volume := &runtimeapi.ImageSpec{Image: "small:1", UserSpecifiedImage: "small:1"}
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/srv/all", Image: volume, Readonly: true}, {ContainerPath: "/srv/part", Image: volume, ImageSubPath: "old", Readonly: true}}
	third := l.run(l.sandbox(podConfig("third")), config)
	if got := l.sh(third, "touch /x 2>&1 || cat /srv/all/data/kept && ls /srv/part && touch /srv/all/y 2>&1 || true"); !strings.Contains(got, "Read-only") || !strings.Contains(got, "keptc\n") || strings.Count(got, "Read-only") != 2 {
		t.Errorf("with a read-only root and the image as a volume: %q", got)
	}
	// It is the same after a restart of the server.
	l.stop()
	l.start()
	if got := l.sh(first, "cat /data/kept; ls /new"); got != "changed\n/new" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestStoreOverOverlayfs(t *testing.T) {
	l := newLab(t)
	if l.noOverlay != nil {
		t.Fatalf("this machine's %s has no overlayfs: %v", l.dir, l.noOverlay)
	}
	storeContract(t, l)
	dirs, _ := filepath.Glob(filepath.Join(l.dir, "images", "layers", "*", "zeros"))
	var s unix.Stat_t
	if len(dirs) != 1 || unix.Stat(dirs[0], &s) != nil || s.Size != 8<<20 || s.Blocks > 100 {
		t.Errorf("the file of zeros in %v takes %d blocks", dirs, s.Blocks)
	}
}

// TestStoreWithoutOverlayfs: an overlay takes no overlay as its upper directory, and neither makes a whiteout in one.
func TestStoreWithoutOverlayfs(t *testing.T) {
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=512m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(base, 0); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"lower", "upper", "work", "data"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", at("data"), "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at("data"), 0); err != nil {
			t.Error(err)
		}
	})
	l := newLabIn(t, at("data"))
	if l.noOverlay == nil {
		t.Fatal("an overlay takes an overlay as its upper directory: this test needs another way")
	}
	if got := l.Figure(); !strings.Contains(got, "has no overlayfs") {
		t.Errorf("status says %q", got)
	}
	storeContract(t, l)
}

// TestManyLayers: Docker's limit is 127, and their paths are longer than the page that mount(2) takes.
func TestManyLayers(t *testing.T) {
	l := newLab(t)
	var layers [][]byte
	for i := range 120 {
		layers = append(layers, layer(t, member{name: fmt.Sprintf("layers/%d", i), text: "x"}))
	}
	l.importLayers(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep", "1000"}}, layers...)
	id := l.run(l.sandbox(podConfig("many")), containerConfig("small:1"))
	if got := l.sh(id, "cat /layers/0 /layers/119 /srv/file; echo y > /layers/7; cat /layers/7"); got != "xxfrom the imagey" {
		t.Errorf("its files are %q", got)
	}
}
