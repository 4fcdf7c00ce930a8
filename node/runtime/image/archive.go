package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

// archive says what is in a file.
type archive struct {
	named []archived
	// only is the image that is meant where no name of the archive is asked for, or why that is not clear.
	only func(ref name.Reference) (v1.Image, error)
}

// archived is an image of an archive under one of its names.
type archived struct {
	ref  name.Reference
	open func() (v1.Image, error)
}

// find gives the image with the reference, or the only one there is.
func (a *archive) find(ref name.Reference) (v1.Image, error) {
	for _, image := range a.named {
		if image.ref.Name() == ref.Name() {
			return image.open()
		}
	}
	return a.only(ref)
}

// names are those of its images, for people.
func (a *archive) names() string {
	var all []string
	for _, image := range a.named {
		all = append(all, image.ref.String())
	}
	return few(all)
}

// few lists the first of many, so that nothing foreign makes a message endless.
func few(all []string) string {
	const most = 10
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}

// openArchive finds out which kind of archive a file is, and which images are in it.
func openArchive(ctx context.Context, path, work string) (*archive, error) {
	open := func() (io.ReadCloser, error) { return openTar(ctx, path) }
	docker, oci, err := contents(open)
	if err != nil {
		return nil, err
	}
	switch {
	case oci:
		dir := filepath.Join(work, "layout")
		if err := extractLayout(open, dir); err != nil {
			return nil, err
		}
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			return nil, fmt.Errorf("read the OCI layout: %w", err)
		}
		return inLayout(index)
	case docker:
		if open, err = plainTar(ctx, path, work); err != nil {
			return nil, err
		}
		return inDocker(open)
	}
	return nil, errors.New("it is neither a docker-save archive (manifest.json) nor an OCI image layout (index.json, oci-layout)")
}

// compressions are those of archives, by their first bytes.
var compressions = []struct {
	name, magic string
	reader      func(io.Reader) (io.ReadCloser, error)
}{
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"zstd", "\x28\xb5\x2f\xfd", func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}},
}

// openTar opens a tar file, through what it is compressed with.
func openTar(ctx context.Context, path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReaderSize(f, 64<<10)
	magic, _ := buffered.Peek(4) // a file that is too short is no tar either, which the reader says
	for _, c := range compressions {
		if !bytes.HasPrefix(magic, []byte(c.magic)) {
			continue
		}
		unzipped, err := c.reader(buffered)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("decompress (%s): %w", c.name, err)
		}
		return readCloser{until{ctx, unzipped}, both{unzipped, f}}, nil
	}
	return readCloser{until{ctx, buffered}, f}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

type both struct{ first, second io.Closer }

func (b both) Close() error { return errors.Join(b.first.Close(), b.second.Close()) }

// until is a reader that ends with a context.
type until struct {
	ctx context.Context
	io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Reader.Read(p)
}

// plainTar gives an archive that is read from its beginning for each of its files, which what is compressed is too slow for.
func plainTar(ctx context.Context, path, work string) (tarball.Opener, error) {
	source, err := openTar(ctx, path)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	if r, ok := source.(readCloser); ok {
		if _, plain := r.Closer.(*os.File); plain {
			return func() (io.ReadCloser, error) { return os.Open(path) }, nil // whose reader seeks
		}
	}
	plain := filepath.Join(work, "archive.tar")
	f, err := os.OpenFile(plain, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	_, err = io.Copy(f, source)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return func() (io.ReadCloser, error) { return os.Open(plain) }, nil
}

// maxManifest bounds what is read into memory at once.
const maxManifest = 8 << 20

// contents looks which of the two forms an archive has; new ones have both, and the OCI form says more.
func contents(open tarball.Opener) (docker, oci bool, err error) {
	err = eachEntry(open, func(header *tar.Header, _ io.Reader) error {
		switch clean(header.Name) {
		case "manifest.json":
			docker = true
		case "oci-layout":
			oci = true
		case "index.json":
		default:
			return nil
		}
		if header.Size > maxManifest {
			return fmt.Errorf("%s is %d bytes long, more than any image needs", header.Name, header.Size)
		}
		return nil
	})
	return docker, oci, err
}

func eachEntry(open tarball.Opener, fn func(*tar.Header, io.Reader) error) error {
	source, err := open()
	if err != nil {
		return err
	}
	defer source.Close()
	reader := tar.NewReader(source)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if err := fn(header, reader); err != nil {
			return err
		}
	}
}

// extractLayout unpacks the files of an OCI layout, which are regular files only.
func extractLayout(open tarball.Opener, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("unpack the OCI layout: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack the OCI layout: %w", err)
	}
	defer root.Close()
	return eachEntry(open, func(header *tar.Header, content io.Reader) error {
		path := clean(header.Name)
		wanted := path == "index.json" || path == "oci-layout" || strings.HasPrefix(path, "blobs/")
		if header.Typeflag != tar.TypeReg || !filepath.IsLocal(path) || !wanted {
			return nil
		}
		if err := root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("unpack %s: %w", path, err)
		}
		f, err := root.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", path, err)
		}
		_, err = io.Copy(f, content)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("unpack %s: %w", path, err)
		}
		return nil
	})
}

func clean(path string) string { return filepath.Clean(strings.TrimLeft(path, "/")) }

// Annotations of the images of an OCI layout: containerd's and Docker's whole name, and the one of the specification, which
// some write a tag alone into.
const (
	wholeName = "io.containerd.image.name"
	refName   = "org.opencontainers.image.ref.name"
)

// nameOf is what an image of an OCI layout is called there; nil if it has no name, or only a part of one.
func nameOf(d v1.Descriptor) name.Reference {
	text := d.Annotations[wholeName]
	if text == "" {
		if text = d.Annotations[refName]; !strings.ContainsAny(text, "/:@") {
			return nil
		}
	}
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil
	}
	return ref
}

func inLayout(index v1.ImageIndex) (*archive, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	if len(manifest.Manifests) > maxIndex {
		return nil, tooMany(len(manifest.Manifests))
	}
	a := &archive{}
	digests := map[v1.Hash]bool{}
	for _, d := range manifest.Manifests {
		ref := nameOf(d)
		if ref == nil {
			continue
		}
		digests[d.Digest] = true
		a.named = append(a.named, archived{ref, func() (v1.Image, error) {
			if !d.MediaType.IsIndex() {
				return manifestImage(index, d)
			}
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, fmt.Errorf("read the index %s: %w", d.Digest, err)
			}
			return fromIndex(inner, 1)
		}})
	}
	a.only = func(ref name.Reference) (v1.Image, error) {
		if len(digests) > 1 {
			return nil, fmt.Errorf("it holds %d images and none is called %s but [%s]; import by one of these names", len(digests), ref, a.names())
		}
		return fromIndex(index, 0)
	}
	return a, nil
}

func inDocker(open tarball.Opener) (*archive, error) {
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	if len(manifest) > maxIndex {
		return nil, tooMany(len(manifest))
	}
	a := &archive{}
	for _, d := range manifest {
		for _, text := range d.RepoTags {
			if tag, err := name.NewTag(text); err == nil {
				a.named = append(a.named, archived{tag, func() (v1.Image, error) { return tarball.Image(open, &tag) }})
			}
		}
	}
	a.only = func(ref name.Reference) (v1.Image, error) {
		if len(manifest) != 1 {
			return nil, fmt.Errorf("it holds %d images and none is called %s but [%s]; import by one of these names", len(manifest), ref, a.names())
		}
		return tarball.Image(open, nil)
	}
	return a, nil
}
