package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// entry is one entry of a layer: a regular file unless the header says otherwise.
type entry struct {
	tar.Header
	text string
}

func file(name, text string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(1600000000, 0)}, text}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(1600000000, 0)}}
}

func link(kind byte, name, target string) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777}}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.text))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func imageOf(t testing.TB, config v1.Config, layers ...[]byte) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	for _, raw := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// dockerArchive writes an image as `docker save` does.
func dockerArchive(t testing.TB, ref string, img v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "docker.tar")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	return path
}

// ociArchive writes an image as a tar of an OCI layout.
func ociArchive(t testing.TB, img v1.Image) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "layout")
	index, err := layout.Write(folder, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := index.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return tarOfFolder(t, folder)
}

func tarOfFolder(t testing.TB, folder string) string {
	t.Helper()
	var entries []entry
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		rel, _ := filepath.Rel(folder, path)
		entries = append(entries, file("./"+rel, string(raw)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return write(t, tarOf(t, entries...))
}

func write(t testing.TB, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err = w.Write(raw)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return write(t, buf.Bytes())
}

var testConfig = v1.Config{Env: []string{"A=1"}, Entrypoint: []string{"/bin/app"}, Cmd: []string{"serve"}, WorkingDir: "/srv", User: "app:staff"}

func TestImportFormats(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run as root, as make test does: needs it to give files their owners")
	}
	img := imageOf(t, testConfig, tarOf(t, dir("bin/"), file("bin/app", "one")), tarOf(t, file("bin/app", "two")))
	archives := map[string]string{"docker": dockerArchive(t, "example.com/app:1", img), "oci": ociArchive(t, img)}
	archives["docker, gzip"], archives["oci, gzip"] = gzipped(t, archives["docker"]), gzipped(t, archives["oci"])
	for kind, archive := range archives {
		t.Run(kind, func(t *testing.T) {
			store := NewStore(t.TempDir())
			if _, err := store.Import(context.Background(), "app:v2", archive); err != nil {
				t.Fatal(err)
			}
			other := NewStore(store.dir) // another process
			if err := other.Load(); err != nil {
				t.Fatal(err)
			}
			got, err := other.Get("docker.io/library/app:v2")
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Layers) != 2 || got.Config.User != "app:staff" || got.Config.Entrypoint[0] != "/bin/app" || got.UserName() != "app" {
				t.Errorf("stored as %+v", got)
			}
			if raw, err := os.ReadFile(filepath.Join(got.Layers[1], "bin/app")); err != nil || string(raw) != "two" {
				t.Errorf("the upper layer holds %q: %v", raw, err)
			}
			if err := other.Remove(got.ID, nil); err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(filepath.Join(store.dir, "layers")); len(left) != 0 {
				t.Errorf("layers of a removed image are left: %v", left)
			}
		})
	}
}

func TestImportTakesOverTheName(t *testing.T) {
	store := NewStore(t.TempDir())
	first, err := store.Import(context.Background(), "app", dockerArchive(t, "app:latest", imageOf(t, testConfig, tarOf(t, file("a", "1")))))
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.Import(context.Background(), "app", dockerArchive(t, "app:latest", imageOf(t, testConfig, tarOf(t, file("a", "2")))))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.Get("app"); err != nil || got.ID != second.ID {
		t.Errorf("app is %s, want the newer %s: %v", got.ID, second.ID, err)
	}
	if got, err := store.Get(first.ID); err != nil || len(got.Tags) != 0 {
		t.Errorf("the older image, which containers may run: %+v %v", got, err)
	}
	if _, err := store.Get("other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image that is not there: %v", err)
	}
}

func TestImportRefuses(t *testing.T) {
	good := dockerArchive(t, "app:1", imageOf(t, testConfig, tarOf(t, file("a", strings.Repeat("text ", 1000)))))
	raw, err := os.ReadFile(ociArchive(t, imageOf(t, testConfig, tarOf(t, file("a", strings.Repeat("text ", 1000))))))
	if err != nil {
		t.Fatal(err)
	}
	// One bit in the config (which the tar does not check) makes the digest wrong.
	corrupt := bytes.Replace(raw, []byte(`"A=1"`), []byte(`"A=2"`), 1)
	foreign := imageOf(t, testConfig, tarOf(t, file("a", "1")))
	config, err := foreign.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = "s390x"
	if foreign, err = mutate.ConfigFile(foreign, config); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, ref, archive, want string }{
		{"a missing file", "app", "/nonexistent/archive", "no such file"},
		{"no archive", "app", write(t, []byte("this is no tar file, just some text")), "read tar"},
		{"an archive of something else", "app", write(t, tarOf(t, file("hello", "world"))), "neither a docker-save archive"},
		{"a corrupt config", "app", write(t, corrupt), "corrupt"},
		{"another architecture", "app", dockerArchive(t, "app:1", foreign), "linux/" + runtime.GOARCH},
		{"an image without layers", "app", dockerArchive(t, "app:1", imageOf(t, testConfig)), "no layers"},
		{"a bad name", "UPPER:case", good, "reference"},
		{"our own name", "svcplane/echo:v3", good, "part of svcplane"},
	} {
		store := NewStore(t.TempDir())
		_, err := store.Import(context.Background(), c.ref, c.archive)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.what, err, c.want)
		}
		if left, _ := os.ReadDir(filepath.Join(store.dir, "layers")); len(left) != 0 {
			t.Errorf("%s leaves %v", c.what, left)
		}
	}
}

