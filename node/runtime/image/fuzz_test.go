package image

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLayer: whatever a layer holds, nothing appears beside its directory, and what was unpacked can be written out as it came,
// and copied.
func FuzzLayer(f *testing.F) {
	f.Add(tarOf(f, dir("a/"), file("a/b", "text"), link(tar.TypeSymlink, "l", "/etc"), file("l/passwd", "x")), false)
	f.Add(tarOf(f, file("../x", "y"), file(".wh.a", ""), file("a/.wh..wh..opq", "")), true)
	f.Add(tarOf(f, file("a", "text"), link(tar.TypeLink, "b", "a"), link(tar.TypeSymlink, "c", "a"), entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "p"}}, file(".wh.gone", ""), dir("d/"), file(".wh.d", "")), true)
	f.Add(gnuSparse(f, "zeros", 1<<20, "end"), false)
	f.Fuzz(func(t *testing.T, raw []byte, plain bool) {
		parent := t.TempDir()
		layer := filepath.Join(parent, "layer")
		if plain {
			layer += plainSuffix
		}
		keep := must(newKeeper(bytes.NewReader(raw), keptPath(layer)))
		if err := unpackLayer(keep, layer, plain, limits{8 << 20, 1000}); err != nil {
			keep.discard()
			entriesOf(t, parent, 1)
			return
		}
		must(io.Copy(io.Discard, keep))
		if err := keep.close(); err != nil {
			t.Fatal(err)
		}
		entriesOf(t, parent, 2)
		if !keep.spoilt {
			var again bytes.Buffer
			if err := writeTar(&again, layer); err != nil || !bytes.Equal(again.Bytes(), raw) {
				t.Errorf("written out are %d bytes, and %d came: %v", again.Len(), len(raw), err)
			}
		}
		if err := Flatten(t.Context(), []string{layer}, filepath.Join(parent, "copy")); err != nil {
			t.Error(err)
		}
		entriesOf(t, parent, 3)
	})
}

func entriesOf(t *testing.T, dir string, most int) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > most {
		t.Fatalf("beside the layer there is %v %v", entries, err)
	}
}

// FuzzArchive: whatever an archive holds, the import gives an image whose layers are there, or an error.
func FuzzArchive(f *testing.F) {
	img := imageOf(f, testConfig, tarOf(f, file("a", "1")))
	for _, path := range []string{dockerArchive(f, "app:1", img), ociArchive(f, img)} {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		store := NewStore(t.TempDir())
		img, err := store.Import(context.Background(), "app:1", write(t, raw))
		if err != nil {
			return
		}
		for _, layer := range img.Layers {
			if info, err := os.Stat(layer); err != nil || !info.IsDir() {
				t.Fatalf("layer %s of an imported image: %v", layer, err)
			}
		}
	})
}
