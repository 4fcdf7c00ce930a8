package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/process"
)

// NetnsDir is where ip-netns(8) looks for named network namespaces.
const NetnsDir = "/run/netns"

// Options say which namespaces a pod shares with the server instead of having its own.
type Options struct {
	Hostname string // of the pod's own UTS namespace
	HostNet  bool   // share network and UTS namespaces
	HostIPC  bool   // share the IPC namespace
	// Users are the users of a user namespace of the pod's own, to which the others belong; nil: the server's.
	Users *process.IDs
}

// Namespaces are open files of a pod's namespaces; they live as long as somebody holds a file, a process or
// a mount of them.
type Namespaces struct {
	Net, UTS, IPC *os.File
	User          *os.File // nil: the server's
}

// NewNamespaces makes the namespaces of a pod, loopback up, or opens the server's where they are shared.
func NewNamespaces(o Options) (*Namespaces, error) {
	n := &Namespaces{}
	err := process.OnThread(func() error {
		if o.Users != nil {
			return n.makeInside(o)
		}
		flags := 0
		if !o.HostNet {
			flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
		}
		if !o.HostIPC {
			flags |= unix.CLONE_NEWIPC
		}
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("make namespaces: %w (svcplane needs to run as root)", err)
		}
		if !o.HostNet {
			if err := o.prepare(); err != nil {
				return err
			}
		}
		return n.open("/proc/thread-self/ns")
	})
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// prepare sets up the new namespaces that the calling thread is in.
func (o Options) prepare() error {
	if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
		return fmt.Errorf("set the hostname %q: %w", o.Hostname, err)
	}
	return setupLoopback()
}

// makeInside makes a user namespace, and the others in it.
func (n *Namespaces) makeInside(o Options) error {
	if o.HostNet || o.HostIPC {
		return errors.New("a pod with a user namespace of its own can't have the host's network or IPC namespace")
	}
	pid, release, err := process.HoldNamespaces(unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC, *o.Users)
	if err != nil {
		return err
	}
	defer release()
	paths := process.NamespacesOf(pid)
	paths.User = fmt.Sprintf("/proc/%d/ns/user", pid)
	if err := n.openAll(paths); err != nil {
		return err
	}
	if err := (process.Namespaces{Net: paths.Net, UTS: paths.UTS}).Enter(); err != nil {
		return err
	}
	return o.prepare()
}

// OpenNamespaces opens the namespaces at the given paths.
func OpenNamespaces(paths process.Namespaces) (*Namespaces, error) {
	n := &Namespaces{}
	if err := n.openAll(paths); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Namespaces) open(dir string) error {
	return n.openAll(process.Namespaces{Net: dir + "/net", UTS: dir + "/uts", IPC: dir + "/ipc"})
}

func (n *Namespaces) openAll(paths process.Namespaces) error {
	for _, f := range []struct {
		file **os.File
		path string
	}{{&n.Net, paths.Net}, {&n.UTS, paths.UTS}, {&n.IPC, paths.IPC}, {&n.User, paths.User}} {
		if f.file == &n.User && f.path == "" {
			continue
		}
		if err := checkNamespace(f.path); err != nil {
			return err
		}
		file, err := os.Open(f.path)
		if err != nil {
			return fmt.Errorf("open a namespace: %w", err)
		}
		*f.file = file
	}
	return nil
}

// Paths name the namespaces, for as long as the files are open, to any process of the machine.
func (n *Namespaces) Paths() process.Namespaces {
	path := func(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }
	paths := process.Namespaces{Net: path(n.Net), UTS: path(n.UTS), IPC: path(n.IPC)}
	if n.User != nil {
		paths.User = path(n.User)
	}
	return paths
}

// Close lets go of the files.
func (n *Namespaces) Close() {
	for _, f := range []*os.File{n.Net, n.UTS, n.IPC, n.User} {
		if f != nil {
			f.Close()
		}
	}
}

// Publish makes the network namespace known to ip-netns(8) under the name, in this mount namespace, unless
// it is.
func (n *Namespaces) Publish(name string) error {
	if same, err := sameFile(n.Net, filepath.Join(NetnsDir, name)); err == nil && same {
		return nil
	}
	if err := os.MkdirAll(NetnsDir, 0o755); err != nil {
		return fmt.Errorf("publish network namespace %s: %w", name, err)
	}
	return bindNamespace(n.Net, filepath.Join(NetnsDir, name))
}

// sameFile says whether path is what the file is open on.
func sameFile(f *os.File, path string) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("look at a namespace: %w", err)
	}
	named, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("look at a namespace: %w", err)
	}
	return os.SameFile(open, named), nil
}

// bindNamespace mounts a namespace on a file, which keeps it alive.
func bindNamespace(ns *os.File, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("keep a namespace: %w", err)
	}
	f.Close()
	source := fmt.Sprintf("/proc/self/fd/%d", ns.Fd())
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("keep a namespace at %s: %w", path, err)
	}
	return nil
}

// Unpublish takes the name of a network namespace away; that there is none is no error.
func Unpublish(name string) error {
	return unbindNamespace(filepath.Join(NetnsDir, name))
}

// unbindNamespace removes the mount and the file of bindNamespace, however often it was mounted.
func unbindNamespace(path string) error {
	for range 16 {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount namespace %s: %w", path, err)
		}
	}
	// Where the mount is in another mount namespace, the file is ours to remove all the same (Linux 3.18).
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace file: %w", err)
	}
	return nil
}

// checkNamespace refuses a path that is no namespace, such as the empty file a lost mount leaves.
func checkNamespace(path string) error {
	var fsinfo unix.Statfs_t
	if err := unix.Statfs(path, &fsinfo); err != nil {
		return &os.PathError{Op: "open namespace", Path: path, Err: err}
	}
	if fsinfo.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("open namespace %s: it is not a namespace", path)
	}
	return nil
}
