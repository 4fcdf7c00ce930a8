package image

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// odd is an image with all that a layer can have.
func odd(t *testing.T) v1.Image {
	t.Helper()
	capable := file("bin/ping", strings.Repeat("ping", 1000))
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	setuid := file("bin/su", "su")
	setuid.Mode = 0o4755
	lower := tarOf(t, dir("bin/"), capable, setuid, link(tar.TypeLink, "bin/su2", "bin/su"), link(tar.TypeSymlink, "etc/link", "/../../x"),
		file("etc/zeros", strings.Repeat("\x00", 1<<20)+"end"), file("etc/empty", ""), entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3}})
	upper := tarOf(t, file("bin/.wh.su", ""), file("etc/.wh..wh..opq", ""), file("etc/"+strings.Repeat("long", 60), "x"))
	return imageOf(t, testConfig, lower, append(upper, make([]byte, 3000)...)) // what follows the end belongs to the digest
}

// TestExportIsWhatCame: config and layers bit for bit, in an archive that is Docker's and OCI's, which can be imported again.
func TestExportIsWhatCame(t *testing.T) {
	img := odd(t)
	s := NewStore(t.TempDir())
	if _, err := s.Import(context.Background(), "quay.io/x/odd:1", dockerArchive(t, "a:1", img)); err != nil {
		t.Fatal(err)
	}
	id := must(img.ConfigName())
	for _, to := range []string{"odd.tar", "odd.tar.gz", "odd.tzst"} {
		path := filepath.Join(t.TempDir(), to)
		if got, err := s.Export(context.Background(), "quay.io/x/odd:1", path); err != nil || got.ID != id.String() {
			t.Fatal(got.ID, err)
		}
		other := NewStore(t.TempDir())
		names, err := other.ImportAll(context.Background(), path)
		if err != nil || len(names) != 1 || names[0] != "quay.io/x/odd:1" {
			t.Fatalf("%s: imported %v, %v", to, names, err)
		}
		if got, err := other.Get("quay.io/x/odd:1"); err != nil || got.ID != id.String() {
			t.Errorf("%s: %s, %v; want %s", to, got.ID, err, id)
		}
		if to != "odd.tar" {
			continue
		}
		// As Docker reads it.
		tag := must(name.NewTag("quay.io/x/odd:1"))
		docker, err := tarball.ImageFromPath(path, &tag)
		if err != nil || must(docker.ConfigName()) != id {
			t.Fatalf("as docker reads it: %v", err)
		}
		for i, want := range must(img.Layers()) {
			if got := must(must(docker.Layers())[i].DiffID()); got != must(want.DiffID()) {
				t.Errorf("layer %d is %s", i, got)
			}
		}
	}
}

func TestExportRefuses(t *testing.T) {
	s := NewStore(t.TempDir())
	twice := imageOf(t, testConfig, tarOf(t, file("a", "one"), file("a", "two")))
	for ref, img := range map[string]v1.Image{"twice:1": twice, "old:1": odd(t), "changed:1": imageOf(t, testConfig, tarOf(t, file("x", "y")))} {
		if _, err := s.Import(context.Background(), ref, dockerArchive(t, ref, img)); err != nil {
			t.Fatal(err)
		}
	}
	old, changed := must(s.Get("old:1")), must(s.Get("changed:1"))
	os.Remove(keptPath(old.Layers[1]))
	os.WriteFile(filepath.Join(changed.Layers[0], "x"), []byte("z"), 0o600)
	for ref, want := range map[string]string{
		"twice:1": "layer 1 of 1: what its tar consisted of is not kept", "old:1": "layer 2 of 2: what its tar consisted of is not kept",
		"changed:1": "has changed in the store", "nothing:1": "file does not exist",
	} {
		path := filepath.Join(t.TempDir(), "x.tar")
		if _, err := s.Export(context.Background(), ref, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
			t.Errorf("%s leaves %v", ref, left)
		}
	}
}

// TestPrune: what is pinned or used stays, and layers go with the last image that has them.
func TestPrune(t *testing.T) {
	s := NewStore(t.TempDir())
	base := tarOf(t, file("base", strings.Repeat("b", 10000)))
	ids := map[string]string{}
	for ref, own := range map[string]string{"used:1": "1", "free:1": "2", "kept:1": "3", "target:1": "4"} {
		img := imageOf(t, testConfig, base, tarOf(t, file("own", own)))
		var err error
		if ref == "kept:1" {
			_, err = s.Import(context.Background(), ref, dockerArchive(t, ref, img))
		} else {
			_, err = s.Add(context.Background(), must(name.ParseReference(ref)), img, must(img.Digest()))
		}
		if err != nil {
			t.Fatal(err)
		}
		ids[ref] = must(img.ConfigName()).String()
	}
	if _, err := s.Alias("alias:1", "target:1"); err != nil {
		t.Fatal(err)
	}
	users := []Use{{Container: "main of pod default/a", IDs: []string{ids["used:1"]}}}
	check := func(all bool, gone []string, layers int) {
		t.Helper()
		removed, freed, err := s.Prune(all, users)
		if err != nil || len(removed) != len(gone) || len(gone) > 0 && freed <= 0 {
			t.Errorf("removed %v, %d bytes, %v", removed, freed, err)
		}
		for i, ref := range gone {
			if removed[i].ID != ids[ref] {
				t.Errorf("removed %v", removed[i])
			}
		}
		dirs, _ := filepath.Glob(filepath.Join(s.dir, "layers", strings.Repeat("?", 64)))
		all2, _ := os.ReadDir(filepath.Join(s.dir, "layers"))
		if len(dirs) != layers || len(all2) != 2*layers {
			t.Errorf("%d layers and %d files are left, want %d", len(dirs), len(all2), layers)
		}
	}
	check(false, []string{"free:1"}, 4)
	check(false, nil, 4)
	check(true, []string{"kept:1"}, 3)
	users = nil
	check(true, []string{"used:1"}, 2)
	if !s.Pinned(must(s.Get("alias:1"))) {
		t.Error("what an alias leads to is not pinned")
	}
}

// TestTidy: what a crash left goes, and what is needed stays.
func TestTidy(t *testing.T) {
	s := NewStore(t.TempDir())
	img, err := s.Import(context.Background(), "a:1", dockerArchive(t, "a:1", odd(t)))
	if err != nil {
		t.Fatal(err)
	}
	stray := []string{"layers/.import-1/abc", "layers/" + strings.Repeat("0", 64), "layers/" + strings.Repeat("0", 64) + keptSuffix, "configs/.new-1", "configs/1.json"}
	for _, path := range stray {
		if err := os.MkdirAll(filepath.Join(s.dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	for _, path := range stray {
		if _, err := os.Stat(filepath.Join(s.dir, path)); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if _, err := s.Export(context.Background(), img.ID, filepath.Join(t.TempDir(), "a.tar")); err != nil {
		t.Error(err)
	}
	// Whoever is at the store does not keep a start waiting.
	s.exclusive(context.Background(), func() error { return NewStore(s.dir).Tidy() })
}

// TestKeptRecordsAreForeign: what lies on the disk may be broken.
func TestKeptRecordsAreForeign(t *testing.T) {
	dir := t.TempDir()
	for _, raw := range [][]byte{nil, {1}, bytes.Repeat([]byte{0xff}, 100)} {
		os.WriteFile(keptPath(dir), raw, 0o600)
		if _, err := tarSize(dir); err == nil {
			t.Errorf("%x is taken", raw)
		}
	}
}
