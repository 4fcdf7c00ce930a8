package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// plainSuffix marks the directory of a layer whose whiteouts are files as in its tar (.wh.NAME), since the file system has neither
// the device nor the attribute that overlayfs understands. Such layers can be copied only.
const plainSuffix = ".plain"

// Copied says whether an image can be used by copying it only, even if there is overlayfs.
func Copied(layers []string) bool {
	for _, layer := range layers {
		if strings.HasSuffix(layer, plainSuffix) {
			return true
		}
	}
	return false
}

// canWhiteout says whether a file system has what overlayfs takes for a whiteout, and for an opaque directory.
func canWhiteout(dir string) bool {
	probe, err := os.MkdirTemp(dir, ".import-*")
	if err != nil {
		return true // what comes next says why
	}
	defer os.RemoveAll(probe)
	return unix.Mknod(filepath.Join(probe, "whiteout"), unix.S_IFCHR, 0) == nil && unix.Setxattr(probe, opaqueAttr, []byte("y"), 0) == nil
}

const opaqueAttr = "trusted.overlay.opaque"

// Flatten copies layers, the lowest first, over each other into a directory, which is made: what a container sees of an image
// where there is no overlayfs.
func Flatten(ctx context.Context, layers []string, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return fmt.Errorf("copy an image: %w", err)
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return fmt.Errorf("copy an image: %w", err)
	}
	defer root.Close()
	c := &copier{unpacker: unpacker{root: root, dir: to, times: map[string]time.Time{}}}
	for _, layer := range layers {
		if err := c.layer(ctx, layer); err != nil {
			return fmt.Errorf("copy a layer of an image: %w", err)
		}
	}
	for path, at := range c.times {
		if err := root.Chtimes(path, at, at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("copy an image: %w", err)
		}
	}
	return nil
}

// copier puts one layer over what is there.
type copier struct {
	unpacker
	first map[uint64]string // path of a file with several names, by its inode
}

func (c *copier) layer(ctx context.Context, layer string) error {
	c.first = map[uint64]string{}
	plain := strings.HasSuffix(layer, plainSuffix)
	return filepath.WalkDir(layer, func(from string, _ fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		path, err := filepath.Rel(layer, from)
		if err != nil {
			return err
		}
		var s unix.Stat_t
		if err := unix.Lstat(from, &s); err != nil {
			return &os.PathError{Op: "lstat", Path: from, Err: err}
		}
		base := filepath.Base(path)
		hidden, marked := strings.CutPrefix(base, whiteoutPrefix)
		switch {
		case plain && base == whiteoutOpaque:
			return nil // its directory was asked about it
		case plain && marked:
			return c.root.RemoveAll(filepath.Join(filepath.Dir(path), hidden))
		case s.Mode&unix.S_IFMT == unix.S_IFCHR:
			return c.root.RemoveAll(path) // a layer has no devices but whiteouts
		}
		if err := c.entry(from, path, &s, plain); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}

// entry copies one file or directory with its attributes.
func (c *copier) entry(from, path string, s *unix.Stat_t, plain bool) error {
	kind := s.Mode & unix.S_IFMT
	old, err := c.root.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := err == nil
	if there && path != "." && (kind != unix.S_IFDIR || !old.IsDir() || c.isOpaque(from, plain)) {
		if err := c.root.RemoveAll(path); err != nil {
			return err
		}
		there = false
	}
	switch kind {
	case unix.S_IFDIR:
		if !there {
			err = c.root.Mkdir(path, 0o755)
		} else {
			err = nil
		}
	case unix.S_IFREG:
		if s.Nlink > 1 {
			if first, ok := c.first[s.Ino]; ok {
				return c.root.Link(first, path)
			}
			c.first[s.Ino] = path
		}
		err = c.content(from, path)
	case unix.S_IFLNK:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = c.root.Symlink(target, path)
		}
	case unix.S_IFIFO:
		err = c.inDir(filepath.Dir(path), func(fd int) error { return unix.Mknodat(fd, filepath.Base(path), unix.S_IFIFO|0o600, 0) })
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return c.status(from, path, s)
}

func (c *copier) isOpaque(from string, plain bool) bool {
	if plain {
		_, err := os.Lstat(filepath.Join(from, whiteoutOpaque))
		return err == nil
	}
	value := make([]byte, 1)
	n, err := unix.Lgetxattr(from, opaqueAttr, value)
	return err == nil && n == 1 && value[0] == 'y'
}

// content copies a file; where the file system can, without copying its blocks.
func (c *copier) content(from, path string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := c.root.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(target.Fd()), int(source.Fd())) != nil {
		err = c.fill(target, source)
	}
	return errors.Join(err, target.Close())
}

// status sets owner, mode, extended attributes and times.
func (c *copier) status(from, path string, s *unix.Stat_t) error {
	if err := c.root.Lchown(path, int(s.Uid), int(s.Gid)); err != nil {
		return err
	}
	kind := s.Mode & unix.S_IFMT
	if kind == unix.S_IFLNK {
		return nil
	}
	if err := c.root.Chmod(path, fileMode(s.Mode)); err != nil {
		return err
	}
	if kind == unix.S_IFREG || kind == unix.S_IFDIR {
		if err := c.inDir(path, func(fd int) error { return copyAttributes(from, fd) }); err != nil {
			return err
		}
	}
	at := time.Unix(s.Mtim.Unix())
	if kind == unix.S_IFDIR {
		c.times[path] = at
		return nil
	}
	return c.root.Chtimes(path, at, at)
}

func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// copyAttributes copies extended attributes, but for overlayfs' own, and what the file system has none of.
func copyAttributes(from string, fd int) error {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(from, list)
	if err != nil || n == 0 {
		return nil // a file system without any
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !kept(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Fsetxattr(fd, name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("copy the attribute %s: %w", name, err)
		}
	}
	return nil
}
