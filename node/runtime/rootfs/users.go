package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mappedAll gives paths at which directories of images are seen as the container's users own them; without a user namespace
// they are those of the directories. The list is a copy.
func (b *builder) mappedAll(dirs []string) ([]string, error) {
	if b.spec.Users == nil {
		return slices.Clone(dirs), nil
	}
	var list []string
	for _, dir := range dirs {
		target, err := b.stage("layer")
		if err != nil {
			return nil, err
		}
		source, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("open a layer: %w", err)
		}
		err = b.bindMapped(source, target)
		source.Close()
		if err != nil {
			return nil, err
		}
		list = append(list, target)
	}
	return list, nil
}

// bindMapped binds source on the target, with owners as the user namespace has them. Mounts below source stay as they are.
func (b *builder) bindMapped(source *os.File, target string) error {
	tree, err := unix.OpenTree(int(source.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("copy the mount of %s: %w", source.Name(), err)
	}
	defer unix.Close(tree)
	attributes := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(b.spec.UserNS.Fd())}
	switch err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attributes); {
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("the file system of %s (%s) can't be id-mapped, which hostUsers: false needs: leave it out, or put the files on another file system",
			source.Name(), fileSystem(source))
	case err != nil:
		return fmt.Errorf("map the users of %s: %w", source.Name(), err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %s on %s: %w", source.Name(), target, err)
	}
	return nil
}

// fileSystem names the kind of file system that a file is on.
func fileSystem(f *os.File) string {
	var at unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &at); err != nil {
		return "unknown"
	}
	switch at.Type {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs before Linux 6.3"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	}
	return fmt.Sprintf("type %#x", at.Type)
}

// give makes the container's root the owner of a file.
func (b *builder) give(path string) error {
	if b.spec.Users == nil {
		return nil
	}
	if err := os.Lchown(path, int(b.spec.Users.Base), int(b.spec.Users.Base)); err != nil {
		return fmt.Errorf("give a file to the container: %w", err)
	}
	return nil
}

// mkdirAll makes missing directories, which belong to the container's root.
func (b *builder) mkdirAll(path string) error {
	var missing []string
	for dir := path; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		missing = append(missing, dir)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for _, dir := range missing {
		if err := b.give(dir); err != nil {
			return err
		}
	}
	return nil
}

// options of a system mount: owners are given by their numbers outside.
func (b *builder) options(m systemMount) string {
	users := b.spec.Users
	switch {
	case users == nil:
		return m.options
	case m.kind == "tmpfs":
		return fmt.Sprintf("%s,uid=%d,gid=%d", m.options, users.Base, users.Base)
	case m.kind == "devpts":
		return strings.Replace(m.options, "gid=5", fmt.Sprintf("gid=%d", users.Base+5), 1)
	}
	return m.options
}
