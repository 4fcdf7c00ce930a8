package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// TestLayersHaveLimits: what unpacks to a hundred gigabytes, or to ten million files, is refused before it is written.
func TestLayersHaveLimits(t *testing.T) {
	if maxLayerBytes > 100e9 || maxLayerEntries > 10e6 {
		t.Errorf("a layer may have %d bytes and %d files", maxLayerBytes, maxLayerEntries)
	}
	huge := tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: 100e9}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&huge); err != nil {
		t.Fatal(err)
	}
	var many []entry
	for i := range 2000 {
		many = append(many, file(fmt.Sprint(i), ""))
	}
	for what, c := range map[string]struct {
		raw  []byte
		most limits
		want string
	}{
		"a huge file":              {buf.Bytes(), limits{maxLayerBytes, maxLayerEntries}, "it unpacks to more than 68719476736 bytes"},
		"many that are not small":  {tarOf(t, file("a", strings.Repeat("x", 600)), file("b", strings.Repeat("x", 600))), limits{1000, 10}, "it unpacks to more than 1000 bytes"},
		"many files":               {tarOf(t, many...), limits{1000, 1000}, "it has more than 1000 files"},
		"a name longer than Linux": {tarOf(t, file(strings.Repeat("a/", 3000)+"x", "")), limits{1000, 10}, "longer than Linux allows"},
	} {
		dir := filepath.Join(t.TempDir(), "layer")
		keep, err := newKeeper(bytes.NewReader(c.raw), keptPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := unpackLayer(keep, dir, false, c.most); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		keep.discard()
	}
}

// TestABombIsNotUnpacked: a layer says its size, and whatever lies about it is no tar.
func TestABombIsNotUnpacked(t *testing.T) {
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: 60 << 30}); err != nil {
		t.Fatal(err)
	}
	dir, _ := smallDisk(t, "32m")
	// Zeros are holes; what is not zero fills the disk, and others are left some of it.
	err := unpackAll(t, io.MultiReader(&head, noise{}), filepath.Join(dir, "layer"))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
}

func unpackAll(t *testing.T, from io.Reader, dir string) error {
	t.Helper()
	keep, err := newKeeper(from, keptPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer keep.discard()
	return unpackLayer(keep, dir, false, limits{maxLayerBytes, maxLayerEntries})
}

type noise struct{}

func (noise) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i*7 + 1)
	}
	return len(p), nil
}

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) (dir string, resize func(string)) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir, func(size string) {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDiskWhileUnpacking: the image and the layer are named, nothing is left behind, others are served, and the image
// comes when there is room.
func TestFullDiskWhileUnpacking(t *testing.T) {
	dir, resize := smallDisk(t, "24m")
	s := NewStore(filepath.Join(dir, "images"))
	content := make([]byte, 30<<20)
	_, _ = noise{}.Read(content)
	large := imageOf(t, testConfig, tarOf(t, file("first", "1")), tarOf(t, file("large", string(content))))
	small := imageOf(t, testConfig, tarOf(t, file("small", "1")))
	add := func(ref string, img v1.Image) error {
		_, err := s.Add(context.Background(), must(name.ParseReference(ref)), img, must(img.Digest()))
		return err
	}
	err := add("large:1", large)
	id := must(must(large.Layers())[1].DiffID())
	if err == nil || !strings.Contains(err.Error(), "unpack image large:1: layer 2 of 2 ("+id.String()+")") || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "layers", "*"+id.Hex+"*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if hidden, _ := filepath.Glob(filepath.Join(s.dir, "layers", ".*")); len(hidden) != 0 {
		t.Errorf("left: %v", hidden)
	}
	if err := add("small:1", small); err != nil {
		t.Errorf("another image: %v", err)
	}
	resize("80m")
	if err := add("large:1", large); err != nil {
		t.Error(err)
	}
}

