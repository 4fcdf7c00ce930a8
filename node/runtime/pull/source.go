package pull

import (
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// source is an image whose blobs lie in a directory.
type source struct {
	dir      string
	raw      []byte
	manifest *v1.Manifest
	config   []byte
	diffIDs  []v1.Hash // of the layers, uncompressed
}

// maxConfig bounds a config, which is read into memory.
const maxConfig = 8 << 20

func newSource(dir string, raw []byte, manifest *v1.Manifest) (*source, error) {
	s := &source{dir: dir, raw: raw, manifest: manifest}
	if manifest.Config.Size > maxConfig {
		return nil, fmt.Errorf("its config is %d bytes long, more than any image needs", manifest.Config.Size)
	}
	var err error
	if s.config, err = os.ReadFile(blobPath(dir, manifest.Config.Digest)); err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	img, err := s.image()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	s.diffIDs = config.RootFS.DiffIDs
	return s, nil
}

func (s *source) image() (v1.Image, error) { return partial.CompressedToImage(s) }

// RawConfigFile, RawManifest, MediaType and LayerByDigest make it a partial.CompressedImageCore.
func (s *source) RawConfigFile() ([]byte, error) { return s.config, nil }

// RawManifest is as it came.
func (s *source) RawManifest() ([]byte, error) { return s.raw, nil }

// MediaType is the manifest's.
func (s *source) MediaType() (types.MediaType, error) { return s.manifest.MediaType, nil }

// LayerByDigest finds a layer by the digest of its blob.
func (s *source) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	if digest == s.manifest.Config.Digest {
		return partial.ConfigLayer(s)
	}
	for _, l := range s.manifest.Layers {
		if l.Digest == digest {
			return &fileLayer{s.dir, l}, nil
		}
	}
	return nil, fmt.Errorf("no layer %s in the manifest", digest)
}

// fileLayer is a layer that was fetched.
type fileLayer struct {
	dir string
	v1.Descriptor
}

// Digest is that of the blob.
func (l *fileLayer) Digest() (v1.Hash, error) { return l.Descriptor.Digest, nil }

// Compressed reads the blob.
func (l *fileLayer) Compressed() (io.ReadCloser, error) {
	return os.Open(blobPath(l.dir, l.Descriptor.Digest))
}

// Size is that of the blob.
func (l *fileLayer) Size() (int64, error) { return l.Descriptor.Size, nil }

// MediaType says how it is compressed.
func (l *fileLayer) MediaType() (types.MediaType, error) { return l.Descriptor.MediaType, nil }
