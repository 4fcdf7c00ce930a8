package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// remove ends what is left in it first: a process of a container that shares the host's processes may have gone its own way.
func (s System) remove(path string) error {
	var errs []error
	s.kill(path)
	for _, root := range s.roots() {
		if err := cgroups.RemovePath(filepath.Join(root, path)); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

// kill ends the processes in a cgroup and below. On version 1 a thread of a process that starts another one may be in it, too:
// that process is none of its own.
func (s System) kill(path string) {
	for _, root := range s.roots() {
		file := "tasks"
		if root == s.Unified {
			file = "cgroup.procs"
		}
		raw, err := os.ReadFile(filepath.Join(root, path, file))
		if err != nil {
			continue // it is not there
		}
		for text := range strings.FieldsSeq(string(raw)) {
			if pid, err := strconv.Atoi(text); err == nil && leads(pid) {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
		}
	}
	for _, child := range s.children(path) {
		if child != serverLeaf {
			s.kill(filepath.Join(path, child))
		}
	}
}

// leads says whether a number is a process's, and not a thread's.
func leads(pid int) bool {
	group, err := keyed(fmt.Sprintf("/proc/%d/status", pid), "Tgid:")
	return err == nil && group == int64(pid) && pid != os.Getpid()
}

// Sweep removes pods' cgroups, and containers' in them, that keep does not know: what a crash has left.
func (t *Tree) Sweep(keep func(path string) bool) error {
	var errs []error
	for _, class := range []string{"", "burstable", "besteffort"} {
		above := path.Join(t.top, Kubepods, class)
		for _, pod := range t.children(above) {
			if !strings.HasPrefix(pod, PodPrefix) {
				continue
			}
			at := path.Join(above, pod)
			if !keep(at) {
				errs = append(errs, t.Remove(at))
				continue
			}
			for _, c := range t.children(at) {
				if one := path.Join(at, c); !keep(one) {
					errs = append(errs, t.Remove(one))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Cleanup removes trees that a data directory has had. Their processes must have ended.
func Cleanup(dataDir string, tops ...string) error {
	s, err := Find()
	if err != nil {
		return err
	}
	var errs []error
	for _, top := range append(tops, "/"+name(dataDir)) {
		if path.Base(top) == name(dataDir) {
			errs = append(errs, s.remove(top))
		}
	}
	return errors.Join(errs...)
}
