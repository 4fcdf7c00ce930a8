package image

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

// savedByDocker writes images as `docker save` does.
func savedByDocker(t *testing.T, images map[string]v1.Image) string {
	t.Helper()
	refs := map[name.Reference]v1.Image{}
	for text, img := range images {
		ref, err := name.ParseReference(text)
		if err != nil {
			t.Fatal(err)
		}
		refs[ref] = img
	}
	path := filepath.Join(t.TempDir(), "docker.tar")
	if err := tarball.MultiRefWriteToFile(path, refs); err != nil {
		t.Fatal(err)
	}
	return path
}

// layoutOf writes images into an OCI layout, with what annotations make of their names, and gives its tar.
func layoutOf(t *testing.T, images map[string]v1.Image, annotate func(ref string) map[string]string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for ref, img := range images {
		if err := path.AppendImage(img, layout.WithAnnotations(annotate(ref))); err != nil {
			t.Fatal(err)
		}
	}
	return tarOfFolder(t, folder)
}

func zstded(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(raw)
	w.Close()
	return write(t, buf.Bytes())
}

func TestImportAll(t *testing.T) {
	web, db := imageOf(t, testConfig, tarOf(t, file("a", "web"))), imageOf(t, testConfig, tarOf(t, file("a", "db")))
	two := map[string]v1.Image{"web:1": web, "quay.io/x/db:2": db}
	whole := func(ref string) map[string]string {
		full, _ := name.ParseReference(ref)
		return map[string]string{wholeName: full.Name(), refName: "1"}
	}
	archives := map[string]string{
		"docker":          savedByDocker(t, two),
		"oci, docker's":   layoutOf(t, two, whole),
		"oci, short name": layoutOf(t, two, func(ref string) map[string]string { return map[string]string{refName: ref} }),
	}
	for kind, path := range maps.Clone(archives) {
		archives[kind+", gzip"], archives[kind+", zstd"] = gzipped(t, path), zstded(t, path)
	}
	for kind, path := range archives {
		t.Run(kind, func(t *testing.T) {
			s := NewStore(t.TempDir())
			names, err := s.ImportAll(context.Background(), path)
			slices.Sort(names)
			if want := []string{full(t, "web:1"), full(t, "quay.io/x/db:2")}; err != nil || !slices.Equal(names, want) {
				t.Fatalf("imported %v, %v; want %v", names, err, want)
			}
			for ref, want := range two {
				id, _ := want.ConfigName()
				if got, err := s.Get(ref); err != nil || got.ID != id.String() || got.Pulled {
					t.Errorf("%s is %+v, %v", ref, got, err)
				}
			}
			// One of them by its name, and none by another.
			one := NewStore(t.TempDir())
			if img, err := one.Import(context.Background(), "quay.io/x/db:2", path); err != nil || img.ID != must(db.ConfigName()).String() {
				t.Errorf("quay.io/x/db:2 is %v, %v", img.ID, err)
			}
			if _, err := one.Import(context.Background(), "other:1", path); err == nil || !strings.Contains(err.Error(), "none is called other:1 but [") {
				t.Errorf("other:1: %v", err)
			}
		})
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// TestImportAllTakesWhatItCan: what is for another machine keeps nobody from the rest.
func TestImportAllTakesWhatItCan(t *testing.T) {
	good := imageOf(t, testConfig, tarOf(t, file("a", "good")))
	config := must(good.ConfigFile()).DeepCopy()
	config.Architecture = "pdp11"
	s := NewStore(t.TempDir())
	names, err := s.ImportAll(context.Background(), savedByDocker(t, map[string]v1.Image{"good:1": good, "bad:1": must(mutate.ConfigFile(good, config))}))
	if err == nil || !strings.Contains(err.Error(), "bad:1: the image is for linux/pdp11") || !slices.Equal(names, []string{full(t, "good:1")}) {
		t.Errorf("imported %v, %v", names, err)
	}
	if _, err := s.ImportAll(context.Background(), layoutOf(t, map[string]v1.Image{"x": good}, func(string) map[string]string { return nil })); err == nil ||
		!strings.Contains(err.Error(), "no image in it has a name: give it one with svcplane image import REF ARCHIVE") {
		t.Errorf("an archive without a name: %v", err)
	}
}

func TestAnImportCanBeGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := NewStore(t.TempDir())
	_, err := s.ImportAll(ctx, savedByDocker(t, map[string]v1.Image{"a:1": imageOf(t, testConfig, tarOf(t, file("a", "a")))}))
	if left, _ := os.ReadDir(filepath.Join(s.dir, "layers")); err == nil || len(left) != 0 || len(s.List()) != 0 {
		t.Errorf("%v, and there is %v", err, left)
	}
}

// TestManyImages: an archive or an index that lists ten thousand is not looked through.
func TestManyImages(t *testing.T) {
	img := imageOf(t, testConfig, tarOf(t, file("a", "a")))
	index := v1.ImageIndex(empty.Index)
	for i := range maxIndex + 1 {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: fmt.Sprintf("a%d", i)}}})
	}
	if _, err := FromIndex(index); err == nil || !strings.Contains(err.Error(), "lists 1001 images; at most 1000") {
		t.Errorf("an index of %d images: %v", maxIndex+1, err)
	}
}
