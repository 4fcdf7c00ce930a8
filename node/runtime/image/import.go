package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Import reads an image from an archive file and stores it under ref, replacing what had that reference.
func (s *Store) Import(ref, archive string) (Image, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return Image{}, fmt.Errorf("import image: reference %q: %w", ref, err)
	}
	if Builtin(ref) != "" {
		return Image{}, fmt.Errorf("import image: %s is part of svcplane; choose another name", ref)
	}
	img, err := s.put(parsed, func(work string) (v1.Image, v1.Hash, error) {
		source, err := openArchive(archive, parsed, work)
		if err != nil {
			return nil, v1.Hash{}, err
		}
		digest, err := source.Digest()
		if err != nil {
			return nil, v1.Hash{}, fmt.Errorf("compute the manifest's digest: %w", err)
		}
		return source, digest, nil
	}, false)
	if err != nil {
		return Image{}, fmt.Errorf("import image %s from %s: %w", ref, archive, err)
	}
	return img, nil
}

// Add stores an image that was pulled under the name by which it was asked for. digest is that of what the name stands for in
// the registry: an index, or a manifest.
func (s *Store) Add(ref name.Reference, source v1.Image, digest v1.Hash) (Image, error) {
	img, err := s.put(ref, func(string) (v1.Image, v1.Hash, error) { return source, digest, nil }, true)
	if err != nil {
		return Image{}, fmt.Errorf("unpack image %s: %w", ref, err)
	}
	return img, nil
}

// Name gives an image that is there another name, as which it was pulled.
func (s *Store) Name(ref name.Reference, id, digest v1.Hash) (Image, error) {
	var img Image
	err := s.locked(func() error {
		var err error
		if img, err = s.get(id.String()); err != nil {
			return err
		}
		img.named(ref, digest)
		return s.add(img)
	})
	return img, err
}

// named enters the names that a reference gives an image.
func (i *Image) named(ref name.Reference, digest v1.Hash) {
	i.Tags, i.Digests = nil, []string{ref.Context().Digest(digest.String()).Name()}
	if tag, ok := ref.(name.Tag); ok {
		i.Tags = []string{tag.Name()}
	}
}

// put unpacks an image under a name. Unpacking keeps nobody from reading the store.
func (s *Store) put(ref name.Reference, open func(work string) (v1.Image, v1.Hash, error), pulled bool) (Image, error) {
	var img Image
	err := s.exclusive(func() error {
		if err := s.tidy(); err != nil {
			return err
		}
		work, err := os.MkdirTemp(filepath.Join(s.dir, "layers"), ".import-*")
		if err != nil {
			return fmt.Errorf("make a work directory: %w", err)
		}
		defer os.RemoveAll(work)
		source, digest, err := open(work)
		if err != nil {
			return err
		}
		if img, err = s.unpack(source, work); err != nil {
			return err
		}
		img.Pulled = pulled
		if img.named(ref, digest); !pulled {
			img.Tags = []string{ref.Name()} // a digest that was given is a name: an archive need not have it
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.load(); err != nil {
			return err
		}
		return s.add(img)
	})
	return img, err
}

// tidy removes what nobody uses, on the newest index.
func (s *Store) tidy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	return s.sweep()
}

// HasImage says whether there is an image with this config.
func (s *Store) HasImage(id v1.Hash) bool {
	_, err := s.Get(id.String())
	return err == nil
}

// HasLayer says whether a layer is unpacked already, by the digest of its uncompressed form.
func (s *Store) HasLayer(diffID v1.Hash) bool {
	if diffID.Algorithm != "sha256" || !filepath.IsLocal(diffID.Hex) {
		return false
	}
	dir := s.layerDir(diffID.Hex)
	return slices.ContainsFunc(s.List(), func(i Image) bool { return slices.Contains(i.Layers, dir) }) // others may be on their way out
}

// openArchive finds out which kind of archive it is and gives the image that is meant.
func openArchive(path string, ref name.Reference, work string) (v1.Image, error) {
	open := func() (io.ReadCloser, error) { return openTar(path) }
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
		return fromIndex(index, 0)
	case docker:
		return fromDocker(open, ref)
	}
	return nil, errors.New("it is neither a docker-save archive (manifest.json) nor an OCI image layout (index.json, oci-layout)")
}

// openTar opens a tar file, through gzip if it is compressed.
func openTar(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReader(f)
	magic, _ := buffered.Peek(2) // a file that is too short is no tar either, which the reader says
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return readCloser{buffered, f}, nil
	}
	unzipped, err := gzip.NewReader(buffered)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return readCloser{unzipped, f}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
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
		if header.Typeflag != tar.TypeReg || !filepath.IsLocal(path) {
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

// FromIndex gives the image for this machine; an index may hold indexes (multi-platform builds do).
func FromIndex(index v1.ImageIndex) (v1.Image, error) { return fromIndex(index, 0) }

func fromIndex(index v1.ImageIndex, depth int) (v1.Image, error) {
	const deepest = 4
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	var offered []string
	for _, d := range manifest.Manifests {
		if d.Platform != nil && (d.Platform.OS != "linux" || d.Platform.Architecture != runtime.GOARCH) {
			offered = append(offered, d.Platform.String())
			continue
		}
		switch {
		case d.MediaType.IsIndex() && depth < deepest:
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, fmt.Errorf("read the index %s: %w", d.Digest, err)
			}
			return fromIndex(inner, depth+1)
		case d.MediaType.IsImage():
			return manifestImage(index, d)
		}
	}
	return nil, fmt.Errorf("it has no image for linux/%s, only [%s]", runtime.GOARCH, strings.Join(offered, ", "))
}

