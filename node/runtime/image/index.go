package image

import (
	"bytes"
	"fmt"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// FromIndex gives the image for this machine; an index may hold indexes (multi-platform builds do).
func FromIndex(index v1.ImageIndex) (v1.Image, error) { return fromIndex(index, 0) }

// maxIndex bounds the images that an index or an archive offers: those of a platform each are dozens at most.
const maxIndex = 1000

func tooMany(n int) error {
	return fmt.Errorf("it lists %d images; at most %d are looked at", n, maxIndex)
}

func fromIndex(index v1.ImageIndex, depth int) (v1.Image, error) {
	const deepest = 4
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	if len(manifest.Manifests) > maxIndex {
		return nil, tooMany(len(manifest.Manifests))
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
	return nil, fmt.Errorf("it has no image for linux/%s, only [%s]", runtime.GOARCH, few(offered))
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
