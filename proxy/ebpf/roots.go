package ebpf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultCgroup opens the root of the cgroup v2 hierarchy. In a mount namespace without one, as `ip netns exec`
// makes them, it is a mount that nobody else sees and that goes when it is closed.
func defaultCgroup() (path string, keep *os.File, err error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", nil, fmt.Errorf("looking for cgroups: %w", err)
	}
	if found, ok := cgroupRoot(string(mounts)); ok {
		return found, nil, nil
	}
	if keep, err = detachedCgroup(); err != nil {
		return "", nil, fmt.Errorf("no cgroup v2 hierarchy is mounted: `mount -t cgroup2 none /sys/fs/cgroup`, or name a folder with --cgroup: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", keep.Fd()), keep, nil
}

// cgroupID is the kernel's number of a cgroup: that of its folder.
func cgroupID(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, fmt.Errorf("looking at cgroup %s: %w", path, err)
	}
	return stat.Ino, nil
}

// inCgroup says whether this process is in a cgroup or below it; it is an error that says so when it is not. Where the
// hierarchy cannot be seen nothing is said.
func inCgroup(cgroup string) error {
	want, err := cgroupID(cgroup)
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	root, ok := cgroupRoot(string(mounts))
	own, err := os.ReadFile("/proc/self/cgroup")
	if !ok || err != nil {
		return nil
	}
	for line := range strings.Lines(string(own)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::") // version 2
		if !ok {
			continue
		}
		for dir := filepath.Join(root, path); ; dir = filepath.Dir(dir) {
			if id, err := cgroupID(dir); err != nil || id == want {
				return nil
			}
			if dir == filepath.Clean(root) {
				return fmt.Errorf("this process is in cgroup %s, which is not in %s: programs that are attached there are not in its path", path, cgroup)
			}
		}
	}
	return nil
}

func detachedCgroup() (*os.File, error) {
	context, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening the cgroup2 file system: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("making a view of the cgroup2 file system: %w", err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mounting the cgroup2 file system: %w", err)
	}
	return os.NewFile(uintptr(mount), "cgroup2"), nil
}
