package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// imageRoot mounts an image's layers and the minimal system directories, and makes that b.root.
func (b *builder) imageRoot() error {
	image := b.spec.Image
	upper, work := filepath.Join(image.Dir, "upper"), filepath.Join(image.Dir, "work")
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return fmt.Errorf("prepare the container's root: %w", err)
	}
	if err := b.imageFiles(image.Layers, upper, work); err != nil {
		return err
	}
	b.cover(b.root, true)
	return b.systemDirs()
}

// imageFiles mounts what is in an image, and what the container writes over it.
func (b *builder) imageFiles(layers []string, upper, work string) error {
	if len(layers) > 0 {
		if err := b.give(upper); err != nil { // its owner is the root's
			return err
		}
		lower, err := b.mappedAll(layers)
		if err != nil {
			return err
		}
		slices.Reverse(lower) // overlayfs wants the topmost first
		return b.mountOverlay(lower, upper, work, b.root)
	}
	if err := b.showCopy(upper); err != nil {
		return fmt.Errorf("show a copy of the image: %w", err)
	}
	if !b.spec.NoDevices {
		return nil
	}
	if err := unix.Mount("", b.root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("show a copy of the image without devices: %w", err)
	}
	return nil
}

func (b *builder) showCopy(dir string) error {
	if b.spec.Users == nil {
		return unix.Mount(dir, b.root, "", unix.MS_BIND, "")
	}
	copied, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer copied.Close()
	return b.bindMapped(copied, b.root)
}

// systemDirs mounts what a root of its own has from the kernel and not from files.
func (b *builder) systemDirs() error {
	for _, m := range systemMounts {
		target, err := b.directory(m.target)
		if err != nil {
			return err
		}
		if err := unix.Mount(m.source, target, m.kind, m.flags, b.options(m)); err != nil {
			return fmt.Errorf("mount %s of a container: %w", m.target, err)
		}
		if b.spec.Privileged || m.restrict == 0 {
			continue
		}
		if err := setAttributes(target, m.restrict, 0); err != nil {
			return err
		}
	}
	return b.devices()
}

// directory resolves a directory in the container's root and makes it if it is missing.
func (b *builder) directory(path string) (string, error) {
	target, _, err := resolve(b.root, path)
	if err != nil {
		return "", err
	}
	if err := b.mkdirAll(target); err != nil {
		return "", fmt.Errorf("make %s in a container: %w", path, err)
	}
	return target, nil
}

type systemMount struct {
	target, source, kind string
	flags                uintptr
	options              string
	// restrict are attributes that the mount does not have in a privileged container. They are the mount's own: flags of mount(2)
	// are sysfs' for the whole pod.
	restrict uint64
}

// systemMounts are what the OCI runtime specification (config-linux.md, default filesystems) lists. /proc
// is first the host's: the container's init covers it if it has a PID namespace of its own.
var systemMounts = []systemMount{
	{"/proc", "/proc", "", unix.MS_BIND | unix.MS_REC, "", 0},
	{"/sys", "sysfs", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", unix.MOUNT_ATTR_RDONLY},
	{"/dev", "tmpfs", "tmpfs", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=755,size=64k", unix.MOUNT_ATTR_NODEV},
	{"/dev/pts", "devpts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5", 0},
	{"/dev/shm", "shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=1777,size=64m", 0},
	{"/dev/mqueue", "mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", 0},
}

// devices fills /dev with the host's devices (bind mounts, which work where mknod is forbidden, and open although
// nodes on /dev itself do not) and links.
func (b *builder) devices() error {
	dev := filepath.Join(b.root, "dev")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		f, err := os.OpenFile(filepath.Join(dev, name), os.O_CREATE|os.O_RDONLY, 0o666)
		if err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		f.Close()
		if err := unix.Mount("/dev/"+name, f.Name(), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount /dev/%s: %w", name, err)
		}
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"core": "/proc/kcore",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("link /dev/%s: %w", name, err)
		}
	}
	if b.spec.Privileged {
		return hostDevices("/dev", dev)
	}
	return nil
}

// hostDevices makes the host's device nodes in a privileged container's /dev, without those of file systems of its own.
func hostDevices(host, dev string) error {
	return filepath.WalkDir(host, func(path string, entry fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(host, path)
		if err != nil || relErr != nil {
			return errors.Join(err, relErr)
		}
		switch name {
		case "pts", "shm", "mqueue", ".udev":
			return fs.SkipDir
		case "console": // the host's own
			return nil
		}
		if entry.Type()&fs.ModeDevice == 0 {
			return nil
		}
		var at unix.Stat_t
		if err := unix.Lstat(path, &at); errors.Is(err, fs.ErrNotExist) {
			return nil // it was pulled out meanwhile
		} else if err != nil {
			return fmt.Errorf("look at the device %s: %w", path, err)
		}
		to := filepath.Join(dev, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		switch err := unix.Mknod(to, at.Mode, int(at.Rdev)); {
		case errors.Is(err, fs.ErrExist):
			return nil
		case err != nil:
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		if err := errors.Join(os.Chown(to, int(at.Uid), int(at.Gid)), unix.Chmod(to, at.Mode&0o7777)); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		return nil
	})
}
