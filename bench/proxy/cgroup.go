package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroup is a threaded cgroup v2 below this process's own, for single threads of it: programs that are attached there
// meet the sockets of one contender and of nobody else.
type cgroup string

func newCgroup(name string) (cgroup, error) {
	own, err := ownCgroup()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(own, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.type"), []byte("threaded"), 0); err != nil {
		return "", errors.Join(fmt.Errorf("making %s threaded: %w", dir, err), os.Remove(dir))
	}
	return cgroup(dir), nil
}

// ownCgroup is the folder of this process in the cgroup v2 hierarchy.
func ownCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(own)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for mount := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(mount); ok && len(fields) > 2 && fields[2] == "cgroup2" {
				return filepath.Join(fields[1], path), nil
			}
		}
	}
	return "", errors.New("no cgroup v2 hierarchy is mounted: `mount -t cgroup2 none /sys/fs/cgroup`")
}

// join moves the calling thread, which must be locked, for good.
func (c cgroup) join() error {
	if c == "" {
		return nil
	}
	err := os.WriteFile(filepath.Join(string(c), "cgroup.threads"), fmt.Append(nil, unix.Gettid()), 0)
	if err != nil {
		return fmt.Errorf("joining the cgroup: %w", err)
	}
	return nil
}

func (c cgroup) remove() {
	if c != "" {
		_ = os.Remove(string(c))
	}
}
