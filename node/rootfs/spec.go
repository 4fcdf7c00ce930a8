package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mount is a file or directory of the host, or of an image, shown in the container.
type Mount struct {
	Source      string   `json:"source"`            // of an image only its name, for people
	Layers      []string `json:"layers,omitempty"`  // of an image: unpacked layers, lowest first
	SubPath     string   `json:"subPath,omitempty"` // within the image
	Target      string   `json:"target"`
	ReadOnly    bool     `json:"readOnly,omitempty"`
	Propagation string   `json:"propagation,omitempty"` // "", "HostToContainer", "Bidirectional"
}

// Image is the root of a container that has its own.
type Image struct {
	Layers []string `json:"layers"` // unpacked layers, lowest first
	Dir    string   `json:"dir"`    // existing directory of the container, gets upper and work
}

// Spec is a container's file system.
type Spec struct {
	Image    *Image  `json:"image,omitempty"` // nil: the host's root
	Mounts   []Mount `json:"mounts,omitempty"`
	ReadOnly bool    `json:"readOnly,omitempty"` // the root itself
	Stage    string  `json:"stage"`              // existing, empty directory to mount on within the namespace
	Hostname string  `json:"hostname,omitempty"`
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
	if err := unix.Mount("svcplane", s.Stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=64m"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", s.Stage, err)
	}
	b := &builder{spec: s, root: "/"}
	if s.Image != nil {
		if err := b.imageRoot(); err != nil {
			return err
		}
	}
	// Sources are opened before any mount of ours hides them.
	sources, err := b.openSources(s.Mounts)
	defer closeAll(sources)
	if err != nil {
		return err
	}
	for i, m := range s.Mounts {
		if err := b.mount(sources[i], m); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
		}
	}
	return b.finish()
}

// builder is one Build under way.
type builder struct {
	spec   Spec
	root   string   // where the container's root is in the thread's view
	ours   []string // mount points below which directories may be made: they are no longer the host's
	stages int
}

// finish makes b.root the thread's root.
func (b *builder) finish() error {
	if b.spec.ReadOnly {
		if err := b.readOnlyRoot(); err != nil {
			return err
		}
	}
	if b.root == "/" {
		return detach(b.spec.Stage)
	}
	if err := os.Chdir(b.root); err != nil {
		return fmt.Errorf("enter the container's root: %w", err)
	}
	// pivot_root(2): with the same directory for both, the old root ends up mounted over the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot to the container's root: %w", err)
	}
	if err := detach("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("enter the container's root: %w", err)
	}
	return nil
}

func (b *builder) readOnlyRoot() error {
	if b.root == "/" {
		return errors.New("readOnlyRootFilesystem: not possible for a container on the host's own root; use an imported image")
	}
	return remountReadOnly(b.root)
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
func remountReadOnly(path string) error { return setAttributes(path, unix.MOUNT_ATTR_RDONLY) }

func setAttributes(path string, set uint64) error {
	if err := unix.MountSetattr(unix.AT_FDCWD, path, 0, &unix.MountAttr{Attr_set: set}); err != nil {
		return fmt.Errorf("make %s read-only: %w", path, err)
	}
	return nil
}
