package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/process"
)

// Mount is a file or directory of the host, or of an image, shown in the container.
type Mount struct {
	Source      string   `json:"source"`            // of an image only its name, for people
	Layers      []string `json:"layers,omitempty"`  // of an image: unpacked layers, lowest first
	SubPath     string   `json:"subPath,omitempty"` // within the image
	Target      string   `json:"target"`
	ReadOnly    bool     `json:"readOnly,omitempty"`
	Optional    bool     `json:"optional,omitempty"`    // left out where a volume leaves no place for it
	Propagation string   `json:"propagation,omitempty"` // "", "HostToContainer", "Bidirectional"
}

// Image is the root of a container that has its own.
type Image struct {
	Layers []string `json:"layers"` // unpacked layers, lowest first; none: upper has a copy of the image already
	Dir    string   `json:"dir"`    // existing directory of the container, gets upper and work
}

// Spec is a container's file system. With neither Image nor View the root is the host's.
type Spec struct {
	Image     *Image  `json:"image,omitempty"`
	View      *View   `json:"view,omitempty"`
	Mounts    []Mount `json:"mounts,omitempty"`
	ReadOnly  bool    `json:"readOnly,omitempty"`  // the root itself
	NoDevices bool    `json:"noDevices,omitempty"` // device nodes that the container or a volume holds do not open
	// Privileged: an image's root has the host's devices, and /sys can be written.
	Privileged bool   `json:"privileged,omitempty"`
	WorkDir    string `json:"workDir,omitempty"` // made in the container's own files where it is missing
	// Users are the numbers of the container's users on the host, if it has a user namespace of its own. Files in images and
	// volumes are then shown by the numbers that the container has for their owners. The namespace is UserNS.
	Users  *process.IDs `json:"users,omitempty"`
	UserNS *os.File     `json:"-"`
	Stage  string       `json:"stage"` // existing, empty directory to mount on within the namespace
}

// Build makes the file system in a new mount namespace of the calling thread (within process.OnThread) and
// makes it the thread's root. /proc is left to the process that will see it. On an error the thread has to
// be thrown away.
func (s Spec) Build() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// As a slave, what the host mounts later is seen, and nothing of ours is seen by the host.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	b := &builder{spec: s, root: filepath.Join(s.Stage, "root")}
	if err := b.prepareRoot(); err != nil {
		return err
	}
	sources, err := b.openSources(s.Mounts)
	defer closeAll(sources)
	if err != nil {
		return err
	}
	for _, i := range outerFirst(s.Mounts) {
		m := s.Mounts[i]
		if err := b.mount(sources[i], m); err != nil && !(m.Optional && noPlace(err)) {
			return fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
		}
	}
	return b.finish()
}

// prepareRoot puts the root together aside, in our own tmpfs: what is mounted in it later covers nothing that the
// building itself still needs, wherever the data directory lies.
func (b *builder) prepareRoot() error {
	make := b.hostRoot
	switch {
	case b.spec.Image != nil:
		make = b.imageRoot
	case b.spec.View != nil:
		make = b.viewRoot
	}
	// The host's tree is taken before the tmpfs is there, so that a container does not see it.
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("copy the host's mounts: %w", err)
	}
	b.host = os.NewFile(uintptr(tree), "/")
	defer b.host.Close()
	if err := unix.Mount("svcplane", b.spec.Stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=64m"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", b.spec.Stage, err)
	}
	if err := os.Mkdir(b.root, 0o755); err != nil {
		return fmt.Errorf("prepare the container's root: %w", err)
	}
	return make()
}

// hostRoot shows the host's own files.
func (b *builder) hostRoot() error {
	if err := unix.MoveMount(int(b.host.Fd()), "", unix.AT_FDCWD, b.root, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("show the host's files to the container: %w", err)
	}
	b.cover(b.root, false)
	return nil
}

// outerFirst gives the order of mounts: /a before /a/b, whatever the order in the pod; else as listed.
func outerFirst(mounts []Mount) []int {
	order := make([]int, len(mounts))
	for i := range order {
		order[i] = i
	}
	depth := func(i int) int { return strings.Count(filepath.Clean("/"+mounts[i].Target), "/") }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(depth(a), depth(b)) })
	return order
}

// builder is one Build under way.
type builder struct {
	spec     Spec
	root     string     // where the container's root is in the thread's view
	host     *os.File   // a copy of the host's mounts, until it is placed
	covers   []coverage // the newest last
	overlays []string   // that were put over the host's directories to make mount points in
	stages   int
}

// coverage says whose files are at a path and below it, as far as no later one covers them.
type coverage struct {
	path string
	ours bool // directories may be made there: it is not the host's
}

func (b *builder) cover(path string, ours bool) {
	b.covers = append(b.covers, coverage{path, ours})
}

// finish makes b.root the thread's root.
func (b *builder) finish() error {
	if err := b.workDir(); err != nil {
		return err
	}
	if b.spec.ReadOnly {
		for _, path := range append(b.overlays, b.root) {
			if err := remountReadOnly(path); err != nil {
				return err
			}
		}
	}
	return enter(b.root)
}

// enter makes a mount point the root of the thread and of its mount namespace.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("enter the container's root: %w", err)
	}
	// pivot_root(2): with the same directory for both, the old root ends up mounted over the new one.
	err := unix.PivotRoot(".", ".")
	switch {
	case errors.Is(err, unix.EINVAL):
		err = moveOver(root)
	case err == nil:
		err = detach(".")
	}
	if err != nil {
		return fmt.Errorf("make %s the container's root: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("enter the container's root: %w", err)
	}
	return nil
}

// moveOver is for machines that run from their initial ramfs, which can't be pivoted: the root is moved over /.
func moveOver(root string) error {
	if err := unix.Mount(root, "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return unix.Chroot(".")
}

// workDir makes the working directory as other runtimes do, never on the host and only where that works: the start
// of the process says what is wrong otherwise.
func (b *builder) workDir() error {
	if b.spec.WorkDir == "" {
		return nil
	}
	target, exists, err := resolve(b.root, b.spec.WorkDir)
	if err != nil {
		return err
	}
	if !exists && b.writable(target) {
		_ = b.mkdirAll(target)
	}
	return nil
}

// stage makes a fresh directory in our tmpfs.
func (b *builder) stage(name string) (string, error) {
	b.stages++
	dir := filepath.Join(b.spec.Stage, fmt.Sprintf("%d-%s", b.stages, name))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("prepare a mount: %w", err)
	}
	return dir, nil
}

func detach(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the mount at %s: %w", path, err)
	}
	return nil
}

// remountReadOnly makes one mount (not those below it) read-only, keeping its other flags.
func remountReadOnly(path string) error { return setAttributes(path, unix.MOUNT_ATTR_RDONLY, 0) }

// setAttributes adds attributes to a mount; with unix.AT_RECURSIVE also to those below it.
func setAttributes(path string, set uint64, flags uint) error {
	if err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: set}); err != nil {
		return fmt.Errorf("restrict the mount at %s: %w", path, err)
	}
	return nil
}
