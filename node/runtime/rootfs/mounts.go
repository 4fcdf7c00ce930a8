package rootfs

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// openSources opens what is to be mounted. Images are put together first, in our own tmpfs.
func (b *builder) openSources(mounts []Mount) ([]*os.File, error) {
	var paths []string
	for _, m := range mounts {
		path := m.Source
		if len(m.Layers) > 0 {
			var err error
			if path, err = b.image(m); err != nil {
				return nil, fmt.Errorf("mount image %s on %s: %w", m.Source, m.Target, err)
			}
		}
		paths = append(paths, path)
	}
	return openAll(paths)
}

// image mounts an image's layers aside, read-only, and gives where the part to be shown is.
func (b *builder) image(m Mount) (string, error) {
	layers, err := b.mappedAll(m.Layers)
	if err != nil {
		return "", err
	}
	root := layers[0]
	if len(layers) > 1 { // overlayfs wants two at least
		if root, err = b.stage("image"); err != nil {
			return "", err
		}
		slices.Reverse(layers)
		if err := b.mountOverlay(layers, "", "", root); err != nil {
			return "", err
		}
	}
	path, exists, err := resolve(root, m.SubPath)
	if err == nil && !exists {
		err = fmt.Errorf("the image has no %s", m.SubPath)
	}
	return path, err
}

func openAll(paths []string) ([]*os.File, error) {
	var files []*os.File
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return files, &os.PathError{Op: "open mount source", Path: path, Err: err}
		}
		files = append(files, os.NewFile(uintptr(fd), path))
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// mount binds source on the target, which is made where it is missing.
func (b *builder) mount(source *os.File, m Mount) error {
	info, err := source.Stat()
	if err != nil {
		return fmt.Errorf("look at the source: %w", err)
	}
	target, exists, err := resolve(b.root, m.Target)
	if err != nil {
		return err
	}
	if err := b.allowed(target); err != nil {
		return err
	}
	if !exists {
		if err = b.make(target, info.IsDir()); err != nil {
			return err
		}
	}
	if len(m.Layers) == 0 && b.spec.Users != nil {
		err = b.bindMapped(source, target)
	} else {
		err = bind(source, target)
	}
	if err != nil {
		return err
	}
	b.cover(target, true)
	if err := propagate(target, m.Propagation); err != nil {
		return err
	}
	if b.spec.NoDevices {
		if err := setAttributes(target, unix.MOUNT_ATTR_NODEV, unix.AT_RECURSIVE); err != nil {
			return err
		}
	}
	if len(m.Layers) > 0 {
		return setAttributes(target, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC, 0) // KEP-4639
	}
	if m.ReadOnly {
		return remountReadOnly(target)
	}
	return nil
}

// allowed refuses the places whose files the container can't do without.
func (b *builder) allowed(target string) error {
	proc := filepath.Join(b.root, "proc")
	switch {
	case target == b.root:
		return errors.New("a volume can't take the place of the whole root: choose a mountPath below it")
	case target == proc || strings.HasPrefix(target, proc+"/"):
		return errors.New("the kernel's /proc can't be covered: choose another mountPath")
	}
	return nil
}

// noPlace says that a mount point can't be made, or is of the other kind, where a volume is.
func noPlace(err error) bool { return errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOTDIR) }

func bind(source *os.File, target string) error {
	from := fmt.Sprintf("/proc/thread-self/fd/%d", source.Fd())
	if err := unix.Mount(from, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", source.Name(), target, err)
	}
	return nil
}

func propagate(target, mode string) error {
	switch mode {
	case "":
		return setPropagation(target, unix.MS_PRIVATE)
	case "HostToContainer":
		return nil // it is a slave already
	default:
		return fmt.Errorf("mount propagation %s is not supported here; use None or HostToContainer", mode)
	}
}

func setPropagation(target string, kind uintptr) error {
	if err := unix.Mount("", target, "", kind|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("set the propagation of %s: %w", target, err)
	}
	return nil
}

