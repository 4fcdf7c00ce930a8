package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// source is an image that is to be stored under a name.
type source struct {
	ref    name.Reference
	image  v1.Image
	digest v1.Hash // of what the name stands for where it comes from
}

// Import reads an image from an archive file and stores it under ref, replacing what had that reference.
func (s *Store) Import(ctx context.Context, ref, path string) (Image, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return Image{}, fmt.Errorf("import image: reference %q: %w", ref, err)
	}
	if Builtin(ref) != "" {
		return Image{}, fmt.Errorf("import image: %s is part of svcplane; choose another name", ref)
	}
	all, err := s.put(ctx, func(work string) ([]source, error) {
		a, err := openArchive(ctx, path, work)
		if err != nil {
			return nil, err
		}
		image, err := a.find(parsed)
		if err != nil {
			return nil, err
		}
		one, err := imported(parsed, image)
		return []source{one}, err
	}, false)
	if err != nil {
		return Image{}, fmt.Errorf("import image %s from %s: %w", ref, path, err)
	}
	return all[0], nil
}

func imported(ref name.Reference, image v1.Image) (source, error) {
	digest, err := image.Digest()
	if err != nil {
		return source{}, fmt.Errorf("compute the manifest's digest: %w", err)
	}
	return source{ref, image, digest}, nil
}

// ImportAll stores all images of an archive file under the names that they have there, and gives these names. What cannot
// be imported of it is an error, and the others are there.
func (s *Store) ImportAll(ctx context.Context, path string) ([]string, error) {
	var failed []error
	all, err := s.put(ctx, func(work string) ([]source, error) {
		a, err := openArchive(ctx, path, work)
		if err != nil {
			return nil, err
		}
		if len(a.named) == 0 {
			return nil, errors.New("no image in it has a name: give it one with svcplane image import REF ARCHIVE")
		}
		var found []source
		for _, one := range a.named {
			if Builtin(one.ref.Name()) != "" {
				failed = append(failed, fmt.Errorf("%s is part of svcplane", one.ref))
				continue
			}
			image, err := one.open()
			if err == nil {
				var s source
				if s, err = imported(one.ref, image); err == nil {
					found = append(found, s)
					continue
				}
			}
			failed = append(failed, fmt.Errorf("image %s: %w", one.ref, err))
		}
		return found, nil
	}, false)
	var names []string
	for _, image := range all {
		names = append(names, image.asked)
	}
	if err = errors.Join(append(failed, err)...); err != nil {
		return names, fmt.Errorf("import %s: %s", path, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return names, nil
}

// Add stores an image that was pulled under the name by which it was asked for. digest is that of what the name stands for in
// the registry: an index, or a manifest.
func (s *Store) Add(ctx context.Context, ref name.Reference, image v1.Image, digest v1.Hash) (Image, error) {
	all, err := s.put(ctx, func(string) ([]source, error) { return []source{{ref, image, digest}}, nil }, true)
	if err != nil {
		return Image{}, fmt.Errorf("unpack image %s: %w", ref, err)
	}
	return all[0], nil
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

// put unpacks images under their names. Unpacking keeps nobody from reading the store. With an error it gives those that are there.
func (s *Store) put(ctx context.Context, open func(work string) ([]source, error), pulled bool) ([]Image, error) {
	var stored []Image
	err := s.exclusive(ctx, func() error {
		if err := s.tidy(); err != nil {
			return err
		}
		work, err := os.MkdirTemp(filepath.Join(s.dir, "layers"), ".import-*")
		if err != nil {
			return fmt.Errorf("make a work directory: %w", err)
		}
		defer os.RemoveAll(work)
		sources, err := open(work)
		if err != nil {
			return err
		}
		var failed []error
		for _, from := range sources {
			img, err := s.putOne(ctx, from, work, pulled)
			if err == nil {
				stored = append(stored, img)
				continue
			}
			if len(sources) > 1 {
				err = fmt.Errorf("image %s: %w", from.ref, err)
			}
			failed = append(failed, err)
			if ctx.Err() != nil {
				break
			}
		}
		return errors.Join(failed...)
	})
	return stored, err
}

// putOne unpacks an image and enters it in the index.
func (s *Store) putOne(ctx context.Context, from source, work string, pulled bool) (Image, error) {
	img, err := s.unpack(ctx, from.image, work)
	if err != nil {
		return Image{}, err
	}
	img.Pulled, img.asked = pulled, from.ref.Name()
	if img.named(from.ref, from.digest); !pulled {
		img.Tags = []string{from.ref.Name()} // a digest that was given is a name: an archive need not have it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return Image{}, err
	}
	return img, s.add(img)
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
	dirs := s.layerDirs(diffID)
	return slices.ContainsFunc(s.List(), func(i Image) bool { // others may be on their way out
		return slices.Contains(i.Layers, dirs[0]) || slices.Contains(i.Layers, dirs[1])
	})
}
