package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Export writes an image into an archive that is a docker-save archive and an OCI layout at once, compressed if its name ends
// so. Layers and config are those that came, bit for bit. The file is there when it is whole.
func (s *Store) Export(ctx context.Context, ref, path string) (Image, error) {
	var img Image
	err := s.flocked(ctx, unix.LOCK_SH, func() error {
		if err := s.Load(); err != nil {
			return err
		}
		var err error
		if img, err = s.Get(ref); err != nil {
			return err
		}
		aside, err := os.CreateTemp(filepath.Dir(path), ".export-*")
		if err != nil {
			return err
		}
		err = s.export(ctx, img, namesFor(ref, img), compressed(aside, path))
		if err = errors.Join(err, aside.Sync(), aside.Close()); err == nil {
			err = os.Rename(aside.Name(), path)
		}
		if err != nil {
			os.Remove(aside.Name())
		}
		return err
	})
	if err != nil {
		return Image{}, fmt.Errorf("export image %s to %s: %w", ref, path, err)
	}
	return img, nil
}

// namesFor are the names that an archive gives an image: that by which it was asked for, or all.
func namesFor(ref string, img Image) []name.Tag {
	texts := img.Tags
	if parsed, err := name.ParseReference(ref); err == nil && strings.TrimPrefix(img.ID, "sha256:") != strings.TrimPrefix(ref, "sha256:") {
		texts = []string{parsed.Name()}
	}
	var all []name.Tag
	for _, text := range texts {
		if tag, err := name.NewTag(text); err == nil {
			all = append(all, tag)
		}
	}
	return all
}

// compressed compresses as the ending of a file's name says.
func compressed(to io.Writer, path string) io.WriteCloser {
	switch {
	case ends(path, ".gz", ".tgz"):
		return gzip.NewWriter(to)
	case ends(path, ".zst", ".tzst"):
		if w, err := zstd.NewWriter(to); err == nil {
			return w
		}
	}
	return plainWriter{to}
}

func ends(path string, with ...string) bool {
	return slices.ContainsFunc(with, func(end string) bool { return strings.HasSuffix(path, end) })
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// export writes the archive.
func (s *Store) export(ctx context.Context, img Image, names []name.Tag, to io.WriteCloser) error {
	hex := strings.TrimPrefix(img.ID, "sha256:")
	config, err := os.ReadFile(s.configPath(hex))
	if errors.Is(err, fs.ErrNotExist) {
		return notKept("its config")
	}
	if err != nil {
		return err
	}
	w := &layoutWriter{ctx: ctx, tar: tar.NewWriter(to), have: map[string]bool{}}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	if manifest.Config, err = w.bytes(types.OCIConfigJSON, config); err != nil {
		return err
	}
	if manifest.Config.Digest.Hex != hex {
		return fmt.Errorf("the config that is kept is broken: its digest is %s", manifest.Config.Digest)
	}
	for i, dir := range img.Layers {
		d, err := w.layer(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = notKept("what its tar consisted of")
		}
		if err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(img.Layers), err)
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	if err := w.finish(manifest, names); err != nil {
		return err
	}
	return to.Close()
}

// notKept says why an image cannot be written as it came.
func notKept(what string) error {
	return fmt.Errorf("%s is not kept, since an older svcplane stored it, or a file is in it twice: it cannot be written as it came; remove the image, and pull or import it again", what)
}

// layoutWriter writes the files of an OCI layout.
type layoutWriter struct {
	ctx  context.Context
	tar  *tar.Writer
	have map[string]bool
}

func blobName(d v1.Hash) string { return "blobs/sha256/" + d.Hex }

func (w *layoutWriter) file(path string, size int64, write func(io.Writer) error) error {
	if w.have[path] {
		return nil
	}
	w.have[path] = true
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	return write(w.tar)
}

func (w *layoutWriter) bytes(kind types.MediaType, raw []byte) (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: kind, Size: size, Digest: digest}
	return d, w.file(blobName(digest), size, func(to io.Writer) error { _, err := to.Write(raw); return err })
}

func (w *layoutWriter) json(path string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return w.file(path, int64(len(raw)), func(to io.Writer) error { _, err := to.Write(raw); return err })
}

// layer writes the tar of a layer, and checks that it is what came.
func (w *layoutWriter) layer(dir string) (v1.Descriptor, error) {
	want := v1.Hash{Algorithm: "sha256", Hex: strings.TrimSuffix(filepath.Base(dir), plainSuffix)}
	size, err := tarSize(dir)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: size, Digest: want}
	return d, w.file(blobName(want), size, func(to io.Writer) error {
		sum := sha256.New()
		if err := writeTar(io.MultiWriter(ending{w.ctx, to}, sum), dir); err != nil {
			return err
		}
		if got := fmt.Sprintf("%x", sum.Sum(nil)); got != want.Hex {
			return fmt.Errorf("the layer has changed in the store: its digest is sha256:%s, not %s", got, want)
		}
		return nil
	})
}

// ending is a writer that ends with a context.
type ending struct {
	ctx context.Context
	io.Writer
}

func (e ending) Write(p []byte) (int, error) {
	if e.ctx.Err() != nil {
		return 0, context.Cause(e.ctx)
	}
	return e.Writer.Write(p)
}

// finish writes manifest and indexes, those of OCI and of Docker.
func (w *layoutWriter) finish(manifest v1.Manifest, names []name.Tag) error {
	raw, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	d, err := w.bytes(types.OCIManifestSchema1, raw)
	if err != nil {
		return err
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	docker := tarball.Descriptor{Config: blobName(manifest.Config.Digest)}
	for _, l := range manifest.Layers {
		docker.Layers = append(docker.Layers, blobName(l.Digest))
	}
	for _, tag := range names {
		named := d
		named.Annotations = map[string]string{wholeName: Shown(tag.Name()), refName: tag.TagStr()}
		index.Manifests = append(index.Manifests, named)
		docker.RepoTags = append(docker.RepoTags, strings.TrimPrefix(strings.TrimPrefix(Shown(tag.Name()), "docker.io/library/"), "docker.io/"))
	}
	if len(names) == 0 {
		index.Manifests = []v1.Descriptor{d}
	}
	err = w.json("index.json", index)
	if err == nil {
		err = w.json("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"})
	}
	if err == nil {
		err = w.json("manifest.json", tarball.Manifest{docker})
	}
	return errors.Join(err, w.tar.Close())
}