// make creates a missing target. Where it would land in the host's folders, an overlay is put over the nearest
// existing one first.
func (b *builder) make(target string, dir bool) error {
	ancestor := filepath.Dir(target)
	for !isDir(ancestor) && ancestor != b.root {
		ancestor = filepath.Dir(ancestor)
	}
	if !b.writable(ancestor) {
		if err := b.overlay(ancestor); err != nil {
			return err
		}
	}
	parent := target
	if !dir {
		parent = filepath.Dir(target)
	}
	if err := b.mkdirAll(parent); err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	if dir {
		return nil
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	return f.Close()
}

// writable says whether path lies on something of ours.
func (b *builder) writable(path string) bool {
	for _, c := range slices.Backward(b.covers) {
		if path == c.path || strings.HasPrefix(path, c.path+"/") {
			return c.ours
		}
	}
	return false
}

// overlay puts a writable overlay over a directory of the host, with the mounts below it kept.
func (b *builder) overlay(dir string) error {
	stage, err := b.stage("overlay")
	if err != nil {
		return err
	}
	upper, work := stage+"/upper", stage+"/work"
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return fmt.Errorf("prepare an overlay: %w", err)
	}
	if err := copyMode(dir, upper); err != nil {
		return err
	}
	below, err := submounts(dir)
	if err != nil {
		return err
	}
	kept, err := openAll(below)
	defer closeAll(kept)
	if err != nil {
		return err
	}
	if err := b.mountOverlay([]string{dir}, upper, work, dir); err != nil {
		return err
	}
	b.overlays = append(b.overlays, dir)
	ours := make([]bool, len(below))
	for i, path := range below {
		ours[i] = b.writable(path)
	}
	b.cover(dir, true)
	for i, path := range below {
		if err := bind(kept[i], path); err != nil {
			return err
		}
		b.cover(path, ours[i])
	}
	return nil
}

// mountOverlay puts layers, the topmost first, over each other; with neither upper nor work read-only.
func (b *builder) mountOverlay(lower []string, upper, work, target string) error {
	options := overlayOptions(lower, upper, work)
	if len(options) >= os.Getpagesize() { // which is all that mount(2) takes
		files, err := openAll(lower)
		defer closeAll(files)
		if err != nil {
			return err
		}
		var short []string
		for _, f := range files {
			short = append(short, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		}
		options = overlayOptions(short, upper, work)
	}
	var flags uintptr
	if b.spec.NoDevices {
		flags |= unix.MS_NODEV
	}
	if b.spec.View != nil {
		flags |= unix.MS_NOSUID
	}
	if err := unix.Mount("overlay", target, "overlay", flags, options); err != nil {
		return fmt.Errorf("mount an overlay of %s: %w (does the kernel have overlayfs?)", strings.Join(lower, ", "), err)
	}
	return nil
}

func overlayOptions(lower []string, upper, work string) string {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	var layers []string
	for _, l := range lower {
		layers = append(layers, escape.Replace(l))
	}
	options := "lowerdir=" + strings.Join(layers, ":")
	if upper != "" {
		options += ",upperdir=" + escape.Replace(upper) + ",workdir=" + escape.Replace(work)
	}
	return options
}

// submounts lists the mount points below dir, outermost only: a recursive bind carries the inner ones.
func submounts(dir string) ([]string, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	prefix := strings.TrimSuffix(dir, "/") + "/"
	var points []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := unescape(fields[4]); strings.HasPrefix(point, prefix) && point != dir {
			points = append(points, point)
		}
	}
	slices.Sort(points)
	var outer []string
	for _, point := range points {
		if n := len(outer); n > 0 && (point == outer[n-1] || strings.HasPrefix(point, outer[n-1]+"/")) {
			continue
		}
		// A mount that another one hides can't be reached by its path, and need not be.
		if _, err := os.Lstat(point); err == nil {
			outer = append(outer, point)
		}
	}
	return outer, lines.Err()
}

// unescape undoes the octal escapes of proc_pid_mountinfo(5).
func unescape(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func copyMode(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("prepare an overlay: %w", err)
	}
	if err := os.Chmod(to, info.Mode().Perm()|info.Mode()&(fs.ModeSticky|fs.ModeSetgid)); err != nil {
		return fmt.Errorf("prepare an overlay: %w", err)
	}
	return nil
}