// manifestImage opens the image of a descriptor and checks that its manifest is the one described.
func manifestImage(index v1.ImageIndex, d v1.Descriptor) (v1.Image, error) {
	img, err := index.Image(d.Digest)
	if err != nil {
		return nil, fmt.Errorf("read the image %s: %w", d.Digest, err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("read the manifest %s: %w", d.Digest, err)
	}
	return img, verify("manifest", raw, d.Digest)
}

func verify(what string, raw []byte, want v1.Hash) error {
	got, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("hash the %s: %w", what, err)
	}
	if got != want {
		return fmt.Errorf("the %s is corrupt: its digest is %s, not %s; make the archive again", what, got, want)
	}
	return nil
}

// fromDocker gives the image with the reference, or the only one there is.
func fromDocker(open tarball.Opener, ref name.Reference) (v1.Image, error) {
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	var tags []string
	for _, d := range manifest {
		for _, text := range d.RepoTags {
			tags = append(tags, text)
			tag, err := name.NewTag(text)
			if err == nil && tag.Name() == ref.Name() {
				return tarball.Image(open, &tag)
			}
		}
	}
	if len(manifest) != 1 {
		return nil, fmt.Errorf("it holds %d images and none is called %s but [%s]; import by one of these names", len(manifest), ref, strings.Join(tags, ", "))
	}
	return tarball.Image(open, nil)
}

// unpack checks an image against its own digests and unpacks the layers that are not there yet.
func (s *Store) unpack(source v1.Image, work string) (Image, error) {
	manifest, err := source.Manifest()
	if err != nil {
		return Image{}, fmt.Errorf("read the manifest: %w", err)
	}
	rawConfig, err := source.RawConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("read the config: %w", err)
	}
	if err := verify("config", rawConfig, manifest.Config.Digest); err != nil {
		return Image{}, err
	}
	config, err := source.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("read the config: %w", err)
	}
	layers, err := source.Layers()
	if err != nil {
		return Image{}, fmt.Errorf("read the layers: %w", err)
	}
	if err := checkConfig(config, len(layers)); err != nil {
		return Image{}, err
	}
	img := Image{ID: manifest.Config.Digest.String(), Imported: time.Now(), Config: Config{
		Env: config.Config.Env, Entrypoint: config.Config.Entrypoint, Cmd: config.Config.Cmd,
		WorkingDir: config.Config.WorkingDir, User: config.Config.User,
	}}
	for i, layer := range layers {
		dir, err := s.unpackLayer(layer, config.RootFS.DiffIDs[i], work)
		if err != nil {
			return Image{}, fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
		img.Layers = append(img.Layers, dir)
		size, err := layer.Size()
		if err != nil {
			return Image{}, fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
		img.Size += size
	}
	return img, nil
}

func checkConfig(config *v1.ConfigFile, layers int) error {
	if len(config.RootFS.DiffIDs) != layers {
		return fmt.Errorf("the config lists %d layers and the manifest %d; make the archive again", len(config.RootFS.DiffIDs), layers)
	}
	if layers == 0 {
		return errors.New("the image has no layers, so there is nothing to run")
	}
	if config.OS != "" && config.OS != "linux" || config.Architecture != "" && config.Architecture != runtime.GOARCH {
		return fmt.Errorf("the image is for %s/%s; this machine needs linux/%s", config.OS, config.Architecture, runtime.GOARCH)
	}
	return nil
}

// unpackLayer gives the directory of a layer, unpacking it aside first if it is not there.
func (s *Store) unpackLayer(layer v1.Layer, diffID v1.Hash, work string) (string, error) {
	if diffID.Algorithm != "sha256" || len(diffID.Hex) != 64 || !filepath.IsLocal(diffID.Hex) {
		return "", fmt.Errorf("digest %s: only sha256 is known", diffID)
	}
	dir := s.layerDir(diffID.Hex)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for the layer: %w", err)
	}
	content, err := layer.Uncompressed()
	if err != nil {
		return "", fmt.Errorf("read: %w", err)
	}
	defer content.Close()
	aside := filepath.Join(work, diffID.Hex)
	if err := unpackVerified(content, aside, diffID); err != nil {
		return "", err
	}
	if err := os.Rename(aside, dir); err != nil {
		return "", fmt.Errorf("store the layer: %w", err)
	}
	return dir, nil
}