// unpackTar unpacks a layer, whatever its digest.
func unpackTar(t testing.TB, raw []byte, dir string) error {
	t.Helper()
	keep, err := newKeeper(bytes.NewReader(raw), keptPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer keep.discard()
	return unpackLayer(keep, dir, false, limits{1 << 30, 100_000})
}

func TestLayerStaysInItsDirectory(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("safe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, entries := range map[string][]entry{
		"a name with ..":                                      {file("../victim", "bad")},
		"a name deep below ..":                                {file("a/../../victim", "bad")},
		"a file through an absolute link":                     {link(tar.TypeSymlink, "out", outside), file("out/victim", "bad")},
		"a file through a relative link":                      {link(tar.TypeSymlink, "out", "../"+filepath.Base(outside)), file("out/victim", "bad")},
		"a directory through a link":                          {link(tar.TypeSymlink, "out", outside), dir("out/new/")},
		"a hard link out":                                     {link(tar.TypeLink, "in", "../victim")},
		"a hard link through a symbolic link":                 {link(tar.TypeSymlink, "out", outside), link(tar.TypeLink, "in", "out/victim")},
		"a whiteout through a link":                           {link(tar.TypeSymlink, "out", outside), file("out/.wh.victim", "")},
		"a whiteout of ..":                                    {file("a/.wh...", "")},
		"an opaque directory through a link":                  {link(tar.TypeSymlink, "out", outside), file("out/.wh..wh..opq", "")},
		"a link that is replaced, then a hard link to itself": {link(tar.TypeLink, "a", "a")},
	} {
		target := filepath.Join(t.TempDir(), "layer")
		if err := unpackTar(t, tarOf(t, entries...), target); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	left, err := os.ReadDir(outside)
	if raw, readErr := os.ReadFile(victim); err != nil || readErr != nil || string(raw) != "safe" || len(left) != 1 {
		t.Errorf("outside of the layer there is now %v, %q", left, raw)
	}
}

func TestLayerAttributes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run as root, as make test does: needs it to give files their owners")
	}
	setuid := file("bin/su", "x")
	setuid.Mode, setuid.Uid, setuid.Gid = 0o4755, 12, 34
	device := entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/mem", Mode: 0o666, Devmajor: 1, Devminor: 1}}
	raw := tarOf(t, dir("bin/"), setuid, link(tar.TypeLink, "bin/sudo", "/bin/su"), link(tar.TypeSymlink, "sh", "/bin/su"),
		dir("dev/"), device, file(".wh.gone", ""), dir("new/"), file("new/.wh..wh..opq", ""), file("new/kept", "k"), file("/absolute", "a"))
	target := filepath.Join(t.TempDir(), "layer")
	if err := unpackTar(t, raw, target); err != nil {
		t.Fatal(err)
	}
	var su, sudo, gone unix.Stat_t
	for path, into := range map[string]*unix.Stat_t{"bin/su": &su, "bin/sudo": &sudo, "gone": &gone} {
		if err := unix.Lstat(filepath.Join(target, path), into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if su.Mode&0o7777 != 0o4755 || su.Uid != 12 || su.Gid != 34 || su.Mtim.Sec != 1600000000 || su.Ino != sudo.Ino {
		t.Errorf("bin/su has mode %o, owner %d:%d, time %d, inode %d (hard link %d)", su.Mode, su.Uid, su.Gid, su.Mtim.Sec, su.Ino, sudo.Ino)
	}
	if gone.Mode&unix.S_IFMT != unix.S_IFCHR || gone.Rdev != 0 {
		t.Errorf("the whiteout has mode %o and device %d", gone.Mode, gone.Rdev)
	}
	opaque := make([]byte, 8)
	if n, err := unix.Getxattr(filepath.Join(target, "new"), "trusted.overlay.opaque", opaque); err != nil || string(opaque[:n]) != "y" {
		t.Errorf("the opaque directory: %q %v", opaque, err)
	}
	if _, err := os.Lstat(filepath.Join(target, "dev/mem")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a device node was made: %v", err)
	}
	if _, err := os.Stat(filepath.Join(target, "absolute")); err != nil {
		t.Errorf("an absolute name is taken from the image's root: %v", err)
	}
}
