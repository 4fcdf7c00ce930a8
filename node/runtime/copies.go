package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/image"
	"svcplane/node/runtime/process"
)

// probeOverlay says why overlayfs cannot hold containers in a directory, or nil: the kernel may have none, or the file system
// may be one that it does not take, as that of a container. It is asked by trying.
func probeOverlay(dir string) error {
	base, err := os.MkdirTemp(dir, ".overlay-*")
	if err != nil {
		return nil // what comes next says why
	}
	defer os.RemoveAll(base)
	at := func(name string) string { return filepath.Join(base, name) }
	for _, name := range []string{"lower/dir", "middle/dir", "upper", "work", "merged"} {
		if err := os.MkdirAll(at(name), 0o700); err != nil {
			return nil
		}
	}
	if err := errors.Join(os.WriteFile(at("lower/gone"), nil, 0o600), os.WriteFile(at("lower/dir/gone"), nil, 0o600)); err != nil {
		return nil
	}
	if err := errors.Join(unix.Mknod(at("middle/gone"), unix.S_IFCHR, 0), unix.Setxattr(at("middle/dir"), "trusted.overlay.opaque", []byte("y"), 0)); err != nil {
		return fmt.Errorf("whiteouts: %w", err)
	}
	return process.OnThread(func() error { // its mounts end with it
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s", at("middle"), at("lower"), at("upper"), at("work"))
		if strings.ContainsAny(base, `,:\\`) {
			return nil // the real mount knows how to write it
		}
		if err := unix.Mount("overlay", at("merged"), "overlay", 0, options); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		for _, name := range []string{"merged/gone", "merged/dir/gone"} {
			if _, err := os.Lstat(at(name)); err == nil {
				return errors.New("whiteouts hide nothing")
			}
		}
		return nil
	})
}

// copiedMark says that the upper directory of a container is a copy of its image, since there is no overlayfs for it.
const copiedMark = "copied"

func (r *Runtime) isCopied(id string) bool {
	_, err := os.Stat(filepath.Join(r.store.containerDir(id), copiedMark))
	return err == nil
}

// copyImages makes the copies of images that a container needs where there is no overlayfs.
func (r *Runtime) copyImages(ctx context.Context, c *containerEntry) error {
	dir := r.store.containerDir(c.ID)
	if c.Kind == kindImage && !r.isCopied(c.ID) {
		img, err := r.images.Get(c.ImageID)
		if err != nil {
			return err
		}
		if r.copies(img.Layers) {
			if err := copyInto(ctx, img.Layers, filepath.Join(dir, "upper")); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, copiedMark), nil, 0o600); err != nil {
				return err
			}
		}
	}
	for _, m := range c.config.GetMounts() {
		if m.GetImage().GetImage() == "" {
			continue
		}
		found, err := r.findImage(m.GetImage())
		if err != nil || found.kind != kindImage {
			continue // the mount says why
		}
		img, err := r.images.Get(found.id)
		if err != nil || !r.copies(img.Layers) {
			continue
		}
		if _, err := os.Stat(volumeCopy(dir, img)); err == nil {
			continue
		}
		if err := copyInto(ctx, img.Layers, volumeCopy(dir, img)); err != nil {
			return err
		}
	}
	return nil
}

// copies says whether containers get copies of an image's layers.
func (r *Runtime) copies(layers []string) bool { return r.noOverlay != nil || image.Copied(layers) }

func volumeCopy(dir string, img image.Image) string {
	return filepath.Join(dir, "volume-"+strings.TrimPrefix(img.ID, "sha256:"))
}

// copyInto makes a copy that is whole, or none.
func copyInto(ctx context.Context, layers []string, to string) error {
	aside := to + ".new"
	err := errors.Join(os.RemoveAll(aside), os.RemoveAll(to))
	if err == nil {
		err = image.Flatten(ctx, layers, aside)
	}
	if err == nil {
		err = os.Rename(aside, to)
	}
	if err != nil {
		os.RemoveAll(aside)
	}
	return err
}