// TestHostileConfigs: what no program can be started with is refused when the image comes, and what is merely odd is not.
func TestHostileConfigs(t *testing.T) {
	layer := tarOf(t, file("a", "1"))
	long := strings.Repeat("x", maxWord+1)
	var much []string
	for i := range 20 {
		much = append(much, fmt.Sprintf("A%d=%s", i, long[:100_000]))
	}
	for what, c := range map[string]struct {
		config v1.Config
		want   string // empty: it is taken
	}{
		"a zero byte in the environment":  {v1.Config{Env: []string{"A=1\x00B=2"}}, "environment has a zero byte in it"},
		"a zero byte in the entrypoint":   {v1.Config{Entrypoint: []string{"/bin/sh\x00", "-c"}}, "entrypoint has a zero byte in it"},
		"a zero byte in the directory":    {v1.Config{WorkingDir: "/srv\x00"}, "working directory has a zero byte in it"},
		"no name":                         {v1.Config{Env: []string{"=1"}}, "not NAME=VALUE"},
		"no value":                        {v1.Config{Env: []string{"PATH"}}, "not NAME=VALUE"},
		"a word that is too long":         {v1.Config{Cmd: []string{long}}, "no program gets more"},
		"an environment that is too long": {v1.Config{Env: much}, "no program gets more"},
		"a loader":                        {v1.Config{Env: []string{"LD_PRELOAD=/evil.so", "PATH="}, Entrypoint: []string{"../../../bin/sh"}, WorkingDir: "../../..", User: "-1:../x"}, ""},
	} {
		s := NewStore(t.TempDir())
		_, err := s.Import(context.Background(), "a:1", dockerArchive(t, "a:1", imageOf(t, c.config, layer)))
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "import image a:1") || len(err.Error()) > 500) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		if left, _ := os.ReadDir(filepath.Join(s.dir, "layers")); c.want != "" && len(left) != 0 {
			t.Errorf("%s leaves %v", what, left)
		}
	}
}

// TestLinksThatLoop lead nowhere, and a layer with a file behind one is refused by name.
func TestLinksThatLoop(t *testing.T) {
	for _, entries := range [][]entry{
		{link(tar.TypeSymlink, "a", "b"), link(tar.TypeSymlink, "b", "a"), file("a/x", "1")},
		{link(tar.TypeSymlink, "a", "a"), file("a/x", "1")},
		{link(tar.TypeSymlink, "a", "."), link(tar.TypeSymlink, "a", "a/a"), file("a/x", "1")},
	} {
		if err := unpackTar(t, tarOf(t, entries...), filepath.Join(t.TempDir(), "layer")); err == nil || !strings.Contains(err.Error(), `unpack "a/x": `) {
			t.Errorf("%v", err)
		}
	}
	if err := unpackTar(t, tarOf(t, link(tar.TypeSymlink, "a", "b"), link(tar.TypeSymlink, "b", "a"), link(tar.TypeSymlink, "c", "/etc/passwd")), filepath.Join(t.TempDir(), "layer")); err != nil {
		t.Errorf("links that nobody follows: %v", err)
	}
}

// TestWhatOverlayfsUnderstandsIsNotTheImages: neither devices nor attributes of an archive become whiteouts or redirections.
func TestWhatOverlayfsUnderstandsIsNotTheImages(t *testing.T) {
	odd := dir("a/")
	odd.PAXRecords = map[string]string{
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y",
		"SCHILY.xattr.security.selinux": "system_u:object_r:shadow_t:s0", "SCHILY.xattr.trusted.x": "y",
	}
	target := filepath.Join(t.TempDir(), "layer")
	device := func(name string, kind byte, major, minor int64) entry {
		return entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}}
	}
	if err := unpackTar(t, tarOf(t, odd, device("gone", tar.TypeChar, 0, 0), device("mem", tar.TypeChar, 1, 1), device("disk", tar.TypeBlock, 8, 0)), target); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone", "mem", "disk"} {
		if _, err := os.Lstat(filepath.Join(target, name)); err == nil {
			t.Errorf("there is %s", name)
		}
	}
	list := make([]byte, 4096)
	n, err := unix.Listxattr(filepath.Join(target, "a"), list)
	if err != nil {
		t.Fatal(err)
	}
	for attr := range strings.SplitSeq(string(list[:n]), "\x00") {
		if attr != "" && attr != "security.selinux" {
			t.Errorf("there is the attribute %s", attr)
		}
	}
}
