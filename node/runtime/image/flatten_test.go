package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree writes a directory as text.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var s unix.Stat_t
		if err := unix.Lstat(path, &s); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "%s %o %d:%d", rel, s.Mode, s.Uid, s.Gid)
		switch s.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			raw, _ := os.ReadFile(path)
			fmt.Fprintf(&out, " %q %d names, time %d, %q", raw, s.Nlink, s.Mtim.Sec, attribute(t, path, "security.capability"))
		case unix.S_IFLNK:
			to, _ := os.Readlink(path)
			fmt.Fprintf(&out, " to %s", to)
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestFlatten: copied layers are what overlayfs shows of them, however their whiteouts are kept.
func TestFlatten(t *testing.T) {
	capable := file("bin/ping", "ping")
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	owned := file("bin/su", "su")
	owned.Mode, owned.Uid, owned.Gid = 0o4755, 12, 34
	layers := [][]byte{
		tarOf(t, dir("bin/"), capable, owned, link(tar.TypeLink, "bin/su2", "bin/su"), link(tar.TypeSymlink, "out", "/etc"), dir("old/"), file("old/a", "1"), dir("old/b/"), file("old/b/c", "1"),
			dir("gone/"), file("gone/x", "1"), file("file", "1"), dir("dir/"), file("dir/x", "1"), dir("opaque/"), file("opaque/low", "1")),
		// a whiteout and the name itself in one layer, both ways round; a directory for a link, a link for a directory
		tarOf(t, file(".wh.gone", ""), file("old/.wh.b", ""), dir("old/b/"), file("old/b/new", "2"), dir("opaque/"), file("opaque/up", "2"), file(".wh.opaque", ""), dir("out/"), file("out/passwd", "2"),
			link(tar.TypeSymlink, "dir", "bin"), file(".wh.file", ""), file("file", "2")),
		tarOf(t, file("old/.wh..wh..opq", ""), file("old/d", "3")),
	}
	unpacked := func(plain bool) (dirs []string) {
		for i, raw := range layers {
			dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
			if plain {
				dir += plainSuffix
			}
			keep := must(newKeeper(bytes.NewReader(raw), keptPath(dir)))
			if err := unpackLayer(keep, dir, plain, limits{1 << 20, 100}); err != nil {
				t.Fatal(err)
			}
			if err := keep.close(); err != nil {
				t.Fatal(err)
			}
			var again bytes.Buffer
			if err := writeTar(&again, dir); err != nil || !bytes.Equal(again.Bytes(), raw) {
				t.Errorf("layer %d is written out otherwise than it came: %v", i, err)
			}
			dirs = append(dirs, dir)
		}
		return dirs
	}
	devices, files := unpacked(false), unpacked(true)
	overlay := t.TempDir()
	if err := unix.Mount("overlay", overlay, "overlay", 0, "lowerdir="+devices[2]+":"+devices[1]+":"+devices[0]); err != nil {
		t.Fatal(err)
	}
	want := tree(t, overlay)
	if err := unix.Unmount(overlay, 0); err != nil {
		t.Error(err)
	}
	if strings.Contains(want, ".wh.") || !strings.Contains(want, "out/passwd") || strings.Contains(want, "gone") || strings.Contains(want, "opaque/low") || strings.Contains(want, "old/a") {
		t.Fatalf("overlayfs shows\n%s", want)
	}
	for what, dirs := range map[string][]string{"devices": devices, "files": files} {
		to := filepath.Join(t.TempDir(), "copy")
		if err := Flatten(context.Background(), dirs, to); err != nil {
			t.Fatal(err)
		}
		// The root's mode is the topmost layer's, as in an overlay.
		if got := tree(t, to); got != want {
			t.Errorf("whiteouts as %s: copied is\n%swant\n%s", what, got, want)
		}
	}
	if !Copied(files) || Copied(devices) {
		t.Error("which layers overlayfs can read is not known")
	}
}
