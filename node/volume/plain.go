package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func setupEmptyDir(dir string, src *corev1.EmptyDirVolumeSource, gid *int64) error {
	switch src.Medium {
	case corev1.StorageMediumDefault, corev1.StorageMediumMemory:
	default:
		return fmt.Errorf("emptyDir medium %q is not offered by this node; use \"\" or \"Memory\"", src.Medium)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if src.Medium == corev1.StorageMediumMemory {
		if err := mountTmpfs(dir, src); err != nil {
			return err
		}
	}
	mode := fs.FileMode(0o777) // any user of the pod may write (Kubernetes: emptyDir)
	if gid != nil {
		if err := os.Chown(dir, -1, int(*gid)); err != nil {
			return err
		}
		mode |= fs.ModeSetgid
	}
	return os.Chmod(dir, mode)
}

func mountTmpfs(dir string, src *corev1.EmptyDirVolumeSource) error {
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	options := ""
	if src.SizeLimit != nil && !src.SizeLimit.IsZero() {
		options = fmt.Sprintf("size=%d", src.SizeLimit.Value())
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mounting memory at %s: %w", dir, err)
	}
	return nil
}

func isMountPoint(dir string) (bool, error) {
	var self, parent unix.Stat_t
	if err := unix.Lstat(dir, &self); err != nil {
		return false, fmt.Errorf("looking at %s: %w", dir, err)
	}
	if err := unix.Lstat(filepath.Dir(dir), &parent); err != nil {
		return false, fmt.Errorf("looking at %s: %w", filepath.Dir(dir), err)
	}
	return self.Dev != parent.Dev, nil
}

// Remove deletes a directory of volumes and unmounts what is mounted below it, deepest first. It never
// deletes through a mount.
func Remove(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing volumes at %s: %w", dir, err)
	}
	return nil
}

func unmountBelow(dir string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("reading what is mounted: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		// proc(5): the fifth field is the mount point, with octal escapes for space and the like
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(unescape(fields[4])+"/", dir+"/") {
			points = append(points, unescape(fields[4]))
		}
	}
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", points[i], err)
		}
	}
	return nil
}

func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// checkHostPath holds spec.volumes.hostPath.type.
func checkHostPath(src *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	info, err := os.Stat(src.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	switch {
	case kind == corev1.HostPathUnset && missing:
		return os.MkdirAll(src.Path, 0o755)
	case kind == corev1.HostPathUnset:
		return nil
	case kind == corev1.HostPathDirectoryOrCreate && missing:
		return os.MkdirAll(src.Path, 0o755)
	case kind == corev1.HostPathFileOrCreate && missing:
		f, err := os.OpenFile(src.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return fmt.Errorf("hostPath type check failed: %w", err)
		}
		return f.Close()
	case missing:
		return fmt.Errorf("hostPath type check failed: %s does not exist; make it, or use type DirectoryOrCreate or FileOrCreate", src.Path)
	}
	return hostPathIs(src.Path, info.Mode(), kind)
}

func hostPathIs(path string, mode fs.FileMode, kind corev1.HostPathType) error {
	ok, what := false, ""
	switch kind {
	case corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory:
		ok, what = mode.IsDir(), "a directory"
	case corev1.HostPathFileOrCreate, corev1.HostPathFile:
		ok, what = mode.IsRegular(), "a file"
	case corev1.HostPathSocket:
		ok, what = mode&fs.ModeSocket != 0, "a socket file"
	case corev1.HostPathCharDev:
		ok, what = mode&fs.ModeCharDevice != 0, "a character device"
	case corev1.HostPathBlockDev:
		ok, what = mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0, "a block device"
	default:
		return fmt.Errorf("hostPath type check failed: %q is no type of hostPath", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, what)
	}
	return nil
}
