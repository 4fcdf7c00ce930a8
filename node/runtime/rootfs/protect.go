package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Protection says which files of the kernel a container may not read (masked) and not write.
type Protection struct {
	Masked   []string `json:"masked,omitempty"`
	ReadOnly []string `json:"readOnly,omitempty"`
}

// Apply covers them in the mount namespace that enter moves the calling thread to (within process.OnThread). It comes
// after the container's init has mounted /proc.
func (p Protection) Apply(enter func() error) error {
	// Taken before, for the container's own /dev/null is whatever the pod mounted there.
	null, err := unix.OpenTree(unix.AT_FDCWD, os.DevNull, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("protect the kernel's files from a container: %w", err)
	}
	defer unix.Close(null)
	if err := enter(); err != nil {
		return err
	}
	for _, path := range p.ReadOnly {
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = setAttributes(path, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE)
		}
		if err != nil {
			return fmt.Errorf("make %s read-only to a container: %w", path, err)
		}
	}
	cover := "" // where /dev/null is already
	for _, path := range p.Masked {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		switch {
		case err != nil:
		case info.IsDir():
			err = unix.Mount("masked", path, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k")
		case cover == "":
			err = unix.MoveMount(null, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
			cover = path
		default:
			err = unix.Mount(cover, path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("hide %s from a container: %w", path, err)
		}
	}
	return nil
}
